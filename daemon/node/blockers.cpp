#include "daemon/node/blockers.hpp"

#include <functional>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "locality/sysfs_block.hpp"

namespace storctl::node {
namespace {

std::vector<std::string> processes_with(const std::function<bool(const struct stat&)>& matches) {
    std::vector<std::string> out;
    for (const std::string& pid : list_directory("/proc")) {
        if (pid.find_first_not_of("0123456789") != std::string::npos || pid == std::to_string(::getpid())) continue;
        const std::string folder = "/proc/" + pid + "/fd/";
        for (const std::string& fd : list_directory(folder)) {
            struct stat status {};
            if (::stat((folder + fd).c_str(), &status) != 0 || !matches(status)) continue;
            const std::string program = escape_unprintable(read_attribute("/proc/" + pid + "/comm"));
            out.push_back(fmt::format("open by '{}' (pid {})", program, pid));
            break;
        }
    }
    return out;
}

}  // namespace

std::vector<std::string> device_holders(dev_t device) {
    std::vector<std::string> holders =
        locality::who_uses({.major = major(device), .minor = minor(device)}).value_or(std::vector<std::string>{});
    for (std::string& process : processes_with(
             [device](const struct stat& status) { return S_ISBLK(status.st_mode) && status.st_rdev == device; })) {
        holders.push_back(std::move(process));
    }
    return holders;
}

std::vector<std::string> file_holders(dev_t device, ino_t inode) {
    return processes_with([device, inode](const struct stat& status) {
        return S_ISREG(status.st_mode) && status.st_dev == device && status.st_ino == inode;
    });
}

}  // namespace storctl::node
