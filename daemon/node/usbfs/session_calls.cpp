// The ioctls of a session that are not about URBs.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <linux/usbdevice_fs.h>
#include <sys/ioctl.h>

#include "daemon/node/usbfs/session.hpp"

namespace storctl::node::usbfs {
namespace {

constexpr uint16_t longest_control = 4096;      // devio.c: a page
constexpr uint32_t longest_bulk = 0x7fff'ff40;  // devio.c: less than INT_MAX by the size of its struct urb
constexpr uint32_t offered_capabilities = USBDEVFS_CAP_ZERO_PACKET | USBDEVFS_CAP_BULK_CONTINUATION |
                                          USBDEVFS_CAP_NO_PACKET_SIZE_LIM | USBDEVFS_CAP_BULK_SCATTER_GATHER |
                                          USBDEVFS_CAP_REAP_AFTER_DISCONNECT | USBDEVFS_CAP_CONNINFO_EX;
/// With these libusb makes one URB of a transfer, however long.
constexpr uint32_t long_urbs = USBDEVFS_CAP_NO_PACKET_SIZE_LIM | USBDEVFS_CAP_BULK_SCATTER_GATHER;

template <class T>
std::span<std::byte> bytes_of(T& value) {
    return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

/// What the kernel fills in, to the caller.
int Session::give(const Call& call, unsigned long number) {
    std::array<std::byte, most_given> buffer{};
    const auto header = std::span(buffer).first(std::min(call.header_bytes, buffer.size()));
    call.memory.announce_write(call.argument, header.size());
    if (const int error = call.memory.ready(); error != 0) return error;
    const int result = device_->ioctl(number, header.data());
    if (result < 0) return result;
    const int error = call.memory.write(call.argument, header);
    return error != 0 ? error : result;
}

int Session::get_capabilities(const Call& call) {
    call.memory.announce_write(call.argument, sizeof(uint32_t));
    if (const int error = call.memory.ready(); error != 0) return error;
    uint32_t capabilities = 0;
    const int result = device_->ioctl(USBDEVFS_GET_CAPABILITIES, &capabilities);
    if (result < 0) return result;
    capabilities &= offered_capabilities;
    // the largest transfer that a guest's driver makes of one command
    constexpr size_t usual_longest = 1 << 20;
    if (call.memory.write_limit() < usual_longest) capabilities &= ~long_urbs;
    const int error = call.memory.write(call.argument, bytes_of(capabilities));
    return error != 0 ? error : result;
}

int Session::control(const Call& call) {
    std::array<std::byte, sizeof(usbdevfs_ctrltransfer)> header{};
    const auto header_span = std::span(header).first(call.header_bytes);
    if (const int error = call.memory.read(call.argument, header_span); error != 0) return error;
    const ControlTransfer transfer = decode_control(header_span, call.layout);
    if (transfer.length > longest_control) return -EINVAL;
    const Setup setup = Setup::parse(transfer.setup);
    const auto verdict = context_.filter.control(setup, configuration_);
    if (verdict.kind == ControlVerdict::Kind::stall) {
        deny(verdict.reason);
        return -EPIPE;
    }
    std::vector<std::byte> data(transfer.length);
    if (setup.to_host()) {
        call.memory.announce_write(transfer.data, data.size());
    } else if (const int error = call.memory.read(transfer.data, data); error != 0) {
        return error;
    }
    if (const int error = call.memory.ready(); error != 0) return error;

    auto& counters = context_.statistics.of(Traffic::control);
    const uint64_t began = context_.now_ns();
    counters.begin();
    int result = 0;
    if (verdict.kind == ControlVerdict::Kind::answer) {
        result = static_cast<int>(std::min(verdict.data.size(), data.size()));
        std::copy_n(std::as_bytes(std::span(verdict.data)).begin(), result, data.begin());
    } else {
        usbdevfs_ctrltransfer kernel{.bRequestType = setup.request_type,
                                     .bRequest = setup.request,
                                     .wValue = setup.value,
                                     .wIndex = setup.index,
                                     .wLength = transfer.length,
                                     .timeout = transfer.timeout_ms,
                                     .data = data.data()};
        result = device_->ioctl(USBDEVFS_CONTROL, &kernel);
    }
    counters.end(result < 0, static_cast<uint64_t>(std::max(result, 0)), context_.now_ns() - began);
    if (result <= 0 || !setup.to_host()) return result;
    const int error = call.memory.write(transfer.data, std::span(data).first(static_cast<size_t>(result)));
    return error != 0 ? error : result;
}

int Session::bulk(const Call& call) {
    std::array<std::byte, sizeof(usbdevfs_bulktransfer)> header{};
    const auto header_span = std::span(header).first(call.header_bytes);
    if (const int error = call.memory.read(call.argument, header_span); error != 0) return error;
    const BulkTransfer transfer = decode_bulk(header_span, call.layout);
    if (!context_.filter.endpoint_allowed(static_cast<uint8_t>(transfer.endpoint), configuration_)) return -ENOENT;
    if (transfer.length >= longest_bulk) return -EINVAL;
    const bool to_host = (transfer.endpoint & 0x80) != 0;
    if (to_host && transfer.length > call.memory.write_limit()) return -ENOMEM;
    auto buffer = pool_.take(transfer.length);
    if (buffer.memory == nullptr) return -ENOMEM;
    const std::unique_ptr<void, std::function<void(void*)>> back(buffer.memory,
                                                                 [this, buffer](void*) { pool_.give(buffer); });
    const std::span data(buffer.memory, buffer.length);
    if (to_host) {
        call.memory.announce_write(transfer.data, data.size());
    } else if (const int error = call.memory.read(transfer.data, data); error != 0) {
        return error;
    }
    if (const int error = call.memory.ready(); error != 0) return error;

    auto& counters = context_.statistics.of(Traffic::bulk);
    const uint64_t began = context_.now_ns();
    counters.begin();
    usbdevfs_bulktransfer kernel{
        .ep = transfer.endpoint, .len = transfer.length, .timeout = transfer.timeout_ms, .data = data.data()};
    const int result = device_->ioctl(USBDEVFS_BULK, &kernel);
    counters.end(result < 0, static_cast<uint64_t>(std::max(result, 0)), context_.now_ns() - began);
    if (result <= 0 || !to_host) return result;
    const int error = call.memory.write(transfer.data, data.first(static_cast<size_t>(result)));
    return error != 0 ? error : result;
}

int Session::claim(const Call& call, bool release) {
    uint32_t interface = 0;
    if (const int error = call.memory.read(call.argument, bytes_of(interface)); error != 0) return error;
    if (interface <= UINT8_MAX && !context_.filter.interface_allowed(static_cast<uint8_t>(interface))) return -ENOENT;
    const int result = device_->ioctl(release ? USBDEVFS_RELEASEINTERFACE : USBDEVFS_CLAIMINTERFACE, &interface);
    if (result < 0) return result;
    const std::scoped_lock lock(mutex_);
    if (release) {
        claimed_.erase(static_cast<uint8_t>(interface));
    } else {
        claimed_.insert(static_cast<uint8_t>(interface));
    }
    return result;
}

int Session::disconnect_claim(const Call& call) {
    usbdevfs_disconnect_claim request{};
    if (const int error = call.memory.read(call.argument, bytes_of(request)); error != 0) return error;
    const auto number = static_cast<uint8_t>(request.interface);
    if (request.interface <= UINT8_MAX && !context_.filter.interface_allowed(number)) return -ENOENT;
    request.driver[sizeof request.driver - 1] = '\0';
    const int result = device_->ioctl(USBDEVFS_DISCONNECT_CLAIM, &request);
    if (result < 0) return result;
    const std::scoped_lock lock(mutex_);
    claimed_.insert(number);
    return result;
}

int Session::get_driver(const Call& call) {
    usbdevfs_getdriver request{};
    if (const int error = call.memory.read(call.argument, bytes_of(request.interface)); error != 0) return error;
    call.memory.announce_write(call.argument, sizeof request);
    if (const int error = call.memory.ready(); error != 0) return error;
    if (request.interface <= UINT8_MAX && !context_.filter.interface_allowed(static_cast<uint8_t>(request.interface))) {
        return -ENODATA;
    }
    const int result = device_->ioctl(USBDEVFS_GETDRIVER, &request);
    if (result < 0) return result;
    const int error = call.memory.write(call.argument, bytes_of(request));
    return error != 0 ? error : result;
}

/// Host drivers are the arbiter's business: off since the claim, back after its end. A consumer that gives an interface
/// back to them is told that this was done.
int Session::driver_ioctl(const Call& call) {
    std::array<std::byte, sizeof(usbdevfs_ioctl)> header{};
    const auto header_span = std::span(header).first(call.header_bytes);
    if (const int error = call.memory.read(call.argument, header_span); error != 0) return error;
    const DriverIoctl request = decode_driver_ioctl(header_span, call.layout);
    const bool hidden = request.interface < 0 || request.interface > UINT8_MAX ||
                        !context_.filter.interface_allowed(static_cast<uint8_t>(request.interface));
    if (request.code != USBDEVFS_DISCONNECT && request.code != USBDEVFS_CONNECT) return -ENOTTY;
    if (hidden) return -EINVAL;
    if (request.code == USBDEVFS_DISCONNECT) {
        usbdevfs_ioctl kernel{.ifno = request.interface, .ioctl_code = USBDEVFS_DISCONNECT, .data = nullptr};
        return device_->ioctl(USBDEVFS_IOCTL, &kernel);
    }
    usbdevfs_getdriver driver{.interface = static_cast<unsigned>(request.interface), .driver = {}};
    const int bound = device_->ioctl(USBDEVFS_GETDRIVER, &driver);
    if (bound == 0) return -EBUSY;
    return bound == -ENODATA ? 1 : bound;
}

int Session::set_interface(const Call& call) {
    usbdevfs_setinterface request{};
    if (const int error = call.memory.read(call.argument, bytes_of(request)); error != 0) return error;
    if (request.interface <= UINT8_MAX && !context_.filter.interface_allowed(static_cast<uint8_t>(request.interface))) {
        return -ENOENT;
    }
    return device_->ioctl(USBDEVFS_SETINTERFACE, &request);
}

int Session::set_configuration(const Call& call) {
    int value = 0;
    if (const int error = call.memory.read(call.argument, bytes_of(value)); error != 0) return error;
    if (context_.filter.denies(Denial::configuration) && value != configuration_) {
        deny(fmt::format("configuration {} instead of {}", value, configuration_.load()));
        return -EACCES;
    }
    const int result = device_->ioctl(USBDEVFS_SETCONFIGURATION, &value);
    if (result >= 0) configuration_ = value < 0 ? uint8_t{0} : static_cast<uint8_t>(value);
    return result;
}

int Session::endpoint_call(const Call& call, unsigned long number) {
    uint32_t endpoint = 0;
    if (const int error = call.memory.read(call.argument, bytes_of(endpoint)); error != 0) return error;
    if (!context_.filter.endpoint_allowed(static_cast<uint8_t>(endpoint), configuration_)) return -ENOENT;
    return device_->ioctl(number, &endpoint);
}

int Session::streams(const Call& call, unsigned long number) {
    std::array<std::byte, sizeof(usbdevfs_streams) + most_streams_endpoints> request{};
    const auto header = std::span(request).first(sizeof(usbdevfs_streams));
    if (const int error = call.memory.read(call.argument, header); error != 0) return error;
    usbdevfs_streams fixed{};
    std::memcpy(&fixed, header.data(), header.size());
    if (fixed.num_eps < 1 || fixed.num_eps > most_streams_endpoints) return -EINVAL;
    const auto endpoints = std::span(request).subspan(header.size(), fixed.num_eps);
    if (const int error = call.memory.read(call.argument + header.size(), endpoints); error != 0) return error;
    for (const std::byte endpoint : endpoints) {
        if (!context_.filter.endpoint_allowed(static_cast<uint8_t>(endpoint), configuration_)) return -ENOENT;
    }
    return device_->ioctl(number, request.data());
}

int Session::reset() {
    if (context_.filter.denies(Denial::reset)) {
        deny("a reset of the device");
        return -EACCES;
    }
    const int result = device_->ioctl(USBDEVFS_RESET, nullptr);
    return result == -ENODEV && !revoked_ ? come_back() : result;
}

/// After the reset the device has enumerated anew, as one with other descriptors or after an electrical hiccup does:
/// the kernel has a new node for it, and this open goes on there, if it is the same device.
int Session::come_back() {
    // the URBs that the old file still has end there
    UrbPointer urb;
    std::deque<UrbPointer> ended;
    while (next_completed(false, urb) == 0) ended.push_back(std::move(urb));
    {
        const std::scoped_lock lock(mutex_);
        completed_.insert(completed_.begin(), ended.begin(), ended.end());
        local_completions_ = completed_.size();
    }
    end_in_flight();
    if (const int error = device_->reopen(); error != 0) return error;
    std::set<uint8_t> claimed;
    {
        const std::scoped_lock lock(mutex_);
        claimed = claimed_;
    }
    for (const uint8_t number : claimed) {
        uint32_t interface = number;
        if (const int error = device_->ioctl(USBDEVFS_CLAIMINTERFACE, &interface); error < 0) return error;
    }
    return 0;
}

}  // namespace storctl::node::usbfs
