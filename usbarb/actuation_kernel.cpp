#include "usbarb/actuation_kernel.hpp"

#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/usbdevice_fs.h>
#include <linux/vfio.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl::usbarb {

Result<void> ActuationKernel::write_attribute(const std::string& path, const std::string& text) {
    const std::string what = fmt::format("cannot write '{}' to '{}'", trim(text), path);
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file) return errno_error(what);
    ssize_t written = 0;
    do {
        written = ::write(file.get(), text.data(), text.size());
    } while (written < 0 && errno == EINTR);
    if (written < 0) return errno_error(what);
    return {};
}

Result<UniqueFd> ActuationKernel::open_node(const std::string& devnode) { return open_file(devnode, O_RDWR); }

Result<void> ActuationKernel::restrict_to(int device, uint32_t interfaces) {
    if (::ioctl(device, USBDEVFS_DROP_PRIVILEGES, &interfaces) != 0) return errno_error("USBDEVFS_DROP_PRIVILEGES");
    return {};
}

Result<void> ActuationKernel::claim_port(int hub, uint8_t port) {
    unsigned int number = port;
    if (::ioctl(hub, USBDEVFS_CLAIM_PORT, &number) != 0) return errno_error("USBDEVFS_CLAIM_PORT");
    return {};
}

Result<void> ActuationKernel::release_port(int hub, uint8_t port) {
    unsigned int number = port;
    if (::ioctl(hub, USBDEVFS_RELEASE_PORT, &number) != 0) return errno_error("USBDEVFS_RELEASE_PORT");
    return {};
}

Result<void> ActuationKernel::load_module(const std::string& name) {
    const std::string what = fmt::format("cannot load the module {}", name);
    std::array<const char*, 4> arguments{"modprobe", "--quiet", name.c_str(), nullptr};
    pid_t pid = 0;
    if (const int error =
            ::posix_spawnp(&pid, arguments[0], nullptr, nullptr, const_cast<char* const*>(arguments.data()), environ);
        error != 0) {
        return errno_error(what + ": modprobe", error);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return errno_error(what);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    return make_error(
        std::errc{},
        what + fmt::format(": try 'modprobe {}', and name it in /etc/modules-load.d/ for every start", name));
}

Result<bool> ActuationKernel::group_viable(const std::string& devnode) {
    const UniqueFd group(::open(devnode.c_str(), O_RDWR | O_CLOEXEC));
    if (!group && errno == EBUSY) return true;  // one program at a time may have it, and it found it viable
    if (!group) return errno_error(fmt::format("cannot open '{}'", devnode));
    vfio_group_status status{.argsz = sizeof status, .flags = 0};
    if (::ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status) != 0) {
        return errno_error(fmt::format("cannot ask '{}' for its status", devnode));
    }
    return (status.flags & VFIO_GROUP_FLAGS_VIABLE) != 0;
}

std::string UndoList::run() {
    std::vector<std::string> failures;
    while (!steps_.empty()) {
        const auto step = std::move(steps_.back());
        steps_.pop_back();
        if (auto undone = step(); !undone) failures.push_back(undone.error().message());
    }
    if (failures.empty()) return "; everything was undone";
    return "; this could not be undone: " + join(failures, "; ");
}

bool path_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string bound_driver(const std::string& path) { return base_name(read_link(path + "/driver")); }

Outcome carry_out(const Job& job, std::vector<UniqueFd>& held, ActuationKernel& kernel) {
    switch (job.action) {
        case Action::detach:
            return detach_devices(job, kernel);
        case Action::attach:
            return attach_devices(job, held, kernel);
        case Action::hold_hub:
            return hold_hubs(job, held, kernel);
        case Action::configure:
            return configure_devices(job, kernel);
        case Action::free_port:
            return free_hub_port(job, held, kernel);
        case Action::open_device:
            return open_device(job, held, kernel);
        case Action::bind_vfio:
            return bind_to_vfio(job, kernel);
        case Action::return_functions:
            return return_to_host(job, kernel);
    }
    return {.message = "unknown action"};
}

Outcome carry_out(const Job& job, std::vector<UniqueFd>& held, const ActuationPaths& paths) {
    ActuationKernel kernel(paths);
    return carry_out(job, held, kernel);
}

}  // namespace storctl::usbarb
