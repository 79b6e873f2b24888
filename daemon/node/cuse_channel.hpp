#pragma once
// A character device in user space: /dev/cuse opened and initialised, its requests and their answers. Speaks the FUSE
// wire protocol itself (libfuse's CUSE start-up daemonises and takes signals over). Any number of threads may receive
// and answer at the same time.
//
// What the kernel passes on and what not: fs/fuse/cuse.c. There is no file offset (every read arrives at 0), no
// mmap, no flush; an ioctl's data are moved by further legs (`retry`), at most `leg_bytes` a leg each way.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sys/uio.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::node {

struct CuseOptions {
    std::string name;  ///< below /dev: "storctl/usb/token"
    unsigned major = 0;
    unsigned minor = 0;
    std::string device = "/dev/cuse";
};

struct CuseRequest {
    enum class Kind : uint8_t { open, release, read, write, ioctl, poll, interrupt, other };
    Kind kind = Kind::other;
    uint32_t opcode = 0;
    uint64_t unique = 0;
    uint64_t handle = 0;        ///< what answer_open gave
    int thread_id = 0;          ///< of the caller, as seen from here; 0: in a pid namespace that we do not see
    uint32_t uid = 0, gid = 0;  ///< of the caller's file system identity
    uint32_t open_flags = 0;    ///< O_*; of open, and of read, write as they are now
    // ioctl
    uint32_t command = 0;
    uint64_t argument = 0;
    bool compat = false;            ///< a 32-bit caller
    std::span<const std::byte> in;  ///< what a leg's in-segments held; write: the data
    uint32_t in_size = 0, out_size = 0;
    uint32_t size = 0;  ///< of read: bytes wanted
    // poll
    uint64_t poll_handle = 0;
    bool notify = false;  ///< somebody waits: notify_poll(poll_handle) when there is news
    uint32_t events = 0;
    uint64_t interrupted = 0;  ///< of interrupt: the unique of the request to give up
};

struct CallerSegment {
    uint64_t address = 0;
    uint64_t length = 0;
};

class CuseChannel {
 public:
    static constexpr size_t leg_bytes = 32 * 4096;            ///< fs/fuse: max_pages of a CUSE connection
    static constexpr size_t most_segments = 256;              ///< FUSE_IOCTL_MAX_IOV, of in and out together
    static constexpr size_t buffer_bytes = leg_bytes + 4096;  ///< for `receive`

    /// The device is there when this returns. Errors: not_supported with a hint when /dev/cuse is missing,
    /// address_in_use when the device number or the name is taken, operation_not_permitted.
    static Result<std::unique_ptr<CuseChannel>> create(const CuseOptions& options);
    /// Ends the connection: the device goes, and what is open answers with an error.
    ~CuseChannel();
    CuseChannel(const CuseChannel&) = delete;
    CuseChannel& operator=(const CuseChannel&) = delete;

    /// The next request; blocks. `buffer` (buffer_bytes) holds its data until it is answered. Nothing: the connection
    /// has ended.
    Result<std::optional<CuseRequest>> receive(std::span<std::byte> buffer);

    // Answers; each request but an interrupt gets exactly one. False: it was not wanted any more.
    bool answer_error(uint64_t unique, int error_number);  ///< a positive errno; 0: done, with nothing to say
    bool answer_open(uint64_t unique, uint64_t handle);
    bool answer_data(uint64_t unique, std::span<const std::byte> data);
    bool answer_written(uint64_t unique, uint32_t bytes);
    bool answer_poll(uint64_t unique, uint32_t revents);
    /// `result` (0 or more) is what ioctl(2) returns; `out` goes to the leg's out-segments, in their order.
    bool answer_ioctl(uint64_t unique, int32_t result, std::span<const iovec> out = {});
    /// Another leg: the same ioctl comes again with the in-segments' bytes and room for the out-segments'.
    bool answer_retry(uint64_t unique, std::span<const CallerSegment> in, std::span<const CallerSegment> out);
    /// An interrupt for a request that is not known (yet): the kernel sends it again.
    bool interrupt_again(uint64_t interrupt_unique);
    void notify_poll(uint64_t poll_handle);

    /// Whoever receives gets nothing any more; what is open answers with an error. From any thread.
    void abort();
    const std::string& path() const { return path_; }  ///< "/dev/storctl/usb/token"

 private:
    CuseChannel() = default;
    Result<void> negotiate(const CuseOptions& options);
    Result<void> wait_for_device(const CuseOptions& options);
    bool send(std::span<const iovec> parts);
    UniqueFd fd_;
    UniqueFd abort_fd_;  // of this connection, also when another has the name by then
    std::string path_;
};

}  // namespace storctl::node
