#pragma once
// One FUSE connection spoken by hand: libfuse mounts it, the reactor reads requests into page-aligned slots and writes
// replies, without libfuse's loop (which costs half of the throughput at depth). linux/fuse.h is the protocol.
//
// A slot carries one request from the kernel to its reply. Requests are read with the header and a write's payload in
// two places, so that the payload lies page-aligned and goes down to an O_DIRECT backing as it is. Reactor thread only,
// but for `mount`, `unmount` and `negotiate`, which come before and after it.

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <linux/fuse.h>
#include <sys/uio.h>

#include "base/io_ring.hpp"
#include "daemon/node/block.hpp"
#include "daemon/node/scsi/range_locks.hpp"

struct fuse_session;

namespace storctl::node {

class FuseChannel;

inline constexpr size_t fuse_max_transfer_bytes = 1 << 20;
inline constexpr size_t fuse_slots = 64;  ///< requests in flight; more wait in the kernel

struct FuseSlot {
    struct Completion : IoCompletion {
        FuseSlot* slot = nullptr;
    };

    FuseChannel* channel = nullptr;
    Completion receive, reply;
    std::array<std::byte, sizeof(fuse_in_header) + sizeof(fuse_write_in)> head;
    std::byte* data = nullptr;  ///< fuse_max_transfer_bytes, page-aligned
    size_t received = 0;
    std::array<iovec, 2> in, out;
    fuse_out_header out_header;
    std::array<std::byte, 128> small_reply;

    // Of the front end while it works on the request.
    BlockRequest block;
    scsi::RangeLocks::Hold blocks;  ///< that the request has entered
    uint64_t started_ns = 0;
    void* front_end = nullptr;

    fuse_in_header header() const {
        fuse_in_header value;
        std::memcpy(&value, head.data(), sizeof value);
        return value;
    }
    /// The operation's own structure behind the header; what does not fit into `head` lies in `data`. Missing bytes are
    /// 0.
    template <class T>
    T body() const {
        T value{};
        constexpr size_t in_head = sizeof(fuse_write_in);
        const size_t have = std::min(sizeof(T), received - sizeof(fuse_in_header));
        std::memcpy(&value, head.data() + sizeof(fuse_in_header), std::min(have, in_head));
        if constexpr (sizeof(T) > in_head) {
            if (have > in_head) std::memcpy(reinterpret_cast<std::byte*>(&value) + in_head, data, have - in_head);
        }
        return value;
    }
};

class FuseChannel {
 public:
    /// Creates the file `path` (mode 0600) where it is missing, detaches what a dead node left mounted on it, and
    /// mounts on it.
    static Result<std::unique_ptr<FuseChannel>> mount(const std::string& path, const std::string& name, bool read_only);
    ~FuseChannel();
    FuseChannel(const FuseChannel&) = delete;
    FuseChannel& operator=(const FuseChannel&) = delete;

    /// Answers the kernel's FUSE_INIT; blocks for it.
    Result<void> negotiate();
    int fd() const { return fd_; }

    using Handler = std::function<void(FuseSlot&)>;
    /// `file_index`: the connection's place in the ring's registered descriptors. `on_closed`: unmounted or aborted.
    void serve(IoRing& ring, unsigned file_index, Handler handler, std::function<void()> on_closed);
    /// Reads no more requests; what is in flight is answered.
    void stop_receiving();
    /// Takes the waiting read back and, unless stopped, starts another: an operation in flight keeps all descriptors of
    /// the ring's table alive on older kernels, replaced ones too.
    void restart_receiving();
    /// Requests to be answered; plus one while a read waits for the next.
    size_t in_flight() const { return in_flight_ + (armed_ ? 1 : 0); }

    void reply_error(FuseSlot& slot, int error_number);
    void reply_data(FuseSlot& slot, const std::byte* data, size_t bytes);
    template <class T>
    void reply(FuseSlot& slot, const T& value) {
        static_assert(sizeof(T) <= sizeof slot.small_reply);
        std::memcpy(slot.small_reply.data(), &value, sizeof value);
        reply_data(slot, slot.small_reply.data(), sizeof value);
    }
    /// For requests that the kernel wants no answer to (FORGET).
    void no_reply(FuseSlot& slot);

    /// Tells the kernel that attributes (the size) have changed.
    void notify_attributes_changed();
    /// Takes the mount away; open files stay open until the connection ends.
    void unmount();

 private:
    FuseChannel() = default;
    void allocate_slots();
    void arm();
    static void poll_failed(IoCompletion& self, int result);
    static void received(IoCompletion& self, int result);
    void accept(FuseSlot& slot, size_t bytes);
    void drain();
    void send(FuseSlot& slot, unsigned parts);
    static void replied(IoCompletion& self, int result);
    FuseSlot* take_slot();
    void give_back(FuseSlot& slot);

    std::string path_;
    fuse_session* session_ = nullptr;
    bool mounted_ = false;
    int fd_ = -1;  // the session's own
    IoRing* ring_ = nullptr;
    unsigned file_index_ = 0;
    Handler handler_;
    std::function<void()> on_closed_;
    std::unique_ptr<std::byte, void (*)(std::byte*)> memory_{nullptr, nullptr};
    std::vector<FuseSlot> slots_;
    std::vector<FuseSlot*> free_;  // last in, first out: keeps the memory in use small and warm
    struct Poll : IoCompletion {
        FuseSlot* slot = nullptr;  // whose read is linked to it
    };
    Poll poll_;
    bool receiving_ = false;
    bool armed_ = false;
    size_t in_flight_ = 0;  // requests read and not yet answered
};

}  // namespace storctl::node
