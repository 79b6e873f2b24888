#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <libusb.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/libusb_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr uint32_t written_area = 8192;  ///< the sectors from here on are written to
constexpr uint32_t written_seed = 7;

unsigned char* bytes_of(std::span<std::byte> data) { return reinterpret_cast<unsigned char*>(data.data()); }

void description(const LibusbNode& node) {
    libusb_device* const device = libusb_get_device(node.handle());
    report("libusb.bus", std::to_string(libusb_get_bus_number(device)));
    report("libusb.speed", std::to_string(libusb_get_device_speed(device)));
    libusb_device_descriptor descriptor{};
    report("libusb.device", all_of({libusb_outcome(libusb_get_device_descriptor(device, &descriptor)),
                                    content(std::as_bytes(std::span(&descriptor, 1)))}));
    for (const uint8_t index : {descriptor.iManufacturer, descriptor.iProduct, descriptor.iSerialNumber}) {
        std::array<unsigned char, 128> text{};
        const int length = libusb_get_string_descriptor_ascii(node.handle(), index, text.data(), text.size());
        report("libusb.string",
               fmt::format("{} {}", libusb_outcome(length), reinterpret_cast<const char*>(text.data())));
    }
    int configuration = 0;
    const int result = libusb_get_configuration(node.handle(), &configuration);
    report("libusb.configuration", fmt::format("{}, {}", libusb_outcome(result), configuration));
    report("libusb.packet", libusb_outcome(libusb_get_max_packet_size(device, node.bulk_pipes().in)));
    unsigned char* const memory = libusb_dev_mem_alloc(node.handle(), 4096);
    report("libusb.device_memory", memory != nullptr ? "some" : "none");
    if (memory != nullptr) libusb_dev_mem_free(node.handle(), memory, 4096);
}

void claims(const LibusbNode& node) {
    report("libusb.driver", libusb_outcome(libusb_kernel_driver_active(node.handle(), 0)));
    report("libusb.detach", libusb_outcome(libusb_detach_kernel_driver(node.handle(), 0)));
    report("libusb.claim", libusb_outcome(libusb_claim_interface(node.handle(), 0)));
    report("libusb.release", libusb_outcome(libusb_release_interface(node.handle(), 0)));
    report("libusb.auto_detach", libusb_outcome(libusb_set_auto_detach_kernel_driver(node.handle(), 1)));
    report("libusb.claim_auto", libusb_outcome(libusb_claim_interface(node.handle(), 0)));
    report("libusb.driver_claimed", libusb_outcome(libusb_kernel_driver_active(node.handle(), 0)));
    report("libusb.setting", libusb_outcome(libusb_set_interface_alt_setting(node.handle(), 0, 0)));
}

void sectors(LibusbDisk& disk) {
    std::vector<std::byte> data(36);
    report("scsi.inquiry", all_of({disk.run(inquiry(), data), content(data)}));
    data.resize(8);
    report("scsi.capacity", all_of({disk.run(read_capacity(), data), content(data)}));
    uint32_t first = 3;
    for (const uint16_t count : {1, 2, 8, 32, 128, 240, 256, 512, 1024, 2048}) {
        data.assign(count * sector_bytes, std::byte{0});
        const std::string result = disk.run(read_sectors(first, count), data);
        report(fmt::format("scsi.read_{}", count), all_of({result, compare_pattern(data, first, 1)}));
        first += count;
    }
    first = written_area;
    for (const uint16_t count : {1, 2, 8, 32, 128, 240, 256, 512, 1024, 2048}) {
        data.resize(count * sector_bytes);
        fill_pattern(data, first, written_seed);
        const std::string written = disk.run(write_sectors(first, count), data);
        std::vector<std::byte> back(data.size());
        const std::string read = disk.run(read_sectors(first, count), back);
        report(fmt::format("scsi.write_{}", count),
               fmt::format("{}; {}; {}", written, read, compare_pattern(back, first, written_seed)));
        first += count;
    }
}

void queued(LibusbDisk& disk) {
    struct Shape {
        size_t pieces;
        uint16_t piece_sectors;
    };
    for (const auto& [pieces, piece_sectors] : {Shape{8, 32}, Shape{2, 128}, Shape{60, 8}, Shape{120, 1}})
        for (uint32_t round = 0; round < 4; ++round) {
            const uint32_t first = 17 + round * 101;
            const auto count = static_cast<uint16_t>(pieces * piece_sectors);
            std::vector<std::byte> data(count * sector_bytes);
            const std::string result = disk.run_queued(read_sectors(first, count), data, pieces);
            report(fmt::format("queued.read_{}x{}.{}", pieces, piece_sectors, round),
                   all_of({result, compare_pattern(data, first, 1)}));
        }
    std::vector<std::byte> data(120 * sector_bytes);
    fill_pattern(data, written_area, written_seed);
    report("queued.write", disk.run_queued(write_sectors(written_area, 120), data, 120));
}

void recovery(LibusbDisk& disk) {
    for (int round = 0; round < 2; ++round) {
        std::vector<std::byte> data(sector_bytes), sense(18);
        // the disk has nothing to send before it has a command
        int length = 0;
        const int result =
            libusb_bulk_transfer(disk.node().handle(), disk.pipes().in, bytes_of(data), sector_bytes, &length, 5000);
        report("stall", fmt::format("{}, {} bytes", libusb_outcome(result), length));
        report("stall.clear", libusb_outcome(libusb_clear_halt(disk.node().handle(), disk.pipes().in)));
        report("stall.unknown_command", disk.run(unknown_command(), data));
        report("stall.sense", all_of({disk.run(request_sense(), sense), content(sense)}));
        report("stall.read", all_of({disk.run(read_sectors(5, 1), data), compare_pattern(data, 5, 1)}));
    }
    std::vector<std::byte> data(4);
    report("control.stall",
           libusb_outcome(libusb_control_transfer(disk.node().handle(), 0xc0, 0x77, 0, 0, bytes_of(data), 4, 1000)));
}

void cancelled(const LibusbNode& node) {
    struct Count {
        int done = 0, cancelled = 0, bytes = 0;
    } count;
    std::vector<std::vector<std::byte>> buffers(6, std::vector<std::byte>(16384));
    std::vector<libusb_transfer*> transfers;
    std::string submitted, cancels;
    for (auto& buffer : buffers) {
        auto* const transfer = transfers.emplace_back(libusb_alloc_transfer(0));
        libusb_fill_bulk_transfer(
            transfer, node.handle(), node.bulk_pipes().in, bytes_of(buffer), static_cast<int>(buffer.size()),
            [](libusb_transfer* done) {
                auto& counted = *static_cast<Count*>(done->user_data);
                ++counted.done;
                counted.cancelled += done->status == LIBUSB_TRANSFER_CANCELLED ? 1 : 0;
                counted.bytes += done->actual_length;
            },
            &count, 0);
        submitted += libusb_outcome(libusb_submit_transfer(transfer)) + " ";
    }
    for (auto* const transfer : transfers) cancels += libusb_outcome(libusb_cancel_transfer(transfer)) + " ";
    while (count.done < static_cast<int>(transfers.size())) libusb_handle_events(node.context());
    cancels += libusb_outcome(libusb_cancel_transfer(transfers.front()));
    report("cancel", fmt::format("submitted {}, cancelled {}; {} of {} cancelled, {} bytes", submitted, cancels,
                                 count.cancelled, count.done, count.bytes));
    for (auto* const transfer : transfers) libusb_free_transfer(transfer);
}

void timeout(const LibusbNode& node) {
    std::vector<std::byte> data(64);
    int length = 0;
    const int result = libusb_bulk_transfer(node.handle(), node.bulk_pipes().in, bytes_of(data), 64, &length, 150);
    report("libusb.timeout", fmt::format("{}, {} bytes", libusb_outcome(result), length));
}

void two_opens(const std::string& path, LibusbDisk& disk) {
    const LibusbNode other(path);
    report("second.claim", libusb_outcome(libusb_claim_interface(other.handle(), 0)));
    std::vector<std::byte> data(sector_bytes);
    report("second.first_reads", all_of({disk.run(read_sectors(8, 1), data), compare_pattern(data, 8, 1)}));
}

}  // namespace

void libusb_cases(const std::string& path) {
    {
        LibusbNode node(path);
        description(node);
        claims(node);
        LibusbDisk disk(node);
        sectors(disk);
        queued(disk);
        recovery(disk);
        two_opens(path, disk);
        std::vector<std::byte> data(sector_bytes);
        report("libusb.reset", libusb_outcome(libusb_reset_device(node.handle())));
        report("libusb.reset_read", all_of({disk.run(read_sectors(9, 1), data), compare_pattern(data, 9, 1)}));
        report("libusb.final_release", libusb_outcome(libusb_release_interface(node.handle(), 0)));
    }
    LibusbNode next(path);
    report("libusb.next_detach", libusb_outcome(libusb_set_auto_detach_kernel_driver(next.handle(), 1)));
    report("libusb.next_claim", libusb_outcome(libusb_claim_interface(next.handle(), 0)));
}

void quiet_libusb_cases(const std::string& path) {
    const LibusbNode node(path);
    libusb_set_auto_detach_kernel_driver(node.handle(), 1);
    report("libusb.quiet_claim", libusb_outcome(libusb_claim_interface(node.handle(), 0)));
    cancelled(node);
    timeout(node);
}

}  // namespace storctl::usbfs_client
