// What the host does with devices: scans of scripted trees, and the thread that takes them.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "daemon/use_scanner.hpp"
#include "tests/unit/usb_tree.hpp"
#include "tests/unit/wait_for.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

using Texts = std::vector<std::string>;

/// The disk below the USB 3 hub is mounted by its partition; an NVMe disk carries a volume group.
struct Host : XhciTree {
    std::string mountinfo = proc() + "/mountinfo";
    std::string swaps = proc() + "/swaps";
    std::string sda = disk_of(disk_interface + "/host0/target0:0:0/0:0:0:0/block/sda", "8:0");
    std::string nvme = function("0000:01:00.0", "0x010802", "nvme");
    std::string nvme0n1 = disk_of(nvme + "/nvme/nvme0/nvme0n1", "259:0");

    Host() {
        disk_of(sda + "/sda1", "8:1", "DEVTYPE=partition\n");
        write(sda + "/sda1/partition", "1\n");
        write(mountinfo, "36 35 8:1 / /srv rw - ext4 /dev/sda1 rw\n");
        write(swaps, "Filename Type Size Used Priority\n");
        const std::string volume = disk_of(sys() + "/devices/virtual/block/dm-0", "253:0");
        write(volume + "/dm/uuid", "LVM-x\n");
        write(volume + "/dm/name", "vg-root\n");
        link(volume, nvme0n1 + "/holders/dm-0");
    }
    std::string disk_of(const std::string& path, const std::string& number, const std::string& more = "") const {
        const auto colon = number.find(':');
        of_class(path, "block");
        write(path + "/uevent", fmt::format("MAJOR={}\nMINOR={}\nDEVNAME={}\n{}", number.substr(0, colon),
                                            number.substr(colon + 1), base_name(path), more));
        return path;
    }
    UsePaths use_paths() const {
        return {.kernel = paths(), .block = {.sys = sys(), .mountinfo = mountinfo, .swaps = swaps}};
    }
    Texts scan(const UseRequest& request = {}) const {
        const auto found = scan_uses(request, use_paths());
        REQUIRE(found);
        Texts out;
        for (const auto& [socket, uses] : found->uses) {
            for (const auto& use : uses) {
                out.push_back(fmt::format("{} {} {}", to_text(socket), to_text(use.kind), use.text));
            }
        }
        return out;
    }
};

const std::string sda1_mounted = "0000:00:14.0/5.3 mount mounted on /srv (sda1)";
const std::string nvme_held = "0000:01:00.0/nvme0n1 holder held by dm-0 (LVM vg-root)";

}  // namespace

TEST_CASE("uses are told of the USB device's socket, and of units on functions") {
    const Host host;
    CHECK(host.scan() == Texts{sda1_mounted, nvme_held});
    SUBCASE("the whole disk mounted, and swap on what lies on the other") {
        host.write(host.mountinfo, "36 35 8:0 / /mnt rw - ext4 /dev/sda rw\n");
        host.write(host.swaps, "Filename Type Size Used Priority\n/dev/dm-0 partition 1 0 -2\n");
        CHECK(host.scan() == Texts{"0000:00:14.0/5.3 mount mounted on /mnt (sda)", nvme_held,
                                   "0000:01:00.0/nvme0n1 swap swap (dm-0)"});
    }
    SUBCASE("a loop device on the disk itself, and what is mounted from it") {
        const auto loop = host.disk_of(host.sys() + "/devices/virtual/block/loop3", "7:3");
        host.write(loop + "/loop/backing_file", "/dev/sda\n");
        host.write(host.mountinfo, "36 35 7:3 / /iso ro - iso9660 /dev/loop3 ro\n");
        CHECK(host.scan() == Texts{"0000:00:14.0/5.3 loop held by loop3 (loop device)",
                                   "0000:00:14.0/5.3 mount mounted on /iso (loop3)", nvme_held});
    }
    SUBCASE("mediated nodes on the disk, its partition and a volume on it") {
        host.write(host.mountinfo, "");
        CHECK(host.scan({.nodes = {{"sda1", "web1"}, {"dm-0", "db"}, {"sdz", "other"}}}) ==
              Texts{"0000:00:14.0/5.3 node behind node 'web1' (sda1)", nvme_held,
                    "0000:01:00.0/nvme0n1 node behind node 'db' (dm-0)"});
    }
    SUBCASE("keyboards as the policy says") {
        const std::string input = host.keyboard_interface + "/input/input3";
        host.write(input + "/capabilities/key", "fffffffffffffffe\n");
        host.link(input, host.of_class(input + "/event3", "input") + "/device");
        CHECK(host.scan().size() == 2);
        CHECK(host.scan({.consoles = true}).front() ==
              "0000:00:14.0/2 console keyboard of the host's console (event3)");
    }
    SUBCASE("an open raw node; one of a device that is gone is not told") {
        const std::string process = host.proc() + "/812";
        host.write(process + "/comm", "prog\n");
        host.write(process + "/cmdline", "prog");
        host.write(process + "/stat", "812 (prog) S 1 1\n");
        std::filesystem::create_directories(process + "/fd");
        std::filesystem::create_symlink("/dev/bus/usb/001/004", process + "/fd/3");
        std::filesystem::create_symlink("/dev/bus/usb/001/044", process + "/fd/4");
        CHECK(host.scan().front() == "0000:00:14.0/2 open opened by prog (pid 812)");
        CHECK(host.scan().size() == 3);
    }
    SUBCASE("a device that went while its disk is still listed") {
        host.remove(host.usb3);
        CHECK(host.scan() == Texts{nvme_held});
    }
}

TEST_CASE("programs that have a disk, a partition or a function open") {
    const Host host;
    host.write(host.mountinfo, "");
    host.remove(host.sys() + "/devices/virtual/block");
    host.remove(host.nvme0n1 + "/holders");
    const std::string process = host.proc() + "/812";
    host.write(process + "/comm", "qemu-system-x86\n");
    host.write(process + "/cmdline", std::string("qemu\0-name\0guest=web1", 21));
    host.write(process + "/stat", "812 (qemu) S 1 1\n");
    std::filesystem::create_directories(process + "/fd");
    const std::string by = "opened by qemu-system-x86 (pid 812, guest web1)";
    const auto open = [&](int number, const std::string& target) {
        std::filesystem::create_symlink(target, fmt::format("{}/fd/{}", process, number));
        host.write(fmt::format("{}/fdinfo/{}", process, number), "flags:\t0100002\n");
    };
    CHECK(host.scan().empty());
    // names that no node of the machine that runs this has
    const std::string disk = host.disk_of(host.disk_interface + "/host0/target0:0:0/0:0:0:0/block/sdzzq", "8:999");
    host.disk_of(disk + "/sdzzq1", "8:998", "DEVTYPE=partition\n");
    host.write(disk + "/sdzzq1/partition", "1\n");
    SUBCASE("the disk and its partition") {
        open(3, "/dev/sdzzq");
        open(4, "/dev/sdzzq1");
        CHECK(host.scan() == Texts{fmt::format("0000:00:14.0/5.3 open {} (sdzzq)", by),
                                   fmt::format("0000:00:14.0/5.3 open {} (sdzzq1)", by)});
    }
    SUBCASE("a function") {
        host.group(4012, {host.nvme});
        host.of_class(host.sys() + "/devices/virtual/vfio/4012", "vfio");
        open(3, "/dev/vfio/4012");
        CHECK(host.scan() == Texts{fmt::format("0000:01:00.0/vfio open {}", by)});
    }
}

TEST_CASE("a process counts as a node's by its number, not by its name") {
    const Host host;
    host.write(host.mountinfo, "");
    host.remove(host.nvme0n1 + "/holders");
    const std::string disk = host.disk_of(host.disk_interface + "/host0/target0:0:0/0:0:0:0/block/sdzzq", "8:999");
    const std::string process = host.proc() + "/812";
    host.write(process + "/comm", "stor-node\n");
    host.write(process + "/cmdline", "stor-node");
    host.write(process + "/stat", "812 (stor-node) S 1 1\n");
    std::filesystem::create_directories(process + "/fd");
    std::filesystem::create_symlink("/dev/bus/usb/001/004", process + "/fd/3");
    std::filesystem::create_symlink("/dev/sdzzq", process + "/fd/4");
    host.write(process + "/fdinfo/4", "flags:\t0100002\n");
    const std::string keyboard = "0000:00:14.0/2 ", stick = "0000:00:14.0/5.3 ";
    const std::string opened = "open opened by stor-node (pid 812)";
    struct Row {
        const char* name;
        NodeProcesses processes;
        Texts uses;
    };
    const Row rows[] = {
        {"the node over the device", {{{812, "token"}}, {}}, {keyboard + "node behind node 'token'"}},
        {"another node", {{{812, "web1"}, {813, "token"}}, {}}, {keyboard + opened}},
        {"no node", {{{813, "token"}}, {}}, {keyboard + opened, stick + opened + " (sdzzq)"}},
        {"no node, and none has a process", {}, {keyboard + opened, stick + opened + " (sdzzq)"}},
        {"perhaps it, of which nothing is known yet", {{}, {"token"}}, {keyboard + "node behind node 'token'"}},
        {"perhaps another", {{}, {"web1"}}, {keyboard + opened}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        CHECK(host.scan({.usb_nodes = {{"/dev/bus/usb/001/004", "token"}}, .processes = row.processes}) == row.uses);
    }
}

TEST_CASE("what cannot be read fails the look; a kernel without swap has nothing to read") {
    const Host host;
    const auto fails = [&] { return !scan_uses({}, host.use_paths()).has_value(); };
    CHECK_FALSE(fails());
    SUBCASE("no swaps") {
        host.remove(host.swaps);
        CHECK_FALSE(fails());
    }
    SUBCASE("swaps that cannot be read") {
        host.unreadable(host.swaps);
        CHECK(fails());
    }
    SUBCASE("no mounts") {
        host.remove(host.mountinfo);
        CHECK(fails());
    }
    SUBCASE("no processes") {
        host.remove(host.proc());
        CHECK(fails());
    }
    SUBCASE("holders") {
        host.unreadable(host.nvme0n1 + "/holders");
        CHECK(fails());
    }
    SUBCASE("disks") {
        host.unreadable(host.sys() + "/class/block");
        CHECK(fails());
    }
}

TEST_CASE("no sysfs is an error, not a host without uses") {
    const TemporaryFolder folder;
    CHECK_FALSE(scan_uses({}, {.kernel = {.sys = folder / "none"}}));
}

TEST_CASE("requests that wait share a scan that begins after them, with the newest nodes") {
    const Host host;
    auto loop = EventLoop::create();
    REQUIRE(loop);
    const auto paths = host.use_paths();
    auto scanner = UseScanner::open(*loop, {.kernel = paths.kernel, .block = paths.block});
    REQUIRE(scanner);
    size_t answers = 0;
    for (int round = 0; round < 50; ++round) {
        CAPTURE(round);
        // what was there before the request is in its answer, however many scans are under way
        host.write(host.mountinfo, fmt::format("36 35 8:1 / /round{} rw - ext4 /dev/sda1 rw\n", round));
        const size_t before = answers;
        for (int one = 0; one < 3; ++one) {
            const std::string node = fmt::format("n{}", one);
            (*scanner)->scan({.nodes = {{"nvme0n1", node}}}, [&, round, last = one == 2](const Result<UseScan>& found) {
                REQUIRE(found);
                ++answers;
                const auto& disk = found->uses.at({.controller = "0000:00:14.0", .ports = {5, 3}});
                CHECK(disk.front().text == fmt::format("mounted on /round{} (sda1)", round));
                const auto& nvme = found->uses.at({.controller = "0000:01:00.0", .unit = "nvme0n1"});
                if (last) CHECK(nvme.back().text == "behind node 'n2' (nvme0n1)");
            });
        }
        REQUIRE(wait_for(*loop, [&] { return answers == before + 3; }));
    }
}

TEST_CASE("answers that are due when the scanner ends are dropped") {
    const Host host;
    auto loop = EventLoop::create();
    REQUIRE(loop);
    const auto paths = host.use_paths();
    for (int round = 0; round < 20; ++round) {
        auto scanner = UseScanner::open(*loop, {.kernel = paths.kernel, .block = paths.block});
        REQUIRE(scanner);
        bool told = false;
        (*scanner)->scan({}, [&](const Result<UseScan>&) { told = true; });
        scanner->reset();
        REQUIRE(loop->run_once(std::chrono::milliseconds(1)));
        CHECK_FALSE(told);
    }
}
