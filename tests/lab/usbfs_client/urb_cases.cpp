#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <poll.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

std::string describe(usbdevfs_urb* urb) {
    return fmt::format("{} {} bytes, {} errors", outcome(urb->status), urb->actual_length, urb->error_count);
}

/// Submits and reaps it.
std::string outcome_of(const RawNode& node, Urb& urb) {
    const long submitted = node.submit(urb);
    if (submitted < 0) return outcome(submitted);
    usbdevfs_urb* const reaped = node.next();
    return reaped == urb.header() ? describe(reaped) : "another URB";
}

/// A command and its data in flight at once, then the status: QEMU's disk does not always answer when that waits too.
std::string at_once(RawDisk& disk, const ScsiCommand& command, Urb& data) {
    const RawNode& node = disk.node();
    Urb wrapper = disk.outgoing(command);
    std::string result = all_of({outcome(node.submit(wrapper)), outcome(node.submit(data))}) + "; ";
    for (int count = 0; count < 2; ++count) {
        usbdevfs_urb* const urb = node.next();
        result += (urb == wrapper.header() ? "command " : "data ") + describe(urb) + "; ";
    }
    Urb status = disk.incoming(status_wrapper_bytes);
    result += outcome_of(node, status);
    return all_of({result, describe_status(status.received(), disk.tag())});
}

void transfers(RawDisk& disk) {
    Urb device(USBDEVFS_URB_TYPE_CONTROL, 0, 8 + 18);
    const uint8_t setup[] = {0x80, 6, 0, 1, 0, 0, 18, 0};
    std::ranges::copy(std::as_bytes(std::span(setup)), device.data().begin());
    device->usercontext = &disk;
    report("urb.control", all_of({outcome_of(disk.node(), device), content(device.data())}));
    report("urb.untouched", fmt::format("{}", device->usercontext == &disk && device->endpoint == 0 &&
                                                  device->buffer == device.data().data()));
    Urb vendor(USBDEVFS_URB_TYPE_CONTROL, 0, 8);
    vendor.data()[0] = std::byte{0x40};
    vendor.data()[1] = std::byte{0x77};
    report("urb.control_stall", outcome_of(disk.node(), vendor));
    for (const uint16_t sectors : {1, 8, 128, 256, 2048}) {
        Urb data = disk.incoming(sectors * sector_bytes);
        report(fmt::format("urb.read_{}", sectors),
               all_of({at_once(disk, read_sectors(9, sectors), data), compare_pattern(data.data(), 9, 1)}));
    }
    Urb longer = disk.incoming(512);
    report("urb.short", all_of({at_once(disk, inquiry(), longer), content(longer.received())}));
    Urb strict = disk.incoming(512);
    strict->flags = USBDEVFS_URB_SHORT_NOT_OK;
    report("urb.short_not_ok", all_of({at_once(disk, inquiry(), strict), content(strict.received())}));
    report("urb.after_short", disk.inquire());
}

void refused(RawDisk& disk) {
    const RawNode& node = disk.node();
    const auto attempt = [&](const char* name, auto&& change) {
        Urb urb = disk.incoming(512);
        change(urb);
        report(fmt::format("urb.refused.{}", name), outcome(node.submit(urb)));
    };
    attempt("type", [](Urb& urb) { urb->type = 9; });
    attempt("flags", [](Urb& urb) { urb->flags = 0x4000; });
    attempt("endpoint", [](Urb& urb) { urb->endpoint = 0x8e; });
    attempt("no_buffer", [](Urb& urb) { urb->buffer = nullptr; });
    attempt("negative_length", [](Urb& urb) { urb->buffer_length = -1; });
    attempt("over_the_limit", [](Urb& urb) { urb->buffer_length = 64 << 20; });
    attempt("isochronous", [](Urb& urb) { urb->type = USBDEVFS_URB_TYPE_ISO; });
    attempt("interrupt", [](Urb& urb) { urb->type = USBDEVFS_URB_TYPE_INTERRUPT; });
    attempt("control_on_bulk", [](Urb& urb) { urb->type = USBDEVFS_URB_TYPE_CONTROL; });
    attempt("short_control", [](Urb& urb) {
        urb->type = USBDEVFS_URB_TYPE_CONTROL;
        urb->endpoint = 0;
        urb->buffer_length = 7;
    });
    attempt("control_length", [](Urb& urb) {
        urb->type = USBDEVFS_URB_TYPE_CONTROL;
        urb->endpoint = 0;
        urb.data()[6] = std::byte{255};
        urb.data()[7] = std::byte{255};
    });
    attempt("bad_data", [&](Urb& urb) {
        urb->endpoint = disk.out();
        urb->buffer = untouchable_page();
    });
    report("urb.refused.bad_pointer", outcome(node.call(USBDEVFS_SUBMITURB, untouchable_page())));
    report("urb.refused.no_pointer", outcome(node.call(USBDEVFS_SUBMITURB, nullptr)));
    report("reap.nothing", outcome(node.reap(false).result));
    report("reap.nothing_bad_pointer", outcome(node.call(USBDEVFS_REAPURBNDELAY, untouchable_page())));
}

void bad_memory_at_the_end(RawDisk& disk) {
    const RawNode& node = disk.node();
    const auto reaped = [&](const char* name, auto&& change) {
        Urb wrapper = disk.outgoing(inquiry()), data = disk.incoming(36), status = disk.incoming(status_wrapper_bytes);
        change(data);
        std::string result;
        for (Urb* urb : {&wrapper, &data, &status}) {
            result += outcome(node.submit(*urb)) + " ";
            node.poll(POLLOUT, std::chrono::seconds{20});
            result += outcome(node.reap(false).result) + "; ";
        }
        report(fmt::format("urb.bad_end.{}", name), result + outcome(node.reap(false).result));
    };
    reaped("data", [](Urb& urb) { urb->buffer = untouchable_page(); });
    reaped("read_only_data", [](Urb& urb) { urb->buffer = read_only_page(); });
    report("urb.bad_end.after", disk.inquire());
}

}  // namespace

void urb_cases(const std::string& path) {
    RawDisk disk(path);
    transfers(disk);
    refused(disk);
    bad_memory_at_the_end(disk);
}

}  // namespace storctl::usbfs_client
