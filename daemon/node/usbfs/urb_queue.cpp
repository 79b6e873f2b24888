#include "daemon/node/usbfs/urb_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <linux/usbdevice_fs.h>
#include <sys/ioctl.h>

namespace storctl::node::usbfs {
namespace {

/// A transfer that waits looks again at least this often: another thread may have reaped its URB and woken a third.
constexpr int longest_wait_ms = 20;

bool failed(int status) { return status != 0 && status != -ENOENT && status != -ECONNRESET; }

}  // namespace

UrbQueue::~UrbQueue() {
    for (const auto& urb : in_flight_) context_.statistics.of(urb->traffic()).abandon();
    for (const auto& urb : completed_) context_.statistics.of(urb->traffic()).abandon();
}

int UrbQueue::submit(const UrbPointer& urb) {
    auto& counters = context_.statistics.of(urb->traffic());
    urb->submitted_ns = context_.now_ns();
    const std::shared_lock submitting(submissions_);
    {
        const std::scoped_lock lock(mutex_);
        in_flight_.push_back(urb);
    }
    counters.begin();
    int result = context_.device.ioctl(USBDEVFS_SUBMITURB, urb->kernel());
    // our own spare buffers count against the kernel's limit as well
    if (result == -ENOMEM && context_.pool.trim()) {
        result = context_.device.ioctl(USBDEVFS_SUBMITURB, urb->kernel());
    }
    if (result >= 0) return result;
    const std::scoped_lock lock(mutex_);
    const auto is_this = [&](const UrbPointer& one) { return one == urb || one->stands_for(*urb); };
    const size_t stand_ins = std::erase_if(completed_, is_this);
    waiting_ -= stand_ins;
    if (stand_ins + std::erase_if(in_flight_, is_this) > 0) counters.abandon();
    return result;
}

void UrbQueue::complete(const UrbPointer& urb, int status, size_t actual_length) {
    urb->complete(status, actual_length);
    urb->submitted_ns = context_.now_ns();
    context_.statistics.of(urb->traffic()).begin();
    {
        const std::scoped_lock lock(mutex_);
        completed_.push_back(urb);
        ++waiting_;
    }
    context_.device.wake();
    context_.completed();
}

int UrbQueue::discard(uint64_t user_address) {
    UrbPointer urb;  // kept, so that its address is no other's meanwhile
    {
        const std::scoped_lock lock(mutex_);
        const auto found = std::find_if(in_flight_.begin(), in_flight_.end(), [&](const UrbPointer& one) {
            return !one->internal() && one->user_address() == user_address;
        });
        if (found == in_flight_.end()) return -EINVAL;
        urb = *found;
    }
    return context_.device.ioctl(USBDEVFS_DISCARDURB, urb->kernel());
}

/// 0 with a URB, or with none when it was a transfer's, whose thread has been told.
int UrbQueue::reap_from_device(UrbPointer& urb) {
    {
        const std::scoped_lock lock(mutex_);
        ++reaping_;
    }
    usbdevfs_urb* kernel = nullptr;
    const int result = context_.device.ioctl(USBDEVFS_REAPURBNDELAY, static_cast<void*>(&kernel));
    std::vector<UrbPointer> let_go;  // after the lock: their buffers may be unmapped
    bool internal = false;
    {
        const std::scoped_lock lock(mutex_);
        if (--reaping_ == 0) let_go.swap(retained_);
        if (result != 0) return result;
        const auto found = std::find_if(in_flight_.begin(), in_flight_.end(),
                                        [&](const UrbPointer& one) { return one->kernel() == kernel; });
        if (found == in_flight_.end()) return 0;  // ended at this moment: its stand-in is among the completed ones
        internal = (*found)->internal();
        if (internal) {
            (*found)->set_done();
        } else {
            urb = *found;
        }
        in_flight_.erase(found);
    }
    if (internal) context_.device.wake();
    return 0;
}

int UrbQueue::reap(bool wait, UrbPointer& urb) {
    for (;;) {
        if (waiting_ > 0) {
            const std::scoped_lock lock(mutex_);
            if (!completed_.empty()) {
                urb = std::move(completed_.front());
                completed_.pop_front();
                --waiting_;
            }
        }
        if (!urb) {
            const int result = reap_from_device(urb);
            if (result == -EAGAIN && wait && waiting_ == 0) {
                const int error = context_.device.wait(-1);
                if (error != 0) return error;
                continue;
            }
            if (result != 0 && waiting_ == 0) return result;
        }
        if (!urb) continue;
        context_.statistics.of(urb->traffic())
            .end(failed(urb->status()), urb->actual_length(), context_.now_ns() - urb->submitted_ns);
        return 0;
    }
}

void UrbQueue::put_back(UrbPointer urb) {
    context_.statistics.of(urb->traffic()).begin();
    {
        const std::scoped_lock lock(mutex_);
        completed_.push_front(std::move(urb));
        ++waiting_;
    }
    context_.completed();
}

bool UrbQueue::is_done(const Urb& urb) {
    const std::scoped_lock lock(mutex_);
    return urb.done();
}

int UrbQueue::transfer(const UrbPointer& urb, uint32_t timeout_ms) {
    urb->set_internal();
    const uint64_t began = context_.now_ns();
    auto& counters = context_.statistics.of(urb->traffic());
    if (const int error = submit(urb); error < 0) return error;
    const uint64_t limit_ns = uint64_t{timeout_ms} * 1'000'000;
    int given_up = 0;
    while (!is_done(*urb)) {
        take_completed();
        if (is_done(*urb)) break;
        const uint64_t gone_ns = context_.now_ns() - began;
        if (given_up == 0 && limit_ns > 0 && gone_ns >= limit_ns) given_up = -ETIMEDOUT;
        if (given_up != 0) {
            // it is completed when this returns, and reaped here or by another thread
            if (context_.device.ioctl(USBDEVFS_DISCARDURB, urb->kernel()) == -ENODEV) take_completed();
        }
        const uint64_t left_ms =
            limit_ns > 0 && given_up == 0 ? (limit_ns - gone_ns + 999'999) / 1'000'000 : longest_wait_ms;
        const int error = context_.device.wait(static_cast<int>(std::min<uint64_t>(left_ms, longest_wait_ms)));
        if (error == -EINTR && given_up == 0) given_up = -EINTR;
    }
    const int status = given_up != 0 && urb->status() == -ENOENT ? given_up : urb->status();
    counters.end(failed(status), urb->actual_length(), context_.now_ns() - began);
    return status != 0 ? status : static_cast<int>(urb->actual_length());
}

void UrbQueue::take_completed() {
    bool news = false;
    for (;;) {
        UrbPointer urb;
        const int result = reap_from_device(urb);
        if (result == -ENODEV) return end();  // none will come any more
        if (result != 0) break;
        if (!urb) continue;
        const std::scoped_lock lock(mutex_);
        completed_.push_back(std::move(urb));
        ++waiting_;
        news = true;
    }
    if (news) context_.completed();
}

void UrbQueue::end() {
    std::list<UrbPointer> left;
    {
        const std::scoped_lock lock(mutex_);
        left.swap(in_flight_);
        if (reaping_ > 0) retained_.insert(retained_.end(), left.begin(), left.end());
        for (const auto& urb : left) {
            if (urb->internal()) {
                urb->complete(-ENODEV, 0);
                urb->set_done();
                continue;
            }
            completed_.push_back(urb->stand_in(-ENODEV));
            ++waiting_;
        }
    }
    if (left.empty()) return;
    context_.device.wake();
    context_.completed();
}

}  // namespace storctl::node::usbfs
