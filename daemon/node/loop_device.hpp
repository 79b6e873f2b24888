#pragma once
// A kernel block device over the node's FUSE file: a loop device with direct I/O, kept as a symbolic link.
// Blocking calls; the control thread's, while the reactor serves the file.

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::node {

class LoopDevice {
 public:
    struct Options {
        std::string file;
        std::string link;  ///< replaced as one step
        uint32_t block_bytes = 512;
        bool read_only = false;
    };
    /// Takes a free loop device. No partition scan: what a guest has on its disk is not for the host to assemble.
    static Result<LoopDevice> attach(const Options& options);
    LoopDevice(LoopDevice&&) noexcept;
    LoopDevice& operator=(LoopDevice&&) = delete;
    ~LoopDevice();

    const std::string& path() const { return path_; }
    /// What its consumers see; 0 when the kernel does not say.
    uint64_t size_bytes() const;
    /// The file's size is another now (LOOP_SET_CAPACITY).
    Result<void> refresh_size() const;
    /// Writes out what the page cache has, detaches and removes the link. In use (open or mounted by somebody, or not
    /// to be written out): with `force` detached at the last close, without it nothing changes. False: it is in use.
    bool detach(bool force);

 private:
    LoopDevice() = default;
    UniqueFd fd_;
    std::string path_, link_;
};

}  // namespace storctl::node
