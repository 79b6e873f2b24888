#include "daemon/node/usbfs/session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include <fmt/format.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "base/result.hpp"

namespace storctl::node::usbfs {
namespace {

constexpr uint32_t longest_iso_packet = 98'304;  // devio.c
constexpr uint8_t to_host_bit = 0x80;

std::array<uint8_t, setup_bytes> setup_of(std::span<const std::byte> bytes) {
    std::array<uint8_t, setup_bytes> out{};
    std::memcpy(out.data(), bytes.data(), out.size());
    return out;
}

}  // namespace

bool interruptible(uint32_t number, Layout layout) {
    const auto shape = decode_command(number, layout);
    return shape && shape->command == Command::reap_urb;
}

Session::Session(std::unique_ptr<Device> device, SessionContext context, bool writable)
    : context_(std::move(context)),
      writable_(writable),
      device_(std::move(device)),
      pool_(*device_, context_.budget),
      queue_({.device = *device_,
              .pool = pool_,
              .statistics = context_.statistics,
              .completed = context_.completed,
              .now_ns = context_.now_ns}) {}

Session::~Session() { device_->close(); }

int Session::ioctl(uint32_t number, uint64_t argument, Layout layout, CallerMemory& memory) {
    if (!writable_) return -EPERM;
    const auto shape = decode_command(number, layout);
    const bool reaps = shape && (shape->command == Command::reap_urb || shape->command == Command::reap_urb_no_delay);
    int result = -ENOTTY;
    if (shape && (!revoked_ || reaps)) {
        result = carry_out(shape->command, {argument, shape->header_bytes, layout, memory});
    }
    // the kernel looks whether the device is there before it looks at anything else
    if (result < 0 && !reaps && gone()) result = -ENODEV;
    if (result != CallerMemory::again) {
        context_.statistics.of(Traffic::ioctl).count(result < 0 && result != -EAGAIN, 0);
    }
    return result;
}

int Session::carry_out(Command command, const Call& call) {
    switch (command) {
        case Command::submit_urb:
            return submit(call);
        case Command::reap_urb:
            return reap(call, true);
        case Command::reap_urb_no_delay:
            return reap(call, false);
        case Command::discard_urb:
            return queue_.discard(call.argument);
        case Command::control:
            return control(call);
        case Command::bulk:
            return bulk(call);
        case Command::claim_interface:
            return claim(call, false);
        case Command::release_interface:
            return claim(call, true);
        case Command::disconnect_claim:
            return disconnect_claim(call);
        case Command::driver_ioctl:
            return driver_ioctl(call);
        case Command::get_driver:
            return get_driver(call);
        case Command::set_interface:
            return set_interface(call);
        case Command::set_configuration:
            return set_configuration(call);
        case Command::reset_endpoint:
            return endpoint_call(call, USBDEVFS_RESETEP);
        case Command::clear_halt:
            return endpoint_call(call, USBDEVFS_CLEAR_HALT);
        case Command::alloc_streams:
            return streams(call, USBDEVFS_ALLOC_STREAMS);
        case Command::free_streams:
            return streams(call, USBDEVFS_FREE_STREAMS);
        case Command::get_capabilities:
            return get_capabilities(call);
        case Command::connect_info:
            position_ = 0;
            return give(call, USBDEVFS_CONNECTINFO);
        case Command::connect_info_ex:
            return give(call, USBDEVFS_CONNINFO_EX(std::min(call.header_bytes, sizeof(usbdevfs_conninfo_ex))));
        case Command::get_speed:
            position_ = 0;
            return device_->ioctl(USBDEVFS_GET_SPEED, nullptr);
        case Command::reset:
            return reset();
    }
    return -ENOTTY;
}

std::span<const uint8_t> Session::read(size_t length) {
    const std::span<const uint8_t> all = context_.filter.shown();
    const size_t from = std::min(position_.load(), all.size());
    const auto out = all.subspan(from, std::min(length, all.size() - from));
    position_ = out.empty() ? 0 : from + out.size();
    return out;
}

uint32_t Session::poll() {
    uint32_t events = revoked_ ? POLLHUP : device_->poll();
    // libusb takes POLLERR alone for an unplug, and with POLLHUP alone it would go round and round
    if ((events & POLLHUP) != 0) events |= POLLERR;
    if (writable_ && queue_.has_completed()) events |= POLLOUT | POLLWRNORM;
    return events;
}

bool Session::gone() { return revoked_ || (device_->poll() & POLLHUP) != 0; }

void Session::revoke() {
    if (revoked_.exchange(true)) return;
    device_->close();
    queue_.end();
    pool_.shut();
    device_->wake();
}

void Session::put_back(std::shared_ptr<void> kept) {
    if (kept != nullptr) queue_.put_back(std::static_pointer_cast<Urb>(std::move(kept)));
}

void Session::deny(const std::string& what) { context_.denied(what); }

// ---- URBs

int Session::submit(const Call& call) {
    std::array<std::byte, sizeof(usbdevfs_urb)> header_bytes{};
    const auto header_span = std::span(header_bytes).first(call.header_bytes);
    if (const int error = call.memory.read(call.argument, header_span); error != 0) return error;
    const auto header = decode_urb(header_span, call.layout);
    if (!header || header->buffer_length < 0) return -EINVAL;
    if (header->buffer_length > 0 && header->buffer == 0) return -EINVAL;
    // of control URBs too: the kernel claims the interface that has the endpoint before it looks at the type
    if (!context_.filter.endpoint_allowed(header->endpoint)) return -ENOENT;

    size_t length = static_cast<size_t>(header->buffer_length);
    std::vector<IsoPacket> packets;
    if (header->type == UrbType::isochronous) {
        if (header->number_of_packets < 1 || header->number_of_packets > most_iso_packets) return -EINVAL;
        packets.resize(static_cast<size_t>(header->number_of_packets));
        const auto bytes = std::as_writable_bytes(std::span(packets));
        if (const int error = call.memory.read(call.argument + call.header_bytes, bytes); error != 0) return error;
        const auto too_long = [](const IsoPacket& packet) { return packet.length > longest_iso_packet; };
        if (std::any_of(packets.begin(), packets.end(), too_long)) return -EINVAL;
        length = std::accumulate(packets.begin(), packets.end(), size_t{0},
                                 [](size_t sum, const IsoPacket& packet) { return sum + packet.length; });
    }

    bool to_host = (header->endpoint & to_host_bit) != 0;
    ControlVerdict verdict;
    std::array<std::byte, setup_bytes> setup_copy{};
    if (header->type == UrbType::control) {
        if (length < setup_bytes) return -EINVAL;
        if (const int error = call.memory.read(header->buffer, setup_copy); error != 0) return error;
        const Setup setup = Setup::parse(setup_of(setup_copy));
        if (length < setup_bytes + setup.length) return -EINVAL;
        length = setup_bytes + setup.length;
        to_host = setup.to_host();
        verdict = context_.filter.control(setup);
    }

    const bool stalls = verdict.kind == ControlVerdict::Kind::stall;
    // what a reap writes besides the data; it could not refuse any more
    const size_t besides = 64 + packets.size() * iso_packet_bytes;
    if (to_host && (length > call.memory.write_limit() || length + besides > call.memory.write_limit())) return -ENOMEM;
    const auto buffer = pool_.take(stalls ? 0 : length);
    if (buffer.memory == nullptr) return -ENOMEM;
    const auto urb =
        std::make_shared<Urb>(pool_, buffer, *header, std::move(packets), call.layout, call.argument, to_host);
    if (stalls) {
        deny(verdict.reason);
        queue_.complete(urb, -EPIPE, 0);
        return 0;
    }
    const size_t setup_length = header->type == UrbType::control ? setup_bytes : 0;
    const auto data = urb->buffer().subspan(setup_length);
    std::memcpy(urb->buffer().data(), setup_copy.data(), setup_length);
    if (!to_host) {
        if (const int error = call.memory.read(header->buffer + setup_length, data); error != 0) return error;
    } else if (header->type == UrbType::isochronous) {
        std::fill(data.begin(), data.end(), std::byte{});  // all of it is handed over, gaps between packets too
    }
    if (verdict.kind == ControlVerdict::Kind::allow) return queue_.submit(urb);
    const size_t answered = std::min(verdict.data.size(), data.size());
    std::copy_n(std::as_bytes(std::span(verdict.data)).begin(), answered, data.begin());
    queue_.complete(urb, 0, answered);
    return 0;
}

int Session::reap(const Call& call, bool wait) {
    if (call.memory.kept == nullptr) {
        UrbQueue::UrbPointer urb;
        if (const int error = queue_.reap(wait, urb); error != 0) return error;
        call.memory.kept = urb;
    }
    const auto urb = std::static_pointer_cast<Urb>(call.memory.kept);
    const auto& pieces = urb->result(call.argument, call.layout);
    for (const auto& piece : pieces) {
        if (const int error = call.memory.announce_write(piece.address, piece.bytes.size()); error != 0) return error;
    }
    if (const int error = call.memory.ready(); error != 0) return error;
    return call.memory.write_all(pieces);
}

}  // namespace storctl::node::usbfs
