#include <array>
#include <cerrno>
#include <random>

#include <fmt/format.h>
#include <libusb.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/libusb_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr uint32_t disk_sectors = 24576;
constexpr uint32_t block_sectors = 2048;  ///< each block of these has the seed it was last written with
constexpr unsigned commands_per_open = 40;

class Soak {
 public:
    explicit Soak(uint32_t seed) : random_(seed) {}

    void one_open(const std::string& path) {
        LibusbNode node(path);
        libusb_set_auto_detach_kernel_driver(node.handle(), 1);
        wants("claim", libusb_claim_interface(node.handle(), 0));
        LibusbDisk disk(node);
        if (opens_ == 0)
            for (uint32_t block = 0; block < seeds_.size(); ++block) write_block(disk, block);
        for (unsigned command = 0; command < commands_per_open; ++command) one_command(disk);
        if (opens_ % 16 == 0) wants("reset", libusb_reset_device(node.handle()));
        ++opens_;
    }

    std::string done() const { return fmt::format("{} commands, {} opens, {} MiB", commands_, opens_, bytes_ >> 20); }

 private:
    static void wants(std::string_view what, int result) {
        if (result == 0) return;
        report("soak", fmt::format("{}: {}", what, libusb_outcome(result)));
        std::exit(1);
    }

    void one_command(LibusbDisk& disk) {
        const uint32_t block = below(seeds_.size());
        if (below(3) == 0) return write_block(disk, block);
        const auto count = static_cast<uint16_t>(1 + below(block_sectors));
        const uint32_t first = block * block_sectors + below(block_sectors - count + 1U);
        std::vector<std::byte> data(count * sector_bytes);
        run(disk, read_sectors(first, count), data);
        if (const auto compared = compare_pattern(data, first, seeds_[block]); compared != "as written")
            fail(read_sectors(first, count), compared);
    }

    void write_block(LibusbDisk& disk, uint32_t block) {
        std::vector<std::byte> data(block_sectors * sector_bytes);
        fill_pattern(data, block * block_sectors, ++seeds_[block]);
        run(disk, write_sectors(block * block_sectors, block_sectors), data);
    }

    /// In one transfer, or cut in pieces that are in flight together.
    void run(LibusbDisk& disk, const ScsiCommand& command, std::span<std::byte> data) {
        const bool pieces = data.size() / sector_bytes % 8 == 0 && below(2) == 0;
        const std::string result = pieces ? disk.run_queued(command, data, 8) : disk.run(command, data);
        if (!result.ends_with("status 0 residue 0")) fail(command, result);
        ++commands_;
        bytes_ += data.size();
    }

    [[noreturn]] void fail(const ScsiCommand& command, const std::string& result) const {
        report("soak", fmt::format("command {:#x} of {} bytes after {}: {}", command.bytes[0], command.data_bytes,
                                   done(), result));
        std::exit(1);
    }

    uint32_t below(size_t limit) { return static_cast<uint32_t>(random_() % limit); }

    std::mt19937 random_;
    std::array<uint32_t, disk_sectors / block_sectors> seeds_{};
    uint64_t commands_ = 0, opens_ = 0, bytes_ = 0;
};

}  // namespace

void soak(const std::string& path, std::chrono::seconds duration) {
    constexpr uint32_t seed = 20;
    Soak soak(seed);
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) soak.one_open(path);
    report("soak", soak.done());
}

}  // namespace storctl::usbfs_client
