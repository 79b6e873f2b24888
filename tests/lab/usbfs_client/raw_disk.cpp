#include "tests/lab/usbfs_client/raw_disk.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <linux/usb/ch9.h>

#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {

std::vector<std::byte> read_descriptors(const RawNode& node, size_t piece) {
    std::vector<std::byte> all, buffer(piece);
    while (true) {
        const ssize_t got = ::read(node.fd(), buffer.data(), buffer.size());
        if (got < 0) give_up("read", -errno);
        all.insert(all.end(), buffer.begin(), buffer.begin() + got);
        if (static_cast<size_t>(got) < piece) return all;
    }
}

RawDevice::RawDevice(const std::string& path) : node_(path) {
    const auto descriptors = read_descriptors(node_);
    for (size_t at = 0; at + USB_DT_ENDPOINT_SIZE <= descriptors.size();) {
        const auto length = static_cast<size_t>(descriptors[at]);
        if (length < 2) break;
        if (static_cast<uint8_t>(descriptors[at + 1]) == USB_DT_ENDPOINT) {
            const auto address = static_cast<uint8_t>(descriptors[at + 2]);
            ((address & USB_DIR_IN) != 0 ? in_ : out_) = address;
        }
        at += length;
    }
    claim();
}

void RawDevice::claim() {
    node_.detach(0);  // ENODATA when the host has no driver on it
    if (const long result = node_.claim(0); result != 0) give_up("claim", result);
}

Urb RawDisk::outgoing(const ScsiCommand& command) {
    Urb urb(USBDEVFS_URB_TYPE_BULK, out(), command_wrapper_bytes);
    std::ranges::copy(wrap(command, ++tag_), urb.data().begin());
    return urb;
}

std::string RawDisk::run(const ScsiCommand& command, std::span<std::byte> data) {
    auto wrapper = wrap(command, ++tag_);
    const long sent = node().bulk(out(), wrapper);
    const long moved = node().bulk(command.to_host ? in() : out(), data);
    std::vector<std::byte> status(status_wrapper_bytes);
    const long got = node().bulk(in(), status);
    return fmt::format(
        "{}, {}, {}", outcome(sent), outcome(moved),
        got < 0 ? outcome(got) : describe_status(std::span(status).first(static_cast<size_t>(got)), tag_));
}

std::string RawDisk::inquire() {
    std::vector<std::byte> data(36);
    const std::string result = run(inquiry(), data);
    return fmt::format("{}, {}", result, content(data));
}

}  // namespace storctl::usbfs_client
