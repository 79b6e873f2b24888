// A device that sends isochronous data, some packets short, some missing.

#include <algorithm>
#include <deque>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr uint8_t capture_pipe = 0x81, silent_pipe = 0x82;

Urb capture(int packets, unsigned bytes) {
    Urb urb(USBDEVFS_URB_TYPE_ISO, capture_pipe, static_cast<size_t>(packets) * bytes, packets);
    urb->flags = USBDEVFS_URB_ISO_ASAP;
    for (int packet = 0; packet < packets; ++packet) urb->iso_frame_desc[packet].length = bytes;
    std::ranges::fill(urb.data(), std::byte{0xaa});
    return urb;
}

/// Of all that the buffer holds: gaps between packets count.
std::string captured(Urb& urb) {
    std::vector<std::string> packets;
    for (int packet = 0; packet < urb->number_of_packets; ++packet) {
        const usbdevfs_iso_packet_desc& one = urb->iso_frame_desc[packet];
        packets.push_back(
            fmt::format("{}/{} {}", one.actual_length, one.length, outcome(static_cast<int>(one.status))));
    }
    return fmt::format("{}, {} bytes, {} errors, {}; {}", outcome(urb->status), urb->actual_length, urb->error_count,
                       content(urb.data()), fmt::join(packets, ", "));
}

void in_flight(const RawNode& node, const std::string& name, int packets, unsigned bytes) {
    std::deque<Urb> urbs;
    for (int count = 0; count < 6; ++count) {
        Urb& urb = urbs.emplace_back(capture(packets, bytes));
        report(fmt::format("{}.submit_{}", name, count), outcome(node.submit(urb)));
    }
    for (Urb& urb : urbs)
        report(name, all_of({node.next() == urb.header() ? "in order" : "out of order", captured(urb)}));
}

void refused(const RawNode& node) {
    Urb long_packet = capture(4, 1025);
    report("capture.long_packet", outcome(node.submit(long_packet)));
    Urb no_room = capture(4, 256);
    no_room->buffer = read_only_page();
    report("capture.read_only", outcome(node.submit(no_room)));
    report("capture.read_only_reaped", outcome(node.reap(true).result));
    Urb elsewhere = capture(4, 256);
    elsewhere->endpoint = silent_pipe;
    report("capture.of_interrupt_pipe", outcome(node.submit(elsewhere)));
}

void cancelled(const RawNode& node) {
    Urb silent(USBDEVFS_URB_TYPE_INTERRUPT, silent_pipe, 64);
    report("silent.submit", outcome(node.submit(silent)));
    report("silent.poll", node.poll(POLLOUT, std::chrono::milliseconds{50}));
    report("silent.discard", outcome(node.discard(silent)));
    report("silent.reaped", node.next() == silent.header() ? outcome(silent->status) : "another");
}

}  // namespace

void capture_cases(const std::string& path) {
    const RawNode node(path);
    report("capture.descriptors", content(read_descriptors(node)));
    report("capture.claim", outcome(node.claim(0)));
    Urb early = capture(4, 256);
    report("capture.no_setting", outcome(node.submit(early)));
    usbdevfs_setinterface setting{.interface = 0, .altsetting = 1};
    report("capture.setting", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    in_flight(node, "capture", 8, 192);
    in_flight(node, "capture.large", 32, 1024);
    in_flight(node, "capture.large_again", 32, 1000);  // buffers that have held something else
    in_flight(node, "capture.most_packets", 128, 96);
    refused(node);
    cancelled(node);
    setting.altsetting = 0;
    report("capture.setting_off", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    report("capture.left", outcome(node.reap(false).result));
}

}  // namespace storctl::usbfs_client
