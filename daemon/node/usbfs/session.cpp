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

bool failed(int status) { return status != 0 && status != -ENOENT && status != -ECONNRESET; }

std::array<uint8_t, setup_bytes> setup_of(std::span<const std::byte> bytes) {
    std::array<uint8_t, setup_bytes> out{};
    std::memcpy(out.data(), bytes.data(), out.size());
    return out;
}

}  // namespace

bool may_wait(Command command) {
    switch (command) {
        case Command::submit_urb:
        case Command::reap_urb_no_delay:
        case Command::get_driver:
        case Command::connect_info:
        case Command::connect_info_ex:
        case Command::get_capabilities:
        case Command::get_speed:
            return false;
        case Command::control:
        case Command::bulk:
        case Command::reset_endpoint:
        case Command::set_interface:
        case Command::set_configuration:
        case Command::discard_urb:
        case Command::reap_urb:
        case Command::claim_interface:
        case Command::release_interface:
        case Command::driver_ioctl:
        case Command::reset:
        case Command::clear_halt:
        case Command::disconnect_claim:
        case Command::alloc_streams:
        case Command::free_streams:
            return true;
    }
    return true;
}

Session::Session(std::unique_ptr<Device> device, SessionContext context, bool writable, uint8_t configuration)
    : context_(std::move(context)),
      writable_(writable),
      device_(std::move(device)),
      pool_(*device_),
      configuration_(configuration) {}

Session::~Session() {
    device_->close();
    for (const auto& urb : in_flight_) context_.statistics.of(urb->traffic()).abandon();
    for (const auto& urb : completed_) context_.statistics.of(urb->traffic()).abandon();
}

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
            return discard(call);
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
            return give(call, USBDEVFS_CONNINFO_EX(std::min(call.header_bytes, most_given)));
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
    if (writable_ && local_completions_ > 0) events |= POLLOUT | POLLWRNORM;
    return events;
}

bool Session::gone() { return revoked_ || (device_->poll() & POLLHUP) != 0; }

void Session::revoke() {
    if (revoked_.exchange(true)) return;
    device_->close();
    end_in_flight();
    pool_.shut();
    device_->wake();
}

/// What the device will not complete any more. A thread that is about to submit one finds the device closed.
void Session::end_in_flight() {
    std::list<UrbPointer> left;
    {
        const std::scoped_lock lock(mutex_);
        left.swap(in_flight_);
        for (const auto& urb : left) {
            if (!urb->submitting) urb->drop_buffer();
        }
    }
    for (const auto& urb : left) complete_locally(urb, -ENODEV, 0);
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
    if (!context_.filter.endpoint_allowed(header->endpoint, configuration_)) return -ENOENT;

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
        verdict = context_.filter.control(setup, configuration_);
    }

    // what a reap writes besides the data; it could not refuse any more
    const size_t besides = 64 + packets.size() * iso_packet_bytes;
    if (to_host && (length > call.memory.write_limit() || length + besides > call.memory.write_limit())) return -ENOMEM;
    const auto buffer = pool_.take(length);
    if (buffer.memory == nullptr) return -ENOMEM;
    const auto urb =
        std::make_shared<Urb>(pool_, buffer, *header, std::move(packets), call.layout, call.argument, to_host);
    const size_t setup_length = header->type == UrbType::control ? setup_bytes : 0;
    const auto data = urb->buffer().subspan(setup_length);
    std::memcpy(urb->buffer().data(), setup_copy.data(), setup_length);
    if (!to_host) {
        if (const int error = call.memory.read(header->buffer + setup_length, data); error != 0) return error;
    } else if (header->type == UrbType::isochronous) {
        std::fill(data.begin(), data.end(), std::byte{});  // all of it is handed over, gaps between packets too
    }

    urb->submitted_ns = context_.now_ns();
    if (verdict.kind == ControlVerdict::Kind::allow) return submit_to_device(urb);
    context_.statistics.of(urb->traffic()).begin();
    if (verdict.kind == ControlVerdict::Kind::stall) {
        deny(verdict.reason);
        complete_locally(urb, -EPIPE, 0);
        return 0;
    }
    const size_t answered = std::min(verdict.data.size(), data.size());
    std::copy_n(std::as_bytes(std::span(verdict.data)).begin(), answered, data.begin());
    complete_locally(urb, 0, answered);
    return 0;
}

int Session::submit_to_device(const UrbPointer& urb) {
    auto& counters = context_.statistics.of(urb->traffic());
    {
        const std::scoped_lock lock(mutex_);
        urb->submitting = true;
        in_flight_.push_back(urb);
    }
    counters.begin();
    int result = device_->ioctl(USBDEVFS_SUBMITURB, urb->kernel());
    // our own spare buffers count against the kernel's limit as well
    if (result == -ENOMEM && pool_.trim()) result = device_->ioctl(USBDEVFS_SUBMITURB, urb->kernel());
    const std::scoped_lock lock(mutex_);
    urb->submitting = false;
    if (revoked_) urb->drop_buffer();
    if (result >= 0) return result;
    counters.abandon();
    in_flight_.remove(urb);
    local_completions_ -= std::erase(completed_, urb);
    return result;
}

void Session::complete_locally(const UrbPointer& urb, int status, size_t actual_length) {
    urb->complete(status, actual_length);
    {
        const std::scoped_lock lock(mutex_);
        completed_.push_back(urb);
        ++local_completions_;
    }
    device_->wake();
    context_.completed();
}

int Session::discard(const Call& call) {
    UrbPointer urb;  // kept, so that its address is no other's meanwhile
    {
        const std::scoped_lock lock(mutex_);
        const auto found = std::find_if(in_flight_.begin(), in_flight_.end(),
                                        [&](const UrbPointer& one) { return one->user_address() == call.argument; });
        if (found == in_flight_.end()) return -EINVAL;
        urb = *found;
    }
    return device_->ioctl(USBDEVFS_DISCARDURB, urb->kernel());
}

/// The next URB that is completed, out of the lists.
int Session::next_completed(bool wait, UrbPointer& urb) {
    for (;;) {
        {
            const std::scoped_lock lock(mutex_);
            if (!completed_.empty()) {
                urb = completed_.front();
                completed_.pop_front();
                --local_completions_;
                return 0;
            }
        }
        if (revoked_) return -ENODEV;
        usbdevfs_urb* kernel = nullptr;
        const int result = device_->ioctl(USBDEVFS_REAPURBNDELAY, static_cast<void*>(&kernel));
        if (result == 0) {
            const std::scoped_lock lock(mutex_);
            const auto found = std::find_if(in_flight_.begin(), in_flight_.end(),
                                            [&](const UrbPointer& one) { return one->kernel() == kernel; });
            if (found == in_flight_.end()) continue;  // revoked at this moment: among the completed ones now
            urb = std::move(*found);
            in_flight_.erase(found);
            return 0;
        }
        if (result != -EAGAIN || !wait) return result;
        if (const int error = device_->wait(); error != 0) return error;
    }
}

int Session::reap(const Call& call, bool wait) {
    if (call.memory.kept == nullptr) {
        UrbPointer urb;
        if (const int error = next_completed(wait, urb); error != 0) return error;
        context_.statistics.of(urb->traffic())
            .end(failed(urb->status()), urb->actual_length(), context_.now_ns() - urb->submitted_ns);
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
