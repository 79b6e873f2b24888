#pragma once
// One open of a mediated USB node: its ioctls carried out on a real usbfs file of its own, with the caller's pointers
// replaced by our memory and what the policy forbids held back. Semantics are drivers/usb/core/devio.c's.
//
// Any thread, several at a time; an ioctl may wait in the kernel. `poll` takes no lock and never waits.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/node/caller/memory.hpp"
#include "daemon/node/usbfs/device.hpp"
#include "daemon/node/usbfs/policy.hpp"
#include "daemon/node/usbfs/statistics.hpp"
#include "daemon/node/usbfs/urb.hpp"
#include "daemon/node/usbfs/urb_queue.hpp"
#include "daemon/node/usbfs/wire.hpp"

namespace storctl::node::usbfs {

struct SessionContext {
    const Filter& filter;
    Statistics& statistics;
    /// Something was denied: one sentence. Called as often as it happens.
    std::function<void(const std::string&)> denied;
    /// A URB was completed that the device knows nothing of: whoever polls has to be told.
    std::function<void()> completed;
    std::function<uint64_t()> now_ns;
    /// bConfigurationValue of the device's active configuration, which all of its sessions share.
    std::atomic<uint8_t>& configuration;
    BufferBudget& budget;
};

/// May a signal of the caller's end this ioctl although it does not kill the caller? devio.c: a reap that waits.
bool interruptible(uint32_t number, Layout layout);

class Session {
 public:
    /// `writable`: opened for writing; else ioctls are refused with EPERM, as the kernel's node does.
    Session(std::unique_ptr<Device> device, SessionContext context, bool writable);
    /// Lets the device go first, so that the kernel has no use for our memory any more.
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// What ioctl(2) gives: 0 or more, a negative errno, or CallerMemory::again.
    int ioctl(uint32_t number, uint64_t argument, Layout layout, CallerMemory& memory);
    /// Descriptors from this open's position on, which it moves; an empty answer, at the end, moves it back to the
    /// start, as do CONNECTINFO and GET_SPEED, with which libusb begins: CUSE has no lseek.
    std::span<const uint8_t> read(size_t length);
    /// POLL*
    uint32_t poll();
    /// The device was unplugged or taken away: all but reaping is answered with ENODEV.
    bool gone();
    /// Takes the device away: from now on -ENODEV, POLLERR and POLLHUP. What is in flight can still be reaped.
    void revoke();
    /// What an operation kept that its caller did not come back for (CallerMemory::kept): the URB is there to reap
    /// again.
    void put_back(std::shared_ptr<void> kept);

 private:
    struct Call {
        uint64_t argument = 0;
        size_t header_bytes = 0;
        Layout layout = Layout::bits64;
        CallerMemory& memory;
    };
    int carry_out(Command command, const Call& call);
    int submit(const Call& call);
    int reap(const Call& call, bool wait);
    int control(const Call& call);
    int bulk(const Call& call);
    int claim(const Call& call, bool release);
    int disconnect_claim(const Call& call);
    int driver_ioctl(const Call& call);
    int get_driver(const Call& call);
    int set_interface(const Call& call);
    int set_configuration(const Call& call);
    int endpoint_call(const Call& call, unsigned long number);
    int streams(const Call& call, unsigned long number);
    int get_capabilities(const Call& call);
    int give(const Call& call, unsigned long number);
    int reset();
    int come_back();

    void deny(const std::string& what);

    SessionContext context_;
    const bool writable_;
    std::unique_ptr<Device> device_;
    BufferPool pool_;
    std::atomic<bool> revoked_{false};
    std::atomic<size_t> position_{0};

    UrbQueue queue_;

    std::mutex reset_mutex_;  // held through a reset and what comes of it: one at a time
    std::mutex mutex_;        // guards claimed_
    std::set<uint8_t> claimed_;
};

}  // namespace storctl::node::usbfs
