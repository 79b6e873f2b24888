#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>

#include <fmt/format.h>
#include <libusb.h>
#include <poll.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/libusb_disk.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

using namespace std::chrono_literals;

constexpr uint8_t mouse_pipe = 0x81, sound_pipe = 0x01;
constexpr size_t report_bytes = 4;

void motion(const RawNode& node, const std::string& stimulus) {
    std::deque<Urb> urbs;
    for (int count = 0; count < 4; ++count)
        node.submit(urbs.emplace_back(USBDEVFS_URB_TYPE_INTERRUPT, mouse_pipe, report_bytes));
    report("input.stimulus", std::to_string(std::system(stimulus.c_str())));
    Urb& first = urbs.front();
    usbdevfs_urb* const reaped = node.next();
    report("input.event", fmt::format("{}, {}, {}", reaped == first.header() ? "the first" : "another",
                                      outcome(reaped->status), content(first.received())));
    // the others get what still comes of the one event, or nothing
    std::string ends;
    for (auto urb = urbs.rbegin(); urb + 1 != urbs.rend(); ++urb) node.discard(*urb);
    for (int count = 0; count < 3; ++count) node.next();
    report("input.left", outcome(node.reap(false).result));
}

void mouse_by_libusb(const std::string& path) {
    LibusbNode node(path);
    libusb_set_auto_detach_kernel_driver(node.handle(), 1);
    report("input.libusb_claim", libusb_outcome(libusb_claim_interface(node.handle(), 0)));
    std::array<unsigned char, report_bytes> data{};
    int length = 0;
    const int result =
        libusb_interrupt_transfer(node.handle(), mouse_pipe, data.data(), static_cast<int>(data.size()), &length, 300);
    report("input.libusb_timeout", fmt::format("{}, {} bytes", libusb_outcome(result), length));
    std::array<unsigned char, 128> descriptor{};
    const int got =
        libusb_control_transfer(node.handle(), 0x81, 6, 0x2200, 0, descriptor.data(), descriptor.size(), 1000);
    report(
        "input.report_descriptor",
        got < 0 ? libusb_outcome(got) : content(std::as_bytes(std::span(descriptor).first(static_cast<size_t>(got)))));
}

constexpr int packets = 16;
constexpr unsigned packet_bytes = 192;

Urb sound(int count_of_packets = packets, unsigned bytes = packet_bytes) {
    Urb urb(USBDEVFS_URB_TYPE_ISO, sound_pipe, static_cast<size_t>(count_of_packets) * bytes, count_of_packets);
    urb->flags = USBDEVFS_URB_ISO_ASAP;
    for (int packet = 0; packet < count_of_packets; ++packet) urb->iso_frame_desc[packet].length = bytes;
    for (size_t at = 0; at < urb.data().size(); ++at) urb.data()[at] = std::byte(at * 7);
    return urb;
}

std::string packets_of(Urb& urb) {
    unsigned sent = 0, bytes = 0, failed = 0;
    for (int packet = 0; packet < urb->number_of_packets; ++packet) {
        const usbdevfs_iso_packet_desc& one = urb->iso_frame_desc[packet];
        sent += one.status == 0 ? 1 : 0;
        failed += one.status != 0 ? 1 : 0;
        bytes += one.actual_length;
    }
    return fmt::format("{}, {} packets, {} failed, {} bytes, {} errors", outcome(urb->status), sent, failed, bytes,
                       urb->error_count);
}

void refused_sound(const RawNode& node) {
    const auto attempt = [&](const char* name, Urb urb, auto&& change) {
        change(urb);
        report(fmt::format("sound.refused.{}", name), outcome(node.submit(urb)));
    };
    attempt("no_packets", sound(), [](Urb& urb) { urb->number_of_packets = 0; });
    attempt("too_many_packets", sound(129), [](Urb&) {});
    attempt("negative_packets", sound(), [](Urb& urb) { urb->number_of_packets = -1; });
    attempt("long_packet", sound(), [](Urb& urb) { urb->iso_frame_desc[3].length = 0x20000; });
    attempt("stream", sound(), [](Urb& urb) { urb->endpoint = 0x8e; });
    attempt("as_bulk", sound(), [](Urb& urb) { urb->type = USBDEVFS_URB_TYPE_BULK; });
}

}  // namespace

void input_cases(const std::string& path, const std::string& stimulus) {
    {
        const RawNode node(path);
        report("input.descriptors", content(read_descriptors(node)));
        report("input.driver", node.driver(0));
        report("input.detach", outcome(node.detach(0)));
        report("input.claim", outcome(node.claim(0)));
        std::array<std::byte, 1> idle{};
        report("input.set_idle", outcome(node.control(0x21, 0x0a, 0, 0, std::span(idle).first(0))));
        Urb quiet(USBDEVFS_URB_TYPE_INTERRUPT, mouse_pipe, report_bytes);
        report("input.quiet", all_of({outcome(node.submit(quiet)), node.poll(POLLOUT, 100ms)}));
        report("input.discard", outcome(node.discard(quiet)));
        report("input.discarded", outcome(node.next()->status));
        Urb as_bulk(USBDEVFS_URB_TYPE_BULK, mouse_pipe, report_bytes);
        report("input.as_bulk", outcome(node.submit(as_bulk)));
        node.discard(as_bulk);
        report("input.as_bulk_reaped", outcome(node.next()->status));
        report("input.as_bulk_type", std::to_string(as_bulk->type));
        motion(node, stimulus);
    }
    mouse_by_libusb(path);
}

void sound_cases(const std::string& path) {
    const RawNode node(path);
    report("sound.descriptors", content(read_descriptors(node)));
    for (unsigned interface : {0U, 1U}) {
        report("sound.detach", outcome(node.detach(interface)));
        report("sound.claim", outcome(node.claim(interface)));
    }
    Urb early = sound();
    report("sound.no_setting", outcome(node.submit(early)));
    usbdevfs_setinterface setting{.interface = 1, .altsetting = 1};
    report("sound.setting", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    std::deque<Urb> urbs;
    for (int count = 0; count < 4; ++count)
        report(fmt::format("sound.submit_{}", count), outcome(node.submit(urbs.emplace_back(sound()))));
    for (int count = 0; count < 4; ++count) {
        usbdevfs_urb* const reaped = node.next();
        report(fmt::format("sound.reaped_{}", count),
               (reaped == urbs[static_cast<size_t>(count)].header() ? "in order, " : "out of order, ") +
                   packets_of(urbs[static_cast<size_t>(count)]));
    }
    refused_sound(node);
    Urb last = sound(128, 16);
    report("sound.most_packets", outcome(node.submit(last)));
    report("sound.most_packets_reaped", node.next() == last.header() ? packets_of(last) : "another");
    setting.altsetting = 0;
    report("sound.setting_off", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    report("sound.after", outcome(node.reap(false).result));
}

}  // namespace storctl::usbfs_client
