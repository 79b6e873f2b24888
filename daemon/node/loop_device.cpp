#include "daemon/node/loop_device.hpp"

#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace storctl::node {
namespace {

Result<void> replace_link(const std::string& link, const std::string& target) {
    const mode_t mask = ::umask(022);  // consumers that are not root follow the link, whatever our own mask is
    auto made = make_directories(dir_name(link));
    ::umask(mask);
    if (!made) return made;
    const std::string temporary = fmt::format("{}.{}", link, ::getpid());
    ::unlink(temporary.c_str());
    if (::symlink(target.c_str(), temporary.c_str()) != 0 || ::rename(temporary.c_str(), link.c_str()) != 0) {
        Error error = errno_error(fmt::format("cannot set the link '{}'", link));
        ::unlink(temporary.c_str());
        return error;
    }
    return {};
}

}  // namespace

LoopDevice::LoopDevice(LoopDevice&&) noexcept = default;

LoopDevice::~LoopDevice() { detach(true); }

Result<LoopDevice> LoopDevice::attach(const Options& options) {
    const UniqueFd control = TRY(open_file("/dev/loop-control", O_RDWR));
    const UniqueFd file = TRY(open_file(options.file, (options.read_only ? O_RDONLY : O_RDWR) | O_DIRECT));
    loop_config config{};
    config.fd = static_cast<uint32_t>(file.get());
    config.block_size = options.block_bytes;
    config.info.lo_flags = LO_FLAGS_DIRECT_IO | (options.read_only ? LO_FLAGS_READ_ONLY : 0);
    std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), options.file.c_str(), LO_NAME_SIZE - 1);
    constexpr int attempts = 32;  // others take free loop devices too
    for (int attempt = 0; attempt < attempts; ++attempt) {
        const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0) return errno_error("cannot get a free loop device");
        LoopDevice device;
        device.path_ = fmt::format("/dev/loop{}", number);
        device.fd_.reset(::open(device.path_.c_str(), O_RDWR | O_CLOEXEC));
        if (device.fd_ && ::ioctl(device.fd_.get(), LOOP_CONFIGURE, &config) == 0) {
            TRY(replace_link(options.link, device.path_));
            device.link_ = options.link;
            return device;
        }
        const int error = errno;
        device.path_.clear();  // it is another's: not ours to detach
        const bool lost_to_another = error == EBUSY || error == ENXIO || error == ENOENT;
        if (!lost_to_another) {
            return errno_error(fmt::format("cannot attach /dev/loop{} to '{}' with direct I/O", number, options.file),
                               error);
        }
    }
    return make_error(std::errc::device_or_resource_busy, "no loop device stayed free long enough to be attached");
}

uint64_t LoopDevice::size_bytes() const {
    uint64_t bytes = 0;
    return ::ioctl(fd_.get(), BLKGETSIZE64, &bytes) == 0 ? bytes : 0;
}

Result<void> LoopDevice::refresh_size() const {
    if (::ioctl(fd_.get(), LOOP_SET_CAPACITY) != 0) return errno_error(fmt::format("cannot resize '{}'", path_));
    return {};
}

bool LoopDevice::detach(bool force) {
    if (!fd_ || path_.empty()) return true;
    // Our descriptor keeps a consumer's close from being the last one, which is when the kernel would write out what
    // the page cache still has; detaching throws it away.
    if (::fsync(fd_.get()) != 0) {
        log::warning("cannot write out '{}' before it is detached: {}", path_, errno_error("").message());
        if (!force) return false;
    }
    if (::ioctl(fd_.get(), LOOP_CLR_FD) != 0) log::warning("cannot detach '{}': {}", path_, errno_error("").message());
    // With other openers the kernel only marks it for their last close, and goes on answering for it; else it is gone.
    loop_info64 info{};
    const bool in_use = ::ioctl(fd_.get(), LOOP_GET_STATUS64, &info) == 0 && (info.lo_flags & LO_FLAGS_AUTOCLEAR) != 0;
    if (in_use && !force) {
        info.lo_flags &= ~static_cast<uint32_t>(LO_FLAGS_AUTOCLEAR);
        if (::ioctl(fd_.get(), LOOP_SET_STATUS64, &info) != 0) {
            log::warning("cannot keep '{}' attached: {}", path_, errno_error("").message());
        }
        return false;
    }
    if (!link_.empty() && read_link(link_) == path_) ::unlink(link_.c_str());
    fd_.reset();
    return !in_use;
}

}  // namespace storctl::node
