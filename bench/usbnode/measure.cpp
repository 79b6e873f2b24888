// measure NODE SHAPE COMMANDS: the time of one READ(10) on a disk behind a node that speaks usbfs, and what it takes.
//
//   4k, 64k, 1m   through libusb, one transfer after the other
//   2x64k         through libusb, command and two transfers of data in flight together
//   queued        64 KiB by usbfs calls, command and data submitted together, then the status
//   call          no command: the cheapest call there is (GET_SPEED)
//
// One line: median nanoseconds, bytes of a command, commands.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string_view>

#include <fmt/format.h>
#include <libusb.h>
#include <linux/usbdevice_fs.h>
#include <sys/ioctl.h>

#include "tests/lab/usbfs_client/libusb_disk.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace {

using namespace storctl::usbfs_client;
using Clock = std::chrono::steady_clock;

void check(bool good, std::string_view what) {
    if (good) return;
    fmt::print(stderr, "measure: {}\n", what);
    std::exit(1);
}

int measure(size_t bytes, int commands, const std::function<bool(std::span<std::byte>)>& command) {
    std::vector<std::byte> data(bytes);
    std::vector<int64_t> times;
    for (int number = 0; number < commands; ++number) {
        const auto start = Clock::now();
        check(command(data), "a command failed");
        times.push_back(std::chrono::nanoseconds(Clock::now() - start).count());
    }
    std::ranges::nth_element(times, times.begin() + commands / 2);
    fmt::print("{} {} {}\n", times[static_cast<size_t>(commands) / 2], bytes, commands);
    return 0;
}

int through_libusb(const std::string& path, size_t bytes, size_t pieces, int commands) {
    LibusbNode node(path);
    libusb_set_auto_detach_kernel_driver(node.handle(), 1);
    check(libusb_claim_interface(node.handle(), 0) == 0, "the interface cannot be claimed");
    LibusbDisk disk(node);
    const auto read = read_sectors(0, static_cast<uint16_t>(bytes / sector_bytes));
    return measure(bytes, commands, [&](std::span<std::byte> data) {
        const std::string result = pieces == 1 ? disk.run(read, data) : disk.run_queued(read, data, pieces);
        return result.ends_with("status 0 residue 0");
    });
}

int by_calls(const std::string& path, int commands) {
    constexpr size_t bytes = 65536;
    RawDisk disk(path);
    return measure(bytes, commands, [&](std::span<std::byte> data) {
        Urb command = disk.outgoing(read_sectors(0, bytes / sector_bytes));
        Urb incoming = disk.incoming(0), status = disk.incoming(status_wrapper_bytes);
        incoming->buffer = data.data();
        incoming->buffer_length = static_cast<int>(data.size());
        if (disk.node().submit(command) != 0 || disk.node().submit(incoming) != 0) return false;
        for (int count = 0; count < 2; ++count)
            if (disk.node().reap(true).urb->status != 0) return false;
        return disk.node().submit(status) == 0 && disk.node().reap(true).urb->status == 0;
    });
}

int bare_calls(const std::string& path, int commands) {
    RawDisk disk(path);
    return measure(0, commands,
                   [&](std::span<std::byte>) { return ::ioctl(disk.node().fd(), USBDEVFS_GET_SPEED) > 0; });
}

}  // namespace

int main(int argc, char** argv) {
    check(argc == 4, "usage: measure NODE 4k|64k|1m|2x64k|queued|call COMMANDS");
    const std::string path = argv[1];
    const std::string_view shape = argv[2];
    const int commands = std::atoi(argv[3]);
    check(commands > 0, "no commands");
    if (shape == "4k") return through_libusb(path, 4096, 1, commands);
    if (shape == "64k") return through_libusb(path, 65536, 1, commands);
    if (shape == "1m") return through_libusb(path, size_t{1} << 20, 1, commands);
    if (shape == "2x64k") return through_libusb(path, size_t{2} * 65536, 2, commands);
    if (shape == "call") return bare_calls(path, commands);
    check(shape == "queued", "no such shape");
    return by_calls(path, commands);
}
