#pragma once
// What stands behind a node: a block device (opened O_EXCL, so a mounted or otherwise held one is refused), a loop
// device or a regular file (guarded by a whole-file lock that QEMU's image locks respect). Blocking calls; any one
// thread.

#include <cstdint>
#include <string>

#include <sys/types.h>

#include "base/enum_text.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::node {

enum class BackingKind { block, loop, file };

class Backing {
 public:
    struct Options {
        bool read_only = false;
    };
    /// Errors: device_or_resource_busy names who holds it; invalid_argument: not a disk or file, or a size that is not
    /// a positive multiple of 512; read_only_file_system: a write-protected device asked for writing.
    static Result<Backing> open(const std::string& path, Options options);

    int fd() const { return fd_.get(); }
    const std::string& path() const { return path_; }
    BackingKind kind() const { return kind_; }
    uint64_t size_bytes() const { return size_bytes_; }
    /// The logical block of the device; for a file 512, what guests expect of an image.
    uint32_t logical_block_bytes() const { return logical_block_bytes_; }
    /// What transfers must be aligned to: 1 when the page cache is in between.
    uint32_t transfer_alignment() const { return transfer_alignment_; }
    /// O_DIRECT: no page cache between node and device. False where the file system cannot (tmpfs before 6.6).
    bool direct() const { return transfer_alignment_ > 1; }

    /// The size now: a device may have grown, a file may have been truncated.
    Result<uint64_t> read_size() const;
    /// False when the device has left the system (its entry in sysfs is gone). A file stays while it is open.
    bool present() const;

 private:
    Backing() = default;
    Result<void> examine_device(const Options& options);
    Result<void> examine_file(const Options& options);

    UniqueFd fd_;
    std::string path_;
    BackingKind kind_ = BackingKind::file;
    dev_t device_number_ = 0;
    uint64_t size_bytes_ = 0;
    uint32_t logical_block_bytes_ = 512;
    uint32_t transfer_alignment_ = 1;
};

}  // namespace storctl::node

namespace storctl {

template <>
struct EnumNames<node::BackingKind> {
    static constexpr auto table = std::to_array<EnumName<node::BackingKind>>({
        {node::BackingKind::block, "block"},
        {node::BackingKind::loop, "loop"},
        {node::BackingKind::file, "file"},
    });
};
static_assert(round_trips<node::BackingKind>());

}  // namespace storctl
