#pragma once
// The real usbfs file behind a session, for the fuzzer: touches what devio.c touches and when it does, so that the
// address sanitizer sees what is too short or gone; checks that nothing arrives that the policy hides.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include <linux/ioctl.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "daemon/node/usbfs/device.hpp"
#include "daemon/node/usbfs/policy.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace storctl::fuzz {

/// What devices send.
inline constexpr uint8_t device_byte = 0x5a;

/// Outlives the session that has the file; what the fuzzer decides on.
struct KernelState {
    explicit KernelState(const node::usbfs::Filter& a_filter) : filter(a_filter) {}

    struct Pending {
        usbdevfs_urb* urb = nullptr;
        uint8_t type = 0, endpoint = 0;
        uint8_t* buffer = nullptr;
        std::vector<uint32_t> packets;
        size_t length = 0;
        size_t actual = 0;
        int status = 0;
    };

    static constexpr size_t memory_limit = 16 << 20;  // usbfs_memory_mb
    static constexpr size_t urb_cost = 500;

    const node::usbfs::Filter& filter;
    std::deque<Pending> pending, completed;
    std::map<std::byte*, size_t> maps;
    size_t memory = 0;
    int next_error = 0;
    bool maps_memory = false, comes_back = false, gone = false, closed = false;
    int configuration = 1;

    void complete(size_t index, int status, size_t actual) {
        if (pending.empty()) return;
        const auto found = pending.begin() + static_cast<ptrdiff_t>(index % pending.size());
        found->status = status;
        found->actual = actual;
        completed.push_back(std::move(*found));
        pending.erase(found);
    }
    void unplug() {
        gone = true;
        while (!pending.empty()) complete(0, -ENODEV, 0);
    }
};

class FakeKernelFile final : public node::usbfs::Device {
 public:
    explicit FakeKernelFile(KernelState& state) : state_(state) {}
    ~FakeKernelFile() override { FUZZ_CHECK(state_.closed); }

    int ioctl(unsigned long number, void* argument) override {
        if (state_.closed) return -ENODEV;
        const bool reaps = number == USBDEVFS_REAPURBNDELAY;
        if (state_.gone && !reaps) return -ENODEV;
        if (state_.next_error != 0 && !reaps) return std::exchange(state_.next_error, 0);
        return reaps ? reap(static_cast<usbdevfs_urb**>(argument)) : carry_out(number, argument);
    }
    uint32_t poll() override {
        const uint32_t ready = state_.completed.empty() ? 0 : POLLOUT | POLLWRNORM;
        return ready | (state_.gone || state_.closed ? POLLERR | POLLHUP : 0);
    }
    int wait() override {
        if (state_.pending.empty()) return -EINTR;
        state_.complete(0, 0, 1);
        return 0;
    }
    void wake() override {}
    std::byte* map(size_t length) override {
        if (!state_.maps_memory || state_.closed || state_.gone) return nullptr;
        auto* memory = new std::byte[length]();
        state_.maps.emplace(memory, length);
        return memory;
    }
    void unmap(std::byte* memory, size_t length) override {
        const auto found = state_.maps.find(memory);
        FUZZ_CHECK(found != state_.maps.end() && found->second == length);
        state_.maps.erase(found);
        // memory of URBs in flight stays the kernel's; here nobody gives it up before they have ended
        for (const auto& one : state_.pending) FUZZ_CHECK(one.buffer != reinterpret_cast<uint8_t*>(memory));
        delete[] memory;
    }
    void close() override {
        state_.closed = true;
        state_.pending.clear();
        state_.completed.clear();
    }
    int reopen() override {
        if (!state_.comes_back) return -ENODEV;
        state_.pending.clear();
        state_.completed.clear();
        state_.memory = 0;
        state_.gone = state_.closed = false;
        state_.configuration = 1;
        return 0;
    }

 private:
    // All that a policy hides is refused before it comes here. Numbers that devio.c refuses itself may come.
    void check_interface(uint32_t number) const {
        FUZZ_CHECK(number > 255 || state_.filter.interface_allowed(static_cast<uint8_t>(number)));
    }
    void check_endpoint(uint32_t address) const {
        const bool refused = (address & ~0x8fU) != 0;
        FUZZ_CHECK(refused || state_.filter.endpoint_allowed(static_cast<uint8_t>(address),
                                                             static_cast<uint8_t>(state_.configuration)));
    }
    void check_control(const node::usbfs::Setup& setup) const {
        const auto verdict = state_.filter.control(setup, static_cast<uint8_t>(state_.configuration));
        FUZZ_CHECK(verdict.kind == node::usbfs::ControlVerdict::Kind::allow);
    }

    static uint32_t word(const void* argument) {
        uint32_t value = 0;
        std::memcpy(&value, argument, sizeof value);
        return value;
    }
    /// Reads every byte.
    static void look_at(const void* memory, size_t length) {
        volatile uint8_t sum = 0;
        const auto* bytes = static_cast<const uint8_t*>(memory);
        for (size_t i = 0; i < length; ++i) sum = static_cast<uint8_t>(sum + bytes[i]);
    }

    int carry_out(unsigned long number, void* argument) {
        switch (number) {
            case USBDEVFS_SUBMITURB:
                return submit(static_cast<usbdevfs_urb*>(argument));
            case USBDEVFS_DISCARDURB:
                return discard(static_cast<usbdevfs_urb*>(argument));
            case USBDEVFS_CONTROL:
                return control(*static_cast<usbdevfs_ctrltransfer*>(argument));
            case USBDEVFS_BULK:
                return bulk(*static_cast<usbdevfs_bulktransfer*>(argument));
            case USBDEVFS_CLAIMINTERFACE:
            case USBDEVFS_RELEASEINTERFACE:
                check_interface(word(argument));
                return word(argument) < 64 ? 0 : -EINVAL;
            case USBDEVFS_SETINTERFACE:
                look_at(argument, sizeof(usbdevfs_setinterface));
                check_interface(word(argument));
                return word(argument) < 64 ? 0 : -EINVAL;
            case USBDEVFS_SETCONFIGURATION:
                return set_configuration(static_cast<int>(word(argument)));
            case USBDEVFS_GETDRIVER: {
                auto& request = *static_cast<usbdevfs_getdriver*>(argument);
                check_interface(request.interface);
                std::memset(request.driver, 'u', sizeof request.driver);
                return request.interface % 2 == 0 ? 0 : -ENODATA;
            }
            case USBDEVFS_IOCTL: {
                const auto& request = *static_cast<usbdevfs_ioctl*>(argument);
                FUZZ_CHECK(request.ioctl_code == USBDEVFS_DISCONNECT && request.data == nullptr);
                check_interface(static_cast<uint32_t>(request.ifno));
                return 0;
            }
            case USBDEVFS_DISCONNECT_CLAIM: {
                const auto& request = *static_cast<usbdevfs_disconnect_claim*>(argument);
                check_interface(request.interface);
                FUZZ_CHECK(std::memchr(request.driver, 0, sizeof request.driver) != nullptr);
                return request.interface < 64 ? 0 : -EINVAL;
            }
            case USBDEVFS_RESETEP:
            case USBDEVFS_CLEAR_HALT:
                check_endpoint(word(argument));
                return 0;
            case USBDEVFS_ALLOC_STREAMS:
            case USBDEVFS_FREE_STREAMS: {
                const auto& request = *static_cast<usbdevfs_streams*>(argument);
                FUZZ_CHECK(request.num_eps >= 1 && request.num_eps <= 30);
                for (unsigned i = 0; i < request.num_eps; ++i) check_endpoint(request.eps[i]);
                return 1;
            }
            case USBDEVFS_GET_CAPABILITIES:
                std::memset(argument, 0xff, sizeof(uint32_t));
                return 0;
            case USBDEVFS_CONNECTINFO:
                std::memset(argument, 1, sizeof(usbdevfs_connectinfo));
                return 0;
            case USBDEVFS_GET_SPEED:
                return 3;
            case USBDEVFS_RESET:
                FUZZ_CHECK(!state_.filter.denies(node::usbfs::Denial::reset));
                return 0;
            default:
                // of any size, by a kernel that may know more than ours
                FUZZ_CHECK((number & ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT)) ==
                           USBDEVFS_CONNINFO_EX(0));
                std::memset(argument, 1, _IOC_SIZE(number));
                return 0;
        }
    }

    int set_configuration(int value) {
        const bool other = value != state_.configuration;
        FUZZ_CHECK(!other || !state_.filter.denies(node::usbfs::Denial::configuration));
        if (value < -1 || value > 2) return -EINVAL;
        state_.configuration = std::max(value, 0);
        return 0;
    }

    int control(const usbdevfs_ctrltransfer& transfer) {
        check_control({transfer.bRequestType, transfer.bRequest, transfer.wValue, transfer.wIndex, transfer.wLength});
        FUZZ_CHECK(transfer.wLength <= 4096);
        if ((transfer.bRequestType & 0x80) == 0) {
            look_at(transfer.data, transfer.wLength);
            return transfer.wLength;
        }
        const int length = transfer.wLength / 2;
        if (length > 0) std::memset(transfer.data, device_byte, static_cast<size_t>(length));
        return length;
    }

    int bulk(const usbdevfs_bulktransfer& transfer) {
        check_endpoint(transfer.ep);
        if (transfer.len > state_.memory_limit) return -ENOMEM;
        if ((transfer.ep & 0x80) == 0) {
            look_at(transfer.data, transfer.len);
            return static_cast<int>(transfer.len);
        }
        const size_t length = transfer.len - transfer.len / 3;
        if (length > 0) std::memset(transfer.data, device_byte, length);
        return static_cast<int>(length);
    }

    int submit(usbdevfs_urb* urb) {
        KernelState::Pending pending{
            .urb = urb, .type = urb->type, .endpoint = urb->endpoint, .buffer = static_cast<uint8_t*>(urb->buffer)};
        check_endpoint(urb->endpoint);
        FUZZ_CHECK(urb->signr == 0 && urb->buffer_length >= 0);
        pending.length = static_cast<size_t>(urb->buffer_length);
        if (urb->type == USBDEVFS_URB_TYPE_ISO) {
            FUZZ_CHECK(urb->number_of_packets >= 1 && urb->number_of_packets <= 128);
            pending.length = 0;
            for (int i = 0; i < urb->number_of_packets; ++i) {
                pending.packets.push_back(urb->iso_frame_desc[i].length);
                pending.length += urb->iso_frame_desc[i].length;
            }
        } else if (urb->type == USBDEVFS_URB_TYPE_CONTROL) {
            FUZZ_CHECK(pending.length >= 8);
            std::array<uint8_t, 8> setup{};
            std::memcpy(setup.data(), urb->buffer, setup.size());
            check_control(node::usbfs::Setup::parse(setup));
        }
        if (state_.memory + pending.length + KernelState::urb_cost > state_.memory_limit) return -ENOMEM;
        look_at(urb->buffer, pending.length);
        state_.memory += pending.length + KernelState::urb_cost;
        state_.pending.push_back(std::move(pending));
        return 0;
    }

    int discard(const usbdevfs_urb* urb) {
        const auto found =
            std::find_if(state_.pending.begin(), state_.pending.end(), [&](const auto& one) { return one.urb == urb; });
        if (found == state_.pending.end()) return -EINVAL;
        state_.complete(static_cast<size_t>(found - state_.pending.begin()), -ENOENT, 0);
        return 0;
    }

    /// processcompl
    int reap(usbdevfs_urb** out) {
        if (state_.completed.empty()) return state_.gone ? -ENODEV : -EAGAIN;
        const auto done = std::move(state_.completed.front());
        state_.completed.pop_front();
        state_.memory -= done.length + KernelState::urb_cost;
        auto& urb = *done.urb;
        const bool is_control = done.type == USBDEVFS_URB_TYPE_CONTROL;
        const size_t setup = is_control ? 8 : 0;
        const bool to_host = is_control ? (done.buffer[0] & 0x80) != 0 : (done.endpoint & 0x80) != 0;
        const size_t actual = std::min(done.actual, done.length - setup);
        if (to_host && actual > 0) std::memset(done.buffer + setup, device_byte, actual);
        urb.status = done.status;
        urb.actual_length = static_cast<int>(actual);
        urb.error_count = done.status == 0 ? 0 : 1;
        for (size_t i = 0; i < done.packets.size(); ++i) {
            urb.iso_frame_desc[i].actual_length = done.packets[i];
            urb.iso_frame_desc[i].status = 0;
        }
        *out = done.urb;
        return 0;
    }

    KernelState& state_;
};

}  // namespace storctl::fuzz
