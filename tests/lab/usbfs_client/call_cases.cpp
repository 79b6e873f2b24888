#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr uint8_t get_status = 0, get_descriptor = 6, device_descriptor = 1, string_descriptor = 3;
constexpr size_t over_the_limit = size_t{64} << 20;  // usbcore.usbfs_memory_mb is 16

std::string received(long result, std::span<const std::byte> data) {
    if (result < 0) return outcome(result);
    return content(data.first(static_cast<size_t>(result)));
}

void control_transfers(const RawNode& node) {
    std::vector<std::byte> data(255);
    const auto descriptor = [&](uint8_t type, uint16_t index, size_t bytes) {
        std::fill(data.begin(), data.end(), std::byte{0});
        const uint16_t language = type == string_descriptor ? 0x409 : 0;
        return received(node.control(0x80, get_descriptor, static_cast<uint16_t>(type << 8 | index), language,
                                     std::span(data).first(bytes)),
                        data);
    };
    report("control.device_descriptor", descriptor(device_descriptor, 0, 18));
    report("control.part", descriptor(device_descriptor, 0, 8));
    report("control.short", descriptor(device_descriptor, 0, 64));
    for (uint16_t index = 0; index < 6; ++index)
        report(fmt::format("control.string_{}", index), descriptor(string_descriptor, index, 255));
    report("control.status", received(node.control(0x80, get_status, 0, 0, std::span(data).first(2)), data));
    report("control.max_lun", received(node.control(0xa1, 0xfe, 0, 0, std::span(data).first(1)), data));
    report("control.unknown_vendor", outcome(node.control(0xc0, 0x77, 0, 0, std::span(data).first(4))));
    report("control.unknown_class", outcome(node.control(0x21, 0x77, 0, 0, std::span(data).first(0))));
    report("control.nowhere", outcome(node.control(0x81, get_status, 0, 9, std::span(data).first(2))));
    report("control.no_endpoint", outcome(node.control(0x82, get_status, 0, 0x8e, std::span(data).first(2))));
    std::vector<std::byte> page_and_more(4097);
    report("control.too_long", outcome(node.control(0x80, get_status, 0, 0, page_and_more)));

    usbdevfs_ctrltransfer transfer{.bRequestType = 0x80,
                                   .bRequest = get_descriptor,
                                   .wValue = 0x100,
                                   .wIndex = 0,
                                   .wLength = 18,
                                   .timeout = 1000,
                                   .data = untouchable_page()};
    report("control.bad_data", outcome(node.call(USBDEVFS_CONTROL, &transfer)));
    transfer.data = read_only_page();
    report("control.read_only_data", outcome(node.call(USBDEVFS_CONTROL, &transfer)));
    report("control.bad_pointer", outcome(node.call(USBDEVFS_CONTROL, untouchable_page())));
    report("control.no_pointer", outcome(node.call(USBDEVFS_CONTROL, nullptr)));
}

void bulk_transfers(RawDisk& disk) {
    const RawNode& node = disk.node();
    report("bulk.inquiry", disk.inquire());
    std::vector<std::byte> data(65536);
    report("bulk.read", all_of({disk.run(read_sectors(64, 128), data), compare_pattern(data, 64, 1)}));
    report("bulk.nowhere", outcome(node.bulk(0x8e, data)));
    usbdevfs_bulktransfer transfer{.ep = disk.in(), .len = over_the_limit, .timeout = 100, .data = data.data()};
    report("bulk.too_long", outcome(node.call(USBDEVFS_BULK, &transfer)));
    transfer.len = 0xffffffff;
    report("bulk.far_too_long", outcome(node.call(USBDEVFS_BULK, &transfer)));
    transfer = {.ep = disk.out(), .len = command_wrapper_bytes, .timeout = 1000, .data = untouchable_page()};
    report("bulk.bad_data", outcome(node.call(USBDEVFS_BULK, &transfer)));
    report("bulk.bad_pointer", outcome(node.call(USBDEVFS_BULK, untouchable_page())));

    std::vector<std::byte> nothing(sector_bytes);
    report("bulk.stall", outcome(node.bulk(disk.in(), nothing)));
    unsigned endpoint = disk.in();
    report("bulk.clear_halt", outcome(node.call(USBDEVFS_CLEAR_HALT, &endpoint)));
    report("bulk.unknown_command", disk.run(unknown_command(), nothing));
    std::vector<std::byte> sense(18);
    report("bulk.sense", all_of({disk.run(request_sense(), sense), content(sense)}));
}

void unknown_calls(const std::string& path, const RawNode& node) {
    uint32_t value = 0;
    report("unknown.usbfs", outcome(node.call(_IO('U', 99), nullptr)));
    report("unknown.terminal", outcome(node.call(0x5401, &value)));
    report("unknown.size", outcome(node.call(_IOR('U', 15, uint64_t), &value)));
    // what is not for a consumer of the device
    unsigned port = 1;
    report("withheld.claim_port", outcome(node.call(USBDEVFS_CLAIM_PORT, &port)));
    report("withheld.release_port", outcome(node.call(USBDEVFS_RELEASE_PORT, &port)));
    report("withheld.forbid_suspend", outcome(node.call(USBDEVFS_FORBID_SUSPEND, nullptr)));
    report("withheld.allow_suspend", outcome(node.call(USBDEVFS_ALLOW_SUSPEND, nullptr)));
    usbdevfs_disconnectsignal none{.signr = 0, .context = nullptr};
    report("withheld.disconnect_signal", outcome(node.call(USBDEVFS_DISCSIGNAL, &none)));
    uint32_t all = 0xffffffff;
    report("withheld.drop_privileges", outcome(RawNode(path).call(USBDEVFS_DROP_PRIVILEGES, &all)));
}

}  // namespace

void call_cases(const std::string& path) {
    RawDisk disk(path);
    control_transfers(disk.node());
    bulk_transfers(disk);
    unknown_calls(path, disk.node());
}

}  // namespace storctl::usbfs_client
