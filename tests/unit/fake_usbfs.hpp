#pragma once
// A usbfs file for tests of sessions: the device completes what the test says.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <vector>

#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "daemon/node/usbfs/session.hpp"
#include "tests/unit/fake_caller.hpp"

namespace storctl::node::usbfs::testing {

using node::testing::DirectMemory;
using node::testing::FakeProcess;
using node::testing::in_legs;

/// What the fake devices of a test have in common, so that it outlives them.
struct FakeKernel {
    std::list<usbdevfs_urb*> submitted;
    std::deque<usbdevfs_urb*> completed;
    std::set<unsigned> claimed;
    std::vector<unsigned long> calls;
    std::function<int(unsigned long, void*)> instead;  ///< answers other than the usual ones; 1 << 20: the usual
    uint32_t capabilities = 0xff;
    size_t mapped = 0;
    bool signals = false;  ///< every wait is ended by one
    std::function<void(usbdevfs_urb*)> on_submit;
    bool gone = false, closed = false, may_come_back = false;

    void complete(usbdevfs_urb* urb, int status, const std::vector<uint8_t>& data) {
        const size_t setup = urb->type == USBDEVFS_URB_TYPE_CONTROL ? 8 : 0;
        urb->status = status;
        urb->actual_length = static_cast<int>(data.size());
        std::copy(data.begin(), data.end(), static_cast<uint8_t*>(urb->buffer) + setup);
        submitted.remove(urb);
        completed.push_back(urb);
    }
};

class FakeDevice final : public Device {
 public:
    static constexpr int usual = 1 << 20;
    explicit FakeDevice(std::shared_ptr<FakeKernel> kernel) : kernel_(std::move(kernel)) {}

    int ioctl(unsigned long number, void* argument) override {
        if (kernel_->closed) return -ENODEV;
        kernel_->calls.push_back(number);
        if (kernel_->instead) {
            if (const int answer = kernel_->instead(number, argument); answer != usual) return answer;
        }
        if (number == USBDEVFS_REAPURBNDELAY) return reap(static_cast<usbdevfs_urb**>(argument));
        if (kernel_->gone) return -ENODEV;
        if (number == USBDEVFS_SUBMITURB) {
            kernel_->submitted.push_back(static_cast<usbdevfs_urb*>(argument));
            if (kernel_->on_submit) kernel_->on_submit(static_cast<usbdevfs_urb*>(argument));
        } else if (number == USBDEVFS_DISCARDURB) {
            return discard(static_cast<usbdevfs_urb*>(argument));
        } else if (number == USBDEVFS_GET_CAPABILITIES) {
            std::memcpy(argument, &kernel_->capabilities, sizeof kernel_->capabilities);
        } else if (number == USBDEVFS_CLAIMINTERFACE) {
            kernel_->claimed.insert(*static_cast<unsigned*>(argument));
        } else if (number == USBDEVFS_RELEASEINTERFACE) {
            return kernel_->claimed.erase(*static_cast<unsigned*>(argument)) > 0 ? 0 : -EINVAL;
        } else if (number == USBDEVFS_GETDRIVER) {
            return -ENODATA;
        }
        return 0;
    }
    uint32_t poll() override {
        if (kernel_->gone || kernel_->closed) return POLLHUP;
        return kernel_->completed.empty() ? 0 : POLLOUT | POLLWRNORM;
    }
    int wait(int limit_ms) override {
        if (!kernel_->completed.empty() || kernel_->gone) return 0;
        return kernel_->signals || limit_ms < 0 ? -EINTR : 0;
    }
    void wake() override {}
    std::byte* map(size_t length) override {
        kernel_->mapped += length;
        return new std::byte[length];
    }
    void unmap(std::byte* memory, size_t length) override {
        kernel_->mapped -= length;
        delete[] memory;
    }
    void close() override {
        kernel_->closed = true;
        kernel_->submitted.clear();
        kernel_->completed.clear();
    }
    int reopen() override {
        if (!kernel_->may_come_back) return -ENODEV;
        kernel_->gone = false;
        kernel_->claimed.clear();
        return 0;
    }

 private:
    int reap(usbdevfs_urb** out) {
        if (kernel_->completed.empty()) return kernel_->gone ? -ENODEV : -EAGAIN;
        *out = kernel_->completed.front();
        kernel_->completed.pop_front();
        return 0;
    }
    int discard(usbdevfs_urb* urb) {
        const auto found = std::find(kernel_->submitted.begin(), kernel_->submitted.end(), urb);
        if (found == kernel_->submitted.end()) return -EINVAL;
        kernel_->complete(urb, -ENOENT, {});
        return 0;
    }

    std::shared_ptr<FakeKernel> kernel_;
};

inline int ioctl_in_legs(Session& session, FakeProcess& process, uint32_t number, uint64_t argument,
                         Layout layout = Layout::bits64, int* legs = nullptr) {
    return in_legs(
        process, [&](CallerMemory& memory) { return session.ioctl(number, argument, layout, memory); }, legs);
}

}  // namespace storctl::node::usbfs::testing
