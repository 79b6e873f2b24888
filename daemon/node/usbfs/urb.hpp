#pragma once
// A URB between its submission and its reap: the caller's, and the one with our own memory that the kernel has in its
// place. Its buffer comes from the session's pool. Pure.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "daemon/node/usbfs/device.hpp"
#include "daemon/node/usbfs/memory.hpp"
#include "daemon/node/usbfs/statistics.hpp"
#include "daemon/node/usbfs/wire.hpp"

struct usbdevfs_urb;

namespace storctl::node::usbfs {

/// Buffers for URBs, used again: fresh memory costs a page fault for each 4 KiB. Large ones are memory that the kernel
/// transfers to and from directly, as far as there is some. Everything is counted against a limit.
class BufferPool {
 public:
    struct Buffer {
        std::byte* memory = nullptr;
        size_t length = 0;  ///< that was asked for
        size_t capacity = 0;
        bool mapped = false;
    };
    static constexpr size_t smallest_mapped = 16 << 10;
    static constexpr size_t most_mapped =
        4 << 20;  ///< of the 16 MiB that usbfs gives to the whole host (usbfs_memory_mb)
    static constexpr size_t most_kept = 2 << 20;
    static constexpr size_t most_in_use = 64 << 20;
    static constexpr size_t most_taken = 16384;  ///< buffers: those without data cost memory too

    explicit BufferPool(Device& device) : device_(device) {}
    ~BufferPool();
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    /// memory null: over the limit. Contents are whatever was there.
    Buffer take(size_t length);
    void give(Buffer buffer);
    /// Gives up what is not in use. True: there was something, and what failed for want of memory is worth another try.
    bool trim();
    /// Keeps nothing from now on: mapped memory holds the device's file open.
    void shut();

 private:
    void free(const Buffer& buffer);

    Device& device_;
    std::mutex mutex_;  // guards all below; never held in a device's call but map and unmap
    bool shut_ = false;
    std::vector<Buffer> kept_;
    size_t kept_bytes_ = 0, mapped_bytes_ = 0, in_use_bytes_ = 0, taken_ = 0;
};

class Urb {
 public:
    /// `user_address`: of the caller's URB. `control_in`: of a control URB with data to the host.
    Urb(BufferPool& pool, BufferPool::Buffer buffer, const UrbHeader& header, std::vector<IsoPacket> packets,
        Layout layout, uint64_t user_address, bool to_host);
    ~Urb();
    Urb(const Urb&) = delete;
    Urb& operator=(const Urb&) = delete;

    usbdevfs_urb* kernel() { return kernel_; }
    std::span<std::byte> buffer() { return {buffer_.memory, buffer_.length}; }
    uint64_t user_address() const { return user_address_; }
    Traffic traffic() const;
    uint64_t submitted_ns = 0;
    bool submitting = false;  ///< the kernel is reading its buffer; guarded by the session's mutex

    /// Instead of by the device: completed with this status (a negative errno, or 0 and this many bytes).
    void complete(int status, size_t actual_length);
    /// Gives the buffer back early, of a URB that has no data for its caller.
    void drop_buffer();
    int status() const;
    size_t actual_length() const;

    /// What a reap writes (drivers/usb/core/devio.c, processcompl): status, lengths, error count, packets' results,
    /// data; and the URB's address to `pointer_address`, as wide as in the reap's layout. Valid until the URB is gone.
    const std::vector<CallerMemory::Piece>& result(uint64_t pointer_address, Layout reap_layout);

 private:
    BufferPool& pool_;
    BufferPool::Buffer buffer_;
    UrbHeader header_;
    Layout layout_;
    uint64_t user_address_;
    bool to_host_;
    std::unique_ptr<std::byte[]> storage_;
    usbdevfs_urb* kernel_;
    std::vector<std::byte> pointer_;
    std::vector<CallerMemory::Piece> pieces_;
};

}  // namespace storctl::node::usbfs
