#pragma once
// A URB between its submission and its reap: the caller's, and the one with our own memory that the kernel has in its
// place. Its buffer comes from the session's pool. Pure.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "daemon/node/caller/memory.hpp"
#include "daemon/node/usbfs/device.hpp"
#include "daemon/node/usbfs/statistics.hpp"
#include "daemon/node/usbfs/wire.hpp"

struct usbdevfs_urb;

namespace storctl::node::usbfs {

/// What all opens of a node may have in memory together. usbfs has 16 MiB for the whole host (usbfs_memory_mb), and
/// what is in flight or mapped counts against it.
struct BufferBudget {
    size_t most_in_use = 8 << 20;
    size_t most_mapped = 2 << 20;
    size_t most_kept = 2 << 20;
    size_t most_taken = 16384;  ///< buffers: those without data cost memory too
    std::atomic<size_t> in_use{0}, mapped{0}, kept{0}, taken{0};
};

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

    BufferPool(Device& device, BufferBudget& budget) : device_(device), budget_(budget) {}
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
    BufferBudget& budget_;
    std::mutex mutex_;  // guards all below; never held in a device's call but map and unmap
    bool shut_ = false;
    std::vector<Buffer> kept_;
};

class Urb {
 public:
    /// `user_address`: of the caller's URB. `to_host`: its data, if it has any, go there.
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

    /// Instead of by the device: completed with this status (a negative errno, or 0 and this many bytes).
    void complete(int status, size_t actual_length);
    int status() const;
    size_t actual_length() const;

    /// What a reap writes (drivers/usb/core/devio.c, processcompl): status, lengths, error count, packets' results,
    /// data; and the URB's address to `pointer_address`, as wide as in the reap's layout. Valid until the URB is gone.
    const std::vector<CallerMemory::Piece>& result(uint64_t pointer_address, Layout reap_layout);

    /// The same URB for its caller, without data: completed with this status.
    std::shared_ptr<Urb> stand_in(int status) const;
    bool stands_for(const Urb& other) const { return original_ == &other; }

    // Of the queue, under its mutex: a URB of our own, that a thread waits for.
    void set_internal() { internal_ = true; }
    bool internal() const { return internal_; }
    void set_done() { done_ = true; }
    bool done() const { return done_; }

 private:
    BufferPool& pool_;
    BufferPool::Buffer buffer_;
    UrbHeader header_;
    Layout layout_;
    uint64_t user_address_;
    bool to_host_;
    bool internal_ = false, done_ = false;
    const Urb* original_ = nullptr;
    std::unique_ptr<std::byte[]> storage_;
    usbdevfs_urb* kernel_;
    std::vector<std::byte> pointer_;
    std::vector<CallerMemory::Piece> pieces_;
};

}  // namespace storctl::node::usbfs
