#include "daemon/node/backing.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/node/blockers.hpp"

namespace storctl::node {
namespace {

constexpr uint32_t sector_bytes = 512;

/// What O_DIRECT transfers of this file must be aligned to; 0: the file system does not do O_DIRECT.
/// statx's STATX_DIOALIGN (6.1) knows; where it says nothing the preferred block is on the safe side.
uint32_t direct_alignment(int fd, const struct stat& status) {
#ifdef STATX_DIOALIGN
    struct statx extended {};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) == 0 && (extended.stx_mask & STATX_DIOALIGN) != 0) {
        return std::max(extended.stx_dio_mem_align, extended.stx_dio_offset_align);
    }
#endif
    return std::max<uint32_t>(sector_bytes, static_cast<uint32_t>(std::min<long>(status.st_blksize, 4096)));
}

Error in_use(const std::string& path, const std::vector<std::string>& holders) {
    return make_error(
        std::errc::device_or_resource_busy,
        fmt::format("'{}' is in use: {}", path, holders.empty() ? "by whom is not known" : join(holders, "; ")));
}

/// QEMU keeps bytes 100 to 299 of an image locked as long as it uses it (block/file-posix.c), and tests them before it
/// starts; a lock on the whole file meets both. An open file description's lock ends with our descriptor.
Result<void> lock_whole_file(int fd, const std::string& path, const struct stat& status, bool read_only) {
    struct flock lock {};
    lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
    if (errno != EAGAIN && errno != EACCES) return errno_error(fmt::format("cannot lock '{}'", path));
    return in_use(path, file_holders(status.st_dev, status.st_ino));
}

Result<void> check_size(const std::string& path, uint64_t size_bytes) {
    if (size_bytes == 0) {
        return make_error(std::errc::invalid_argument, fmt::format("'{}' is empty: a disk needs a size", path));
    }
    if (size_bytes % sector_bytes != 0) {
        return make_error(
            std::errc::invalid_argument,
            fmt::format("the size of '{}', {} bytes, is not a multiple of {}: extend it, for example with "
                        "'truncate -s {} {}'",
                        path, size_bytes, sector_bytes, (size_bytes / sector_bytes + 1) * sector_bytes, path));
    }
    return {};
}

}  // namespace

Result<Backing> Backing::open(const std::string& path, Options options) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return errno_error(fmt::format("cannot use '{}' as a backing", path));
    if (!S_ISBLK(status.st_mode) && !S_ISREG(status.st_mode)) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' is neither a block device nor a regular file", path));
    }
    Backing backing;
    backing.path_ = path;
    const bool device = S_ISBLK(status.st_mode);
    const int mode = (options.read_only ? O_RDONLY : O_RDWR) | (device ? O_EXCL : 0) | O_CLOEXEC;
    backing.fd_.reset(::open(path.c_str(), mode | O_DIRECT));
    if (!backing.fd_ && errno == EINVAL && !device) backing.fd_.reset(::open(path.c_str(), mode));
    if (!backing.fd_) {
        const int error = errno;
        // a mounted device may also be refused with EPERM (block devices whose mounts are protected from writers)
        auto holders =
            device && (error == EBUSY || error == EPERM) ? device_holders(status.st_rdev) : std::vector<std::string>{};
        if (error == EBUSY || !holders.empty()) return in_use(path, holders);
        return errno_error(fmt::format("cannot open '{}' for {}", path, options.read_only ? "reading" : "writing"),
                           error);
    }
    if (device) {
        TRY(backing.examine_device(options));
    } else {
        TRY(backing.examine_file(options));
    }
    TRY(check_size(path, backing.size_bytes_));
    return backing;
}

Result<void> Backing::examine_device(const Options& options) {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) return errno_error(fmt::format("cannot examine '{}'", path_));
    device_number_ = status.st_rdev;
    kind_ = major(device_number_) == LOOP_MAJOR ? BackingKind::loop : BackingKind::block;
    int block = 0, write_protected = 0;
    if (::ioctl(fd_.get(), BLKSSZGET, &block) != 0 || ::ioctl(fd_.get(), BLKROGET, &write_protected) != 0) {
        return errno_error(fmt::format("cannot ask '{}' for its geometry", path_));
    }
    if (write_protected != 0 && !options.read_only) {
        return make_error(std::errc::read_only_file_system,
                          fmt::format("'{}' is write-protected: create the node with --open read-only", path_));
    }
    logical_block_bytes_ = transfer_alignment_ = static_cast<uint32_t>(block);
    size_bytes_ = TRY(read_size());
    return {};
}

Result<void> Backing::examine_file(const Options& options) {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) return errno_error(fmt::format("cannot examine '{}'", path_));
    TRY(lock_whole_file(fd_.get(), path_, status, options.read_only));
    kind_ = BackingKind::file;
    size_bytes_ = static_cast<uint64_t>(status.st_size);
    const bool opened_direct = (::fcntl(fd_.get(), F_GETFL) & O_DIRECT) != 0;
    const uint32_t alignment = opened_direct ? direct_alignment(fd_.get(), status) : 0;
    if (alignment > 0 && size_bytes_ % alignment == 0) {
        transfer_alignment_ = alignment;
        return {};
    }
    log::warning("'{}' is used through the page cache: {}", path_,
                 alignment == 0 ? std::string("its file system does not do O_DIRECT")
                                : fmt::format("its size is not a multiple of {} bytes", alignment));
    if (opened_direct && ::fcntl(fd_.get(), F_SETFL, 0) != 0)
        return errno_error(fmt::format("cannot prepare '{}'", path_));
    return {};
}

Result<uint64_t> Backing::read_size() const {
    if (kind_ != BackingKind::file) {
        uint64_t bytes = 0;
        if (::ioctl(fd_.get(), BLKGETSIZE64, &bytes) != 0) {
            return errno_error(fmt::format("cannot ask '{}' for its size", path_));
        }
        return bytes;
    }
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) return errno_error(fmt::format("cannot examine '{}'", path_));
    return static_cast<uint64_t>(status.st_size);
}

bool Backing::present() const {
    if (kind_ == BackingKind::file) return true;
    const std::string entry = fmt::format("/sys/dev/block/{}:{}", major(device_number_), minor(device_number_));
    return ::access(entry.c_str(), F_OK) == 0;
}

}  // namespace storctl::node
