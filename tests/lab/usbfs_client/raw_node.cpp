#include "tests/lab/usbfs_client/raw_node.hpp"

#include <cerrno>

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr std::chrono::seconds patience{20};

void* page(int protection) {
    void* address = mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) give_up("mmap", -errno);
    return address;
}

}  // namespace

Urb::Urb(uint8_t type, uint8_t endpoint, size_t bytes, int packets)
    : storage_(sizeof(usbdevfs_urb) + static_cast<size_t>(packets) * sizeof(usbdevfs_iso_packet_desc)), data_(bytes) {
    header()->type = type;
    header()->endpoint = endpoint;
    header()->buffer = data_.data();
    header()->buffer_length = static_cast<int>(bytes);
    header()->number_of_packets = packets;
}

RawNode::RawNode(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (!fd_) give_up("open " + path, -errno);
}

long RawNode::try_open(const std::string& path, int flags) {
    const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    return fd ? 0 : -errno;
}

long RawNode::call(unsigned long request, void* argument) const {
    const int result = ioctl(fd(), request, argument);
    return result < 0 ? -errno : result;
}

long RawNode::claim(unsigned interface) const { return call(USBDEVFS_CLAIMINTERFACE, &interface); }

long RawNode::release(unsigned interface) const { return call(USBDEVFS_RELEASEINTERFACE, &interface); }

std::string RawNode::driver(unsigned interface) const {
    usbdevfs_getdriver driver{.interface = interface};
    const long result = call(USBDEVFS_GETDRIVER, &driver);
    return result < 0 ? outcome(result) : driver.driver;
}

long RawNode::detach(unsigned interface) const {
    usbdevfs_ioctl command{.ifno = static_cast<int>(interface), .ioctl_code = USBDEVFS_DISCONNECT, .data = nullptr};
    return call(USBDEVFS_IOCTL, &command);
}

RawNode::Reaped RawNode::reap(bool block) const {
    Reaped reaped;
    reaped.result = call(block ? USBDEVFS_REAPURB : USBDEVFS_REAPURBNDELAY, &reaped.urb);
    return reaped;
}

usbdevfs_urb* RawNode::next() const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
        const Reaped reaped = reap(false);
        if (reaped.result >= 0) return reaped.urb;
        if (reaped.result != -EAGAIN) give_up("reap", reaped.result);
        if (std::chrono::steady_clock::now() > deadline) give_up("reap", -ETIMEDOUT);
        poll(POLLOUT, std::chrono::milliseconds(patience));
    }
}

std::string RawNode::poll(short events, std::chrono::milliseconds limit) const {
    pollfd polled{.fd = fd(), .events = events, .revents = 0};
    const int count = ::poll(&polled, 1, static_cast<int>(limit.count()));
    if (count < 0) return outcome(-errno);
    return fmt::format("{:#x}", static_cast<unsigned>(polled.revents));
}

long RawNode::control(uint8_t type, uint8_t request, uint16_t value, uint16_t index, std::span<std::byte> data,
                      unsigned timeout_ms) const {
    usbdevfs_ctrltransfer transfer{.bRequestType = type,
                                   .bRequest = request,
                                   .wValue = value,
                                   .wIndex = index,
                                   .wLength = static_cast<uint16_t>(data.size()),
                                   .timeout = timeout_ms,
                                   .data = data.data()};
    return call(USBDEVFS_CONTROL, &transfer);
}

long RawNode::bulk(uint8_t endpoint, std::span<std::byte> data, unsigned timeout_ms) const {
    usbdevfs_bulktransfer transfer{
        .ep = endpoint, .len = static_cast<unsigned>(data.size()), .timeout = timeout_ms, .data = data.data()};
    return call(USBDEVFS_BULK, &transfer);
}

void* untouchable_page() {
    static void* const address = page(PROT_NONE);
    return address;
}

void* read_only_page() {
    static void* const address = page(PROT_READ);
    return address;
}

}  // namespace storctl::usbfs_client
