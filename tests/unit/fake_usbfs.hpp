#pragma once
// A usbfs file and a calling process for tests of sessions: the device completes what the test says, the process is one
// stretch of memory.

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

#include "daemon/node/caller/retry_memory.hpp"
#include "daemon/node/usbfs/session.hpp"

namespace storctl::node::usbfs::testing {

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

/// The caller: its memory lies at `base`.
struct FakeProcess {
    static constexpr uint64_t base = 0x1'0000'0000;
    std::vector<std::byte> memory = std::vector<std::byte>(4 << 20);
    std::function<void()> between_legs;  ///< the caller's other threads at work

    bool has(uint64_t address, size_t length) const {
        return address >= base && length <= memory.size() && address - base <= memory.size() - length;
    }
    std::byte* at(uint64_t address) { return memory.data() + (address - base); }
    template <class T>
    void put(uint64_t address, const T& value) {
        std::memcpy(at(address), &value, sizeof value);
    }
    template <class T>
    T get(uint64_t address) {
        T out;
        std::memcpy(&out, at(address), sizeof out);
        return out;
    }
};

class DirectMemory final : public CallerMemory {
 public:
    explicit DirectMemory(FakeProcess& process) : process_(process) {}
    int read(uint64_t address, std::span<std::byte> into) override {
        if (!process_.has(address, into.size())) return -EFAULT;
        std::memcpy(into.data(), process_.at(address), into.size());
        return 0;
    }
    int announce_write(uint64_t, size_t) override { return 0; }
    int write(uint64_t address, std::span<const std::byte> from) override {
        if (!process_.has(address, from.size())) return -EFAULT;
        std::memcpy(process_.at(address), from.data(), from.size());
        return 0;
    }
    size_t write_limit() const override { return SIZE_MAX; }

 private:
    FakeProcess& process_;
};

/// An ioctl as fs/fuse carries it out in legs (fuse_do_ioctl): what the server asks for is fetched, and the ioctl comes
/// again.
inline int ioctl_in_legs(Session& session, FakeProcess& process, uint32_t number, uint64_t argument,
                         Layout layout = Layout::bits64, int* legs = nullptr) {
    constexpr size_t leg_bytes = 32 * 4096;
    RetryMemory memory(leg_bytes, 256);
    std::vector<std::byte> in;
    size_t room = 0;
    for (int leg = 1;; ++leg) {
        if (legs != nullptr) *legs = leg;
        if (!memory.begin(in, room)) return -EIO;
        const int result = session.ioctl(number, argument, layout, memory);
        if (result != CallerMemory::again) {
            auto written = memory.written();
            for (const auto& segment : memory.out_segments()) {
                const auto part = written.first(std::min(segment.length, written.size()));
                if (result < 0 || part.empty()) break;
                if (!process.has(segment.address, part.size())) return -EFAULT;
                std::memcpy(process.at(segment.address), part.data(), part.size());
                written = written.subspan(part.size());
            }
            return result;
        }
        if (!memory.plan_next()) return -ENOMEM;
        in.clear();
        room = 0;
        for (const auto& segment : memory.in_segments()) {
            if (!process.has(segment.address, segment.length)) return -EFAULT;
            in.insert(in.end(), process.at(segment.address), process.at(segment.address) + segment.length);
        }
        for (const auto& segment : memory.out_segments()) room += segment.length;
        if (in.size() > leg_bytes || room > leg_bytes) return -ENOMEM;
        if (process.between_legs) process.between_legs();
    }
}

}  // namespace storctl::node::usbfs::testing
