// What lies below devices and functions, and who has raw nodes open, on scripted trees in a folder.

#include <doctest/doctest.h>

#include "tests/unit/usb_tree.hpp"
#include "usbarb/open_nodes.hpp"
#include "usbarb/usb_strings.hpp"
#include "usbarb/use_reader.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::test;

namespace {

using Texts = std::vector<std::string>;

Texts unit_texts(const UsbTree& tree) {
    Texts out;
    const auto units = read_units(tree.paths());
    REQUIRE(units);
    for (const auto& unit : *units) out.push_back(unit.name + " of " + base_name(unit.owner));
    return out;
}

Texts use_texts(const std::vector<Use>& uses) {
    Texts out;
    for (const auto& use : uses) out.push_back(fmt::format("{}: {}", to_text(use.kind), use.text));
    return out;
}

std::string process(const UsbTree& tree, int pid, const std::string& name, const Texts& command_line) {
    const std::string path = fmt::format("{}/{}", tree.proc(), pid);
    tree.write(path + "/comm", name + "\n");
    std::string words;
    for (const auto& word : command_line) words += word + '\0';
    tree.write(path + "/cmdline", words);
    tree.write(path + "/stat", fmt::format("{} ({} ) x) S 1 1 1\n", pid, name));
    std::filesystem::create_directories(path + "/fd");
    return path;
}

OpenNodes opened_by_others(const UsbTree& tree, int own) {
    auto nodes = read_open_nodes(own, tree.paths());
    REQUIRE(nodes);
    return std::move(*nodes);
}

void open_file_of(const std::string& process_path, int number, const std::string& target) {
    std::filesystem::create_symlink(target, fmt::format("{}/fd/{}", process_path, number));
}

}  // namespace

TEST_CASE("units belong to the nearest USB device, else to their PCI function") {
    const XhciTree tree;
    const std::string sda = tree.of_class(tree.disk_interface + "/host0/target0:0:0/0:0:0:0/block/sda", "block");
    tree.of_class(sda + "/sda1", "block");
    tree.write(sda + "/sda1/partition", "1\n");
    tree.of_class(tree.keyboard_interface + "/net/enx00", "net");
    const auto nvme = tree.function("0000:01:00.0", "0x010802", "nvme");
    tree.of_class(nvme + "/nvme/nvme0/nvme0n1", "block");
    const auto nic = tree.function("0000:02:00.0", "0x020000", "e1000e");
    tree.of_class(nic + "/net/eth0", "net");
    tree.of_class(tree.sys() + "/devices/virtual/block/loop0", "block");
    tree.of_class(tree.sys() + "/devices/virtual/net/lo", "net");
    CHECK(unit_texts(tree) == Texts{"nvme0n1 of 0000:01:00.0", "sda of 2-1.3", "enx00 of 1-2", "eth0 of 0000:02:00.0"});
}

TEST_CASE("an NVMe disk of the kernel's own multipath belongs to each function that leads to it") {
    const UsbTree tree;
    const std::string subsystem = tree.sys() + "/devices/virtual/nvme-subsystem/nvme-subsys0";
    tree.of_class(subsystem + "/nvme0n1", "block");
    for (const char* function : {"0000:01:00.0", "0000:02:00.0"}) {
        const std::string name = std::string("nvme") + (function[6] == '1' ? "0" : "1");
        const auto path = tree.function(function, "0x010802", "nvme") + "/nvme/" + name;
        tree.write(path + "/uevent", "\n");
        tree.link(path, subsystem + "/" + name);
    }
    CHECK(unit_texts(tree) == Texts{"nvme0n1 of 0000:01:00.0", "nvme0n1 of 0000:02:00.0"});
}

TEST_CASE("keyboards are told from other devices with keys") {
    const XhciTree tree;
    const struct {
        const char* name;
        const char* keys;
    } rows[] = {{"event1", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n"},
                {"event2", "1f0000 0 0 0 0\n"},                       // a mouse
                {"event3", "3e000b 0 0 0 10000000000000 0 0 0 0\n"},  // media keys
                {"event4", "0\n"},
                {"event5", "rubbish\n"}};
    for (const auto& row : rows) {
        const std::string input = tree.keyboard_interface + "/input/input" + row.name[5];
        tree.write(input + "/capabilities/key", row.keys);
        const std::string event = tree.of_class(input + "/" + row.name, "input");
        tree.link(input, event + "/device");
    }
    CHECK(unit_texts(tree) == Texts{"event1 of 1-2"});
}

TEST_CASE("a network interface is in use when up; on PCI when it has an address or is part of something") {
    const XhciTree tree;
    const std::string usb = tree.of_class(tree.keyboard_interface + "/net/enx00", "net");
    const auto nic = tree.function("0000:02:00.0", "0x020000", "e1000e");
    const std::string eth = tree.of_class(nic + "/net/eth0", "net");
    const auto texts = [&] {
        const auto uses = NetworkUses::read(tree.paths());
        const auto units = read_units(tree.paths());
        REQUIRE(uses);
        REQUIRE(units);
        Texts out;
        for (const auto& unit : *units) {
            const auto of_unit = uses->of(unit);
            REQUIRE(of_unit);
            for (auto& text : use_texts(*of_unit)) out.push_back(std::move(text));
        }
        return out;
    };
    const std::string header = "Iface\tDestination\tGateway \tFlags\n";
    tree.write(tree.proc() + "/net/route", header);
    tree.write(usb + "/flags", "0x1002\n");
    tree.write(eth + "/flags", "0x1003\n");
    SUBCASE("down, or up without an address") { CHECK(texts().empty()); }
    SUBCASE("a USB interface that is up") {
        tree.write(usb + "/flags", "0x1003\n");
        CHECK(texts() == Texts{"network: network interface enx00 is up"});
    }
    SUBCASE("a route") {
        tree.write(tree.proc() + "/net/route", header + "eth0\t0000A8C0\t00000000\t0001\n");
        CHECK(texts() == Texts{"network: network interface eth0 is up"});
        tree.write(eth + "/flags", "0x1002\n");
        CHECK(texts().empty());
    }
    SUBCASE("an address of IPv6, which a link-local one is not") {
        const std::string path = tree.proc() + "/net/if_inet6";
        tree.write(path, "fe800000000000000000000000000001 02 40 20 80     eth0\n");
        CHECK(texts().empty());
        tree.write(path, "20010db8000000000000000000000001 02 40 00 80     eth0\n");
        CHECK(texts() == Texts{"network: network interface eth0 is up"});
    }
    SUBCASE("a bridge's port, told once") {
        const std::string bridge = tree.of_class(tree.sys() + "/devices/virtual/net/br0", "net");
        tree.link(bridge, eth + "/master");
        tree.link(bridge, eth + "/upper_br0");
        CHECK(texts() == Texts{"network: network interface eth0 is up, as part of br0"});
    }
}

TEST_CASE("programs with raw nodes open, QEMUs with their guest") {
    const XhciTree tree;
    const std::string qemu =
        process(tree, 812, "qemu-system-x86", {"/usr/bin/qemu-system-x86_64", "-name", "guest=web1,debug-threads=on"});
    open_file_of(qemu, 4, "socket:[1234]");
    open_file_of(qemu, 21, "/dev/bus/usb/001/004");
    open_file_of(qemu, 22, "/dev/bus/usb/001/004");
    const std::string plain = process(tree, 813, "qemu", {"qemu", "-name", "db"});
    open_file_of(plain, 9, "/dev/bus/usb/002/004");
    const std::string scanner = process(tree, 900, "scan\x1b[2J", {"scan", "-name", "x"});
    open_file_of(scanner, 3, "/dev/bus/usb/002/004");
    const std::string stale = process(tree, 901, "stale", {});
    open_file_of(stale, 3, "/dev/bus/usb/001/004 (deleted)");
    open_file_of(stale, 4, "/dev/bus/usb/rubbish");
    open_file_of(stale, 5, "/dev/null");
    const std::string own = process(tree, 77, "stord", {});
    open_file_of(own, 3, "/dev/bus/usb/001/003");
    const std::string child = process(tree, 78, "stor-actuate", {});
    tree.write(child + "/stat", "78 (stor) actuate) S 77 1 1\n");
    open_file_of(child, 3, "/dev/bus/usb/001/003");

    const auto nodes = opened_by_others(tree, 77);
    CHECK(nodes.hidden == 0);
    REQUIRE(nodes.uses.size() == 2);
    const auto& first = nodes.uses.at("/dev/bus/usb/001/004");
    CHECK(use_texts(first) == Texts{"open: opened by qemu-system-x86 (pid 812, guest web1)"});
    CHECK(first.front().pid == 812);
    CHECK(use_texts(nodes.uses.at("/dev/bus/usb/002/004")) ==
          Texts{"open: opened by qemu (pid 813, guest db)", "open: opened by scan\\x1b[2J (pid 900)"});
    CHECK(device_of_node("/dev/bus/usb/001/004", tree.paths()) == tree.keyboard);
    CHECK(device_of_node("/dev/bus/usb/001/099", tree.paths()) == "");
    CHECK(device_of_node("/dev/bus/usb/000/000", tree.paths()) == "");
}

TEST_CASE("an interface bound to usbfs is somebody's, also when nobody can be seen") {
    const XhciTree tree;
    tree.interface(tree.keyboard, 0, "03", "usbfs");
    SUBCASE("nobody") {
        const auto nodes = opened_by_others(tree, 77);
        CHECK(use_texts(nodes.uses.at("/dev/bus/usb/001/004")) ==
              Texts{"usbfs: claimed by a program that cannot be seen from here"});
    }
    SUBCASE("one program") {
        open_file_of(process(tree, 5, "prog", {}), 3, "/dev/bus/usb/001/004");
        const auto nodes = opened_by_others(tree, 77);
        CHECK(use_texts(nodes.uses.at("/dev/bus/usb/001/004")) == Texts{"usbfs: opened by prog (pid 5)"});
    }
    SUBCASE("two programs: which of them is not known") {
        open_file_of(process(tree, 5, "prog", {}), 3, "/dev/bus/usb/001/004");
        open_file_of(process(tree, 6, "other", {}), 3, "/dev/bus/usb/001/004");
        const auto nodes = opened_by_others(tree, 77);
        CHECK(use_texts(nodes.uses.at("/dev/bus/usb/001/004")) ==
              Texts{"open: opened by prog (pid 5)", "open: opened by other (pid 6)"});
    }
    SUBCASE("stord itself") {
        open_file_of(process(tree, 5, "stord", {}), 3, "/dev/bus/usb/001/004");
        CHECK(opened_by_others(tree, 5).uses.empty());
    }
}

TEST_CASE("functions that a program has open through vfio, with all of their group but the bridges") {
    const UsbTree tree;
    const auto bridge = tree.function("0000:00:1b.0", "0x060400", "pcieport");
    const auto card = tree.function("0000:01:00.0", "0x030000", "vfio-pci");
    const auto sound = tree.function("0000:01:00.1", "0x040300", "vfio-pci");
    const auto disk = tree.function("0000:02:00.0", "0x010802", "vfio-pci");
    tree.group(4012, {bridge, card, sound});
    tree.group(4013, {disk});
    for (const char* name : {"4012", "4013"}) {
        const std::string group = tree.of_class(tree.sys() + "/devices/virtual/vfio/" + name, "vfio");
        tree.write(group + "/dev", fmt::format("510:{}\n", name[3]));
    }
    const std::string node = tree.of_class(disk + "/vfio-dev/vfio4000", "vfio-dev");
    tree.write(node + "/dev", "509:0\n");

    const std::string qemu = process(tree, 812, "qemu-system-x86", {"/usr/bin/qemu", "-name", "guest=web1"});
    open_file_of(qemu, 3, "/dev/vfio/vfio");
    CHECK(opened_by_others(tree, 77).functions.empty());
    open_file_of(qemu, 4, "/dev/vfio/4012");
    const Texts texts{"open: opened by qemu-system-x86 (pid 812, guest web1)"};
    const auto by_group = opened_by_others(tree, 77).functions;
    CHECK(by_group.size() == 2);
    CHECK(use_texts(by_group.at("0000:01:00.0")) == texts);
    CHECK(use_texts(by_group.at("0000:01:00.1")) == texts);

    open_file_of(qemu, 5, "/dev/vfio/devices/vfio4000");
    open_file_of(qemu, 6, "/dev/vfio/4013");
    CHECK(use_texts(opened_by_others(tree, 77).functions.at("0000:02:00.0")) == texts);
    CHECK(opened_by_others(tree, 812).functions.empty());
    tree.write(qemu + "/stat", "812 (qemu) S 77 1 1\n");
    CHECK(opened_by_others(tree, 77).functions.empty());
}

TEST_CASE("block devices that a program may write to") {
    const UsbTree tree;
    tree.of_class(tree.sys() + "/devices/x/block/sdzzq", "block");
    tree.of_class(tree.sys() + "/devices/x/block/sdzzq/sdzzq1", "block");
    const struct {
        const char* name;
        const char* flags;
        bool counts;
    } rows[] = {{"for reading", "flags:\t0100000\n", false},
                {"for writing", "flags:\t0100001\n", true},
                {"for both", "pos:\t0\nflags:\t02100002\n", true},
                {"unknown", "pos:\t0\n", true}};
    const std::string qemu = process(tree, 812, "qemu", {"qemu", "-name", "db"});
    open_file_of(qemu, 9, "/dev/sdzzq");
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            tree.write(qemu + "/fdinfo/9", row.flags);
            const auto blocks = opened_by_others(tree, 77).blocks;
            CHECK((blocks.count("sdzzq") == 1) == row.counts);
            if (row.counts) CHECK(use_texts(blocks.at("sdzzq")) == Texts{"open: opened by qemu (pid 812, guest db)"});
        }
    }
    SUBCASE("closed meanwhile") { CHECK(opened_by_others(tree, 77).blocks.empty()); }
    SUBCASE("a node's own process, stord and its children") {
        tree.write(qemu + "/fdinfo/9", "flags:\t02\n");
        tree.write(qemu + "/comm", "stor-node\n");
        const auto blocks = opened_by_others(tree, 77).blocks;
        REQUIRE(blocks.count("sdzzq") == 1);
        CHECK(use_texts(blocks.at("sdzzq")) == Texts{"node: opened by stor-node (pid 812, guest db)"});
        CHECK(blocks.at("sdzzq").front().pid == 812);
        tree.write(qemu + "/comm", "qemu\n");
        CHECK(opened_by_others(tree, 812).blocks.empty());
        tree.write(qemu + "/stat", "812 (qemu) S 77 1 1\n");
        CHECK(opened_by_others(tree, 77).blocks.empty());
        CHECK(opened_by_others(tree, 78).blocks.size() == 1);
    }
}

TEST_CASE("nodes are told by their numbers, whatever their path is") {
    const UsbTree tree;
    // the kernel's null device, in the place of a group: the number of what is really open decides
    const auto disk = tree.function("0000:02:00.0", "0x010802", "vfio-pci");
    tree.group(4013, {disk});
    tree.write(tree.of_class(tree.sys() + "/devices/virtual/vfio/4013", "vfio") + "/dev", "1:3\n");
    open_file_of(process(tree, 5, "prog", {}), 3, "/dev/null");
    CHECK(use_texts(opened_by_others(tree, 77).functions.at("0000:02:00.0")) == Texts{"open: opened by prog (pid 5)"});
}

TEST_CASE("what cannot be read is an error, not unused") {
    const XhciTree tree;
    REQUIRE(read_open_nodes(77, tree.paths()));
    REQUIRE(read_units(tree.paths()));
    SUBCASE("no /proc") {
        tree.remove(tree.proc());
        CHECK_FALSE(read_open_nodes(77, tree.paths()));
    }
    SUBCASE("the descriptors of a process") {
        tree.unreadable(process(tree, 812, "qemu", {}) + "/fd");
        CHECK_FALSE(read_open_nodes(77, tree.paths()));
    }
    for (const char* name : {"vfio", "vfio-dev", "block"}) {
        SUBCASE(name) {
            tree.unreadable(tree.sys() + "/class/" + name);
            CHECK_FALSE(read_open_nodes(77, tree.paths()));
        }
    }
    for (const char* name : {"block", "net", "input"}) {
        SUBCASE(fmt::format("units of class {}", name).c_str()) {
            tree.unreadable(tree.sys() + "/class/" + name);
            CHECK_FALSE(read_units(tree.paths()));
        }
    }
    for (const char* name : {"route", "if_inet6"}) {
        SUBCASE(name) {
            tree.unreadable(tree.proc() + "/net/" + name);
            CHECK_FALSE(NetworkUses::read(tree.paths()));
        }
    }
    SUBCASE("what usbfs has") {
        tree.unreadable(tree.sys() + "/bus/usb/drivers/usbfs");
        CHECK_FALSE(read_open_nodes(77, tree.paths()));
    }
}

TEST_CASE("string descriptors") {
    using Bytes = std::vector<uint8_t>;
    const struct {
        Bytes bytes;
        const char* text;
    } rows[] = {{{8, 3, 'a', 0, 'b', 0, 'c', 0}, "abc"},
                {{8, 3, ' ', 0, 0xe9, 0, ' ', 0}, "\u00e9"},
                {{4, 3, 0xac, 0x20}, "\u20ac"},
                {{6, 3, 0x3d, 0xd8, 0x00, 0xde}, "\U0001F600"},
                {{6, 3, 0x00, 0xde, 'x', 0}, "\uFFFDx"},  // half a pair
                {{4, 3, 0x3d, 0xd8}, "\uFFFD"},           // cut in a pair
                {{255, 3, 'a', 0, 'b'}, "a"},             // says more than there is
                {{3, 3, 'a'}, ""},
                {{6, 2, 'a', 0, 'b', 0}, ""},  // no string descriptor
                {{2, 3}, ""},
                {{0, 3, 'a', 0}, ""},
                {{1}, ""},
                {{}, ""}};
    for (const auto& row : rows) {
        CAPTURE(row.text);
        CHECK(string_text(row.bytes) == row.text);
    }
}

TEST_CASE("strings that the kernel could not read are known from the descriptor") {
    const XhciTree tree;
    std::string descriptor(18, '\0');
    descriptor[14] = 1;
    descriptor[15] = 2;
    descriptor[16] = 3;
    tree.write(tree.disk + "/descriptors", descriptor);
    DeviceFacts facts{.syspath = tree.disk};
    CHECK(missing_strings(facts).vendor == 1);
    CHECK(missing_strings(facts).product == 2);
    facts.vendor = "ACME";
    CHECK(missing_strings(facts).vendor == 0);
    CHECK(missing_strings(facts).any());
    facts.product = "Disk";
    CHECK_FALSE(missing_strings(facts).any());
    CHECK_FALSE(missing_strings({.syspath = tree.keyboard}).any());
    tree.write(tree.disk + "/descriptors", "short");
    CHECK_FALSE(missing_strings({.syspath = tree.disk}).any());
    CHECK_FALSE(read_strings(tree.proc() + "/no-node", {.vendor = 1}, std::chrono::milliseconds(10)));
    const std::string no_device = tree.proc() + "/file";
    tree.write(no_device, "x");
    CHECK_FALSE(read_strings(no_device, {.vendor = 1}, std::chrono::milliseconds(10)));
}
