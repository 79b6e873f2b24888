// usbfs_client: goes through the cases on a node that speaks usbfs, the kernel's own or a mediated one, and says what
// it sees: one line per case, the same in every run.
//
//   usbfs_client disk NODE              a disk on bulk-only transport whose first 12 MiB are what `fill` writes
//   usbfs_client streams NODE           a disk on USB Attached SCSI, filled as well
//   usbfs_client quiet NODE             a serial adapter with nobody at its other end
//   usbfs_client unplug NODE COMMAND    the same; COMMAND unplugs it while URBs are in flight
//   usbfs_client mouse NODE COMMAND     COMMAND moves it
//   usbfs_client sound NODE
//   usbfs_client capture NODE           the tests' own device
//   usbfs_client soak NODE SECONDS      the disk: reads and writes of all sizes
//   usbfs_client fill DISK              a block device, by its driver
//   usbfs_client sum DISK               of those 12 MiB, by its driver

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/mass_storage.hpp"
#include "tests/lab/usbfs_client/raw_node.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr size_t area_bytes = size_t{12} << 20;

void disk_cases(const std::string& path) {
    description_cases(path);
    claim_cases(path);
    call_cases(path);
    urb_cases(path);
    waiting_cases(path);
    disk_lifetime_cases(path);
    libusb_cases(path);
}

void all_quiet_cases(const std::string& path) {
    quiet_cases(path);
    lifetime_cases(path);
    quiet_libusb_cases(path);
}

void fill(const std::string& path) {
    const UniqueFd disk(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    std::vector<std::byte> data(area_bytes);
    fill_pattern(data, 0, 1);
    if (!disk || write(disk.get(), data.data(), data.size()) != static_cast<ssize_t>(data.size()) ||
        fsync(disk.get()) != 0)
        give_up("fill " + path, -errno);
}

void sum(const std::string& path) {
    const UniqueFd disk(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<std::byte> data(area_bytes);
    if (!disk || read(disk.get(), data.data(), data.size()) != static_cast<ssize_t>(data.size()))
        give_up("read " + path, -errno);
    report("sum", content(data));
}

bool run(std::string_view what, const std::string& path, const std::string& stimulus) {
    if (what == "disk")
        disk_cases(path);
    else if (what == "streams")
        stream_cases(path);
    else if (what == "quiet")
        all_quiet_cases(path);
    else if (what == "unplug" && !stimulus.empty())
        unplug_cases(path, stimulus);
    else if (what == "mouse" && !stimulus.empty())
        input_cases(path, stimulus);
    else if (what == "sound")
        sound_cases(path);
    else if (what == "capture")
        capture_cases(path);
    else if (what == "soak" && !stimulus.empty())
        soak(path, std::chrono::seconds(std::stoi(stimulus)));
    else if (what == "fill")
        fill(path);
    else if (what == "sum")
        sum(path);
    else
        return false;
    return true;
}

}  // namespace
}  // namespace storctl::usbfs_client

int main(int argc, char** argv) {
    // a call that never comes back is a finding too
    alarm(60 + (argc > 3 && std::string_view(argv[1]) == "soak" ? static_cast<unsigned>(std::stoi(argv[3])) : 0));
    if (argc >= 3 && storctl::usbfs_client::run(argv[1], argv[2], argc > 3 ? argv[3] : "")) return 0;
    fmt::print(
        stderr,
        "usage: usbfs_client disk|streams|quiet|unplug|mouse|sound|capture|soak|fill|sum NODE [COMMAND|SECONDS]\n");
    return 2;
}
