#include "daemon/instance_lock.hpp"

#include <chrono>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl {
namespace {

constexpr mode_t lock_mode = 0600;
// A stord that was killed keeps its lock until the kernel has taken it apart: its successor need not fail for that.
constexpr std::chrono::milliseconds patience{1000};
constexpr std::chrono::milliseconds attempt_interval{20};

bool lock(int file) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (::flock(file, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= deadline) return false;
        std::this_thread::sleep_for(attempt_interval);
    }
    return true;
}

/// "pid 123", or "unknown pid" while the holder has not written it yet.
std::string holder_of(const std::string& path) {
    const auto text = read_file(path, 64);
    const auto pid = text ? parse_unsigned(trim(*text), "pid") : Result<uint64_t>(text.error());
    return pid ? fmt::format("pid {}", *pid) : "unknown pid";
}

}  // namespace

Result<InstanceLock> InstanceLock::take(const std::string& directory, const std::string& purpose) {
    const std::string path = directory + "/stord.lock";
    UniqueFd file = TRY(open_file(path, O_RDWR | O_CREAT, lock_mode));
    if (!lock(file.get())) {
        if (errno != EWOULDBLOCK) return errno_error(fmt::format("cannot lock '{}'", path));
        return make_error(
            std::errc::device_or_resource_busy,
            fmt::format("another stord ({}) is using the {} '{}': stop it, or give this one directories of "
                        "its own with --state-dir and --run-dir",
                        holder_of(path), purpose, directory));
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    const bool written = ::ftruncate(file.get(), 0) == 0 &&
                         ::pwrite(file.get(), pid.data(), pid.size(), 0) == static_cast<ssize_t>(pid.size());
    if (!written) return errno_error(fmt::format("cannot write '{}'", path));
    return InstanceLock(std::move(file));
}

}  // namespace storctl
