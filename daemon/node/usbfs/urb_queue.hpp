#pragma once
// The URBs of one open of a node: those that the device has, and those that were completed and nobody has reaped yet.
// Any thread; a call may wait in the kernel.
//
// The kernel writes into a URB and its buffer while a thread is inside a reap, and reads them inside a submission. So
// nothing of a URB is given back while a thread is inside either, also when the device is let go meanwhile: its caller
// gets a stand-in.

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "daemon/node/usbfs/device.hpp"
#include "daemon/node/usbfs/statistics.hpp"
#include "daemon/node/usbfs/urb.hpp"

namespace storctl::node::usbfs {

class UrbQueue {
 public:
    using UrbPointer = std::shared_ptr<Urb>;
    struct Context {
        Device& device;
        BufferPool& pool;
        Statistics& statistics;
        /// A URB was completed that the device's own readiness says nothing of: whoever polls has to be told.
        std::function<void()> completed;
        std::function<uint64_t()> now_ns;
    };

    explicit UrbQueue(Context context) : context_(std::move(context)) {}
    ~UrbQueue();
    UrbQueue(const UrbQueue&) = delete;
    UrbQueue& operator=(const UrbQueue&) = delete;

    /// What SUBMITURB gives.
    int submit(const UrbPointer& urb);
    /// Completed at once, without the device.
    void complete(const UrbPointer& urb, int status, size_t actual_length);
    /// -EINVAL: no such URB is in flight.
    int discard(uint64_t user_address);
    /// The next completed one. `wait`: also for it; then -EINTR is possible.
    int reap(bool wait, UrbPointer& urb);
    /// Reaped, and the caller could not be told: the next one to be reaped.
    void put_back(UrbPointer urb);
    /// Submits and waits, as USBDEVFS_CONTROL and USBDEVFS_BULK do, and as they do gives the bytes moved or an error.
    /// 0: without a limit of time.
    int transfer(const UrbPointer& urb, uint32_t timeout_ms);

    /// The device completes nothing any more: what it had comes back with -ENODEV.
    void end();
    /// What the device has completed already, taken over: for a device that is about to be another file.
    void take_completed();
    /// Nothing is being submitted, and nothing is submitted until the lock goes.
    std::unique_lock<std::shared_mutex> hold_submissions() { return std::unique_lock(submissions_); }

    bool has_completed() const { return waiting_ > 0; }

 private:
    int reap_from_device(UrbPointer& urb);
    bool is_done(const Urb& urb);
    void cancel(const UrbPointer& urb);

    Context context_;
    std::atomic<size_t> waiting_{0};  ///< in completed_
    std::shared_mutex submissions_;   // shared by submissions in the device's call
    std::mutex mutex_;                // guards all below; never held in a call of the device
    std::list<UrbPointer> in_flight_;
    std::deque<UrbPointer> completed_;
    size_t reaping_ = 0;                ///< threads inside the device's reap
    std::vector<UrbPointer> retained_;  ///< until none is
};

}  // namespace storctl::node::usbfs
