// The readers of USB devices and PCI functions, on scripted trees in a folder.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "tests/unit/usb_tree.hpp"
#include "usbarb/sysfs_folder.hpp"
#include "usbarb/sysfs_pci.hpp"
#include "usbarb/sysfs_usb.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::test;

namespace {

std::string place_text(UsbReader& reader, const std::string& syspath) {
    const auto place = reader.place_of(syspath);
    if (!place) return place.error().context;
    return fmt::format("{} {}", to_text(place->first), to_text(place->second));
}

const DeviceFacts* find(const UsbScan& scan, const std::string& kernel_name) {
    for (const auto& device : scan.devices) {
        if (device.kernel_name == kernel_name) return &device;
    }
    return nullptr;
}

std::vector<std::string> names_of(const std::vector<NeighbourFacts>& neighbours) {
    std::vector<std::string> out;
    for (const auto& one : neighbours) {
        out.push_back(one.path + " " + one.driver + (one.bridge ? " bridge" : ""));
    }
    return out;
}

}  // namespace

TEST_CASE("names of USB devices and what only looks like one") {
    const struct {
        const char* name;
        const char* ports;  ///< null: none
    } rows[] = {{"usb1", ""},
                {"1-2", "2"},
                {"10-2.13.1", "2.13.1"},
                {"1-2.1.1.1.1.1", "2.1.1.1.1.1"},
                {"1-2.1.1.1.1.1.1", nullptr},
                {"1-0:1.0", nullptr},
                {"1-2:1.0", nullptr},
                {"usb", nullptr},
                {"usb0", nullptr},
                {"1-", nullptr},
                {"-1", nullptr},
                {"1-2.", nullptr},
                {"1-2..3", nullptr},
                {"1-256", nullptr},
                {"usbmon1", nullptr},
                {"0:0:0:0", nullptr},
                {"", nullptr}};
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto name = parse_usb_name(row.name);
        REQUIRE(name.has_value() == (row.ports != nullptr));
        if (name) CHECK(fmt::format("{}", fmt::join(name->ports, ".")) == row.ports);
    }
    CHECK(usb_device_above("/sys/devices/pci0000:00/0000:00:15.0/i2c-1/1-0050/hwmon/hwmon0") == "");
    CHECK(usb_device_above("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.3/1-2.3:1.0/net/eth0") ==
          "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.3");
    CHECK(function_above("/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0/nvme/nvme0/nvme0n1") ==
          "/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0");
    CHECK(function_above("/sys/devices/virtual/block/loop0") == "");
}

TEST_CASE("an xHCI controller with its two root hubs is one, and a USB 3 hub two devices in one socket") {
    const XhciTree tree;
    UsbReader reader(tree.paths());
    const auto scan = reader.read_all();
    REQUIRE(scan);
    REQUIRE(scan->controllers.size() == 1);
    const auto& controller = scan->controllers.front();
    CHECK(controller.path == "0000:00:14.0");
    CHECK(controller.kind == ControllerKind::usb);
    CHECK(controller.driver == "xhci_hcd");
    CHECK(controller.class_code == 0x0c0330);
    CHECK(controller.vendor_id == 0x8086);
    CHECK(controller.device_id == 0xa36d);
    CHECK(controller.buses == std::array<uint16_t, 2>{1, 2});
    CHECK(controller.companions.empty());
    CHECK_FALSE(controller.iommu_group);

    REQUIRE(scan->devices.size() == 4);
    const auto* hub2 = find(*scan, "1-5");
    const auto* hub3 = find(*scan, "2-1");
    REQUIRE((hub2 != nullptr && hub3 != nullptr));
    CHECK(hub2->socket == hub3->socket);
    CHECK(to_text(hub3->socket) == "0000:00:14.0/5");
    CHECK(hub2->half == Half::usb2);
    CHECK(hub3->half == Half::usb3);
    CHECK(hub3->hub);
    CHECK(hub3->ports == 4);

    const auto* disk = find(*scan, "2-1.3");
    REQUIRE(disk != nullptr);
    CHECK(to_text(disk->socket) == "0000:00:14.0/5.3");
    CHECK(disk->identity == Identity{0x0781, 0x5581, "4C53"});
    CHECK(disk->bus == 2);
    CHECK(disk->address == 4);
    CHECK(disk->speed_mbps == "5000");
    CHECK(disk->configured);
    CHECK(disk->syspath == tree.disk);
    REQUIRE(disk->interfaces.size() == 1);
    CHECK(disk->interfaces.front() == InterfaceFacts{0, 0x08, 0x06, 0x50, "usb-storage"});

    const auto* keyboard = find(*scan, "1-2");
    REQUIRE(keyboard != nullptr);
    CHECK(to_text(keyboard->socket) == "0000:00:14.0/2");
    CHECK(keyboard->description() == "046d:c31c Logitech USB Keyboard");
    CHECK(keyboard->speed_mbps == "1.5");
    CHECK_FALSE(keyboard->hub);
}

TEST_CASE("a USB 3 root port without a peer is a socket of its own, until the kernel links it") {
    const XhciTree tree;
    const std::string alone = tree.device(tree.usb3, "2-2", {.speed = "5000", .devnum = 9});
    UsbReader reader(tree.paths());
    CHECK(place_text(reader, alone) == "0000:00:14.0/usb3-2 usb3");
    tree.peers(UsbTree::root_port(tree.usb2, 1, 4), UsbTree::root_port(tree.usb3, 2, 2));
    CHECK(place_text(reader, alone) == "0000:00:14.0/4 usb3");
}

TEST_CASE("the place of a device that is gone comes from what was read of its bus") {
    const XhciTree tree;
    UsbReader reader(tree.paths());
    REQUIRE(reader.read_all());
    SUBCASE("with its bus there") {
        tree.remove(tree.disk);
        CHECK(place_text(reader, tree.disk) == "0000:00:14.0/5.3 usb3");
    }
    SUBCASE("with its whole controller gone") {
        tree.remove(tree.controller);
        CHECK(place_text(reader, tree.disk) == "0000:00:14.0/5.3 usb3");
        CHECK(place_text(reader, tree.keyboard) == "0000:00:14.0/2 usb2");
    }
    SUBCASE("with ports taken down before") {
        tree.remove(tree.usb3 + "/2-0:1.0");
        CHECK(place_text(reader, tree.disk) == "0000:00:14.0/5.3 usb3");
        CHECK(place_text(reader, tree.usb3 + "/2-2") == "0000:00:14.0/usb3-2 usb3");
    }
    SUBCASE("but not from nothing") {
        UsbReader fresh(tree.paths());
        tree.remove(tree.controller);
        const auto place = fresh.place_of(tree.disk);
        REQUIRE_FALSE(place);
        CHECK(place.error().code == std::errc::no_such_device);
    }
    SUBCASE("nor from a bus that came anew with other halves") {
        tree.write(tree.usb3 + "/speed", "480\n");
        CHECK(place_text(reader, tree.disk) == "0000:00:14.0/5.3 usb3");
        reader.forget_bus(tree.usb3);
        CHECK(place_text(reader, tree.disk) == "0000:00:14.0/1.3 usb2");
    }
    const auto read = reader.read(tree.usb2 + "/1-4");
    REQUIRE_FALSE(read);
    CHECK(read.error().code == std::errc::no_such_device);
}

TEST_CASE("a root hub's place is the root, and paths that are none are refused") {
    const XhciTree tree;
    UsbReader reader(tree.paths());
    CHECK(place_text(reader, tree.usb3) == "0000:00:14.0 usb3");
    CHECK_FALSE(reader.read(tree.usb2));
    for (const auto& path : {tree.controller, tree.disk_interface, std::string("1-2"), std::string()}) {
        CAPTURE(path);
        CHECK_FALSE(reader.place_of(path));
    }
}

TEST_CASE("controllers that are not on PCI") {
    const UsbTree tree;
    const std::string dummy = tree.sys() + "/devices/platform/dummy_hcd.0";
    tree.write(dummy + "/uevent", "DRIVER=dummy_hcd\n");
    tree.link(tree.sys() + "/bus/platform/drivers/dummy_hcd", dummy + "/driver");
    const std::string hub = tree.root_hub(dummy, 3, "480", 1);
    tree.device(hub, "3-1", {});
    // one that a PCI function brings along goes away with it
    const std::string dwc3 = tree.function("0000:00:15.0", "0x0c03fe", "dwc3-pci");
    tree.write(dwc3 + "/dwc3.1.auto/uevent", "\n");
    const std::string below = dwc3 + "/dwc3.1.auto/xhci-hcd.2.auto";
    tree.write(below + "/uevent", "\n");
    tree.device(tree.root_hub(below, 4, "480", 1), "4-1", {.devnum = 3});

    UsbReader reader(tree.paths());
    const auto scan = reader.read_all();
    REQUIRE(scan);
    REQUIRE(scan->controllers.size() == 2);
    const auto& platform = scan->controllers[0];
    CHECK(platform.path == "platform/dummy_hcd.0");
    CHECK_FALSE(platform.pci);
    CHECK(platform.kind == ControllerKind::usb);
    CHECK(platform.driver == "dummy_hcd");
    CHECK(platform.buses == std::array<uint16_t, 2>{3, 0});
    CHECK(scan->controllers[1].path == "0000:00:15.0");
    CHECK(scan->controllers[1].buses == std::array<uint16_t, 2>{4, 0});
    REQUIRE(scan->devices.size() == 2);
    CHECK(to_text(scan->devices[0].socket) == "platform/dummy_hcd.0/1");
    CHECK(to_text(scan->devices[1].socket) == "0000:00:15.0/1");
}

TEST_CASE("companions are the older USB functions of the same slot") {
    const UsbTree tree;
    tree.function("0000:00:1d.0", "0x0c0300", "uhci_hcd");
    tree.function("0000:00:1d.1", "0x0c0300", "");
    tree.function("0000:00:1d.3", "0x0c0330", "xhci_hcd");
    tree.function("0000:00:1d.4", "0x040300", "snd_hda_intel");
    tree.function("0000:00:1d.7", "0x0c0320", "ehci-pci");
    tree.function("0000:00:1e.0", "0x0c0300", "uhci_hcd");
    const auto ehci = read_function("0000:00:1d.7", tree.paths());
    REQUIRE(ehci);
    CHECK(names_of(ehci->companions) == std::vector<std::string>{"0000:00:1d.0 uhci_hcd", "0000:00:1d.1 "});
    const auto uhci = read_function("0000:00:1d.0", tree.paths());
    REQUIRE(uhci);
    CHECK(names_of(uhci->companions) == std::vector<std::string>{"0000:00:1d.1 ", "0000:00:1d.7 ehci-pci"});
    const auto xhci = read_function("0000:00:1d.3", tree.paths());
    REQUIRE(xhci);
    CHECK(xhci->companions.empty());
}

TEST_CASE("an IOMMU group is the other functions with their drivers, and bridges are marked") {
    const UsbTree tree;
    const auto usb = tree.function("0000:00:14.0", "0x0c0330", "xhci_hcd");
    const auto audio = tree.function("0000:00:14.1", "0x040300", "snd_hda_intel");
    const auto port = tree.function("0000:00:1c.0", "0x060400", "pcieport");
    const auto isa = tree.function("0000:00:1f.0", "0x060100", "lpc_ich");
    tree.group(7, {usb, audio, port, isa});
    const auto facts = read_function("0000:00:14.0", tree.paths());
    REQUIRE(facts);
    CHECK(facts->iommu_group == 7);
    CHECK_FALSE(facts->bridge);
    CHECK(names_of(facts->group) == std::vector<std::string>{"0000:00:14.1 snd_hda_intel",
                                                             "0000:00:1c.0 pcieport bridge", "0000:00:1f.0 lpc_ich"});
    const auto all = read_functions(tree.paths());
    REQUIRE(all);
    CHECK(all->size() == 4);
    const auto bridge = read_function("0000:00:1c.0", tree.paths());
    REQUIRE(bridge);
    CHECK(bridge->bridge);
    CHECK(bridge->kind == ControllerKind::other);
}

TEST_CASE("kinds of functions by their class") {
    const UsbTree tree;
    const struct {
        const char* class_code;
        ControllerKind kind;
    } rows[] = {{"0x0c0330", ControllerKind::usb},     {"0x0c0500", ControllerKind::other},
                {"0x010802", ControllerKind::nvme},    {"0x010601", ControllerKind::storage},
                {"0x010000", ControllerKind::storage}, {"0x020000", ControllerKind::network},
                {"0x030000", ControllerKind::display}, {"0x040300", ControllerKind::other}};
    for (const auto& row : rows) {
        CAPTURE(row.class_code);
        tree.function("0000:00:02.0", row.class_code, "");
        const auto facts = read_function("0000:00:02.0", tree.paths());
        REQUIRE(facts);
        CHECK(facts->kind == row.kind);
    }
    for (const char* missing : {"0000:00:09.0", "../x", ""}) {
        const auto facts = read_function(missing, tree.paths());
        REQUIRE_FALSE(facts);
        CHECK(facts.error().code == std::errc::no_such_device);
    }
}

TEST_CASE("what the kernel would not write is an error that names the file, and costs only that device") {
    const XhciTree tree;
    UsbReader reader(tree.paths());
    const struct {
        const char* file;
        const char* content;
    } rows[] = {{"idVendor", "zzzz\n"},    {"idVendor", "10000\n"},
                {"devnum", "\n"},          {"busnum", "-1\n"},
                {"bDeviceClass", "100\n"}, {"bDeviceClass", "0 8\n"},
                {"idProduct", "\x01\x02"}, {"2-1.3:1.0/bInterfaceClass", "g8\n"}};
    for (const auto& row : rows) {
        CAPTURE(row.file);
        const std::string path = tree.disk + "/" + row.file;
        const std::string before = read_attribute(path);
        tree.write(path, row.content);
        const auto facts = reader.read(tree.disk);
        REQUIRE_FALSE(facts);
        CHECK(facts.error().code == std::errc{});
        CHECK(facts.error().context.find(path) != std::string::npos);
        const auto scan = reader.read_all();
        REQUIRE(scan);
        CHECK(scan->devices.size() == 3);
        tree.write(path, before);
    }
    CHECK(reader.read(tree.disk));

    tree.write(tree.controller + "/class", "USB\n");
    const auto function = read_function("0000:00:14.0", tree.paths());
    REQUIRE_FALSE(function);
    CHECK(function.error().code == std::errc{});

    tree.write(tree.usb3 + "/speed", "fast\n");
    UsbReader fresh(tree.paths());
    CHECK_FALSE(fresh.read(tree.disk));
    CHECK(fresh.read(tree.keyboard));
}

TEST_CASE("a device that goes while it is read is left out; without strings or configuration it is still one") {
    const XhciTree tree;
    // going: its folder is there and has lost its files
    for (const char* file : {"uevent", "busnum", "speed"}) tree.remove(tree.keyboard + "/" + file);
    tree.write(tree.disk + "/bConfigurationValue", "\n");
    tree.remove(tree.disk + "/serial");
    tree.remove(tree.disk_interface);
    UsbReader reader(tree.paths());
    const auto scan = reader.read_all();
    REQUIRE(scan);
    CHECK(find(*scan, "1-2") == nullptr);
    const auto* disk = find(*scan, "2-1.3");
    REQUIRE(disk != nullptr);
    CHECK_FALSE(disk->configured);
    CHECK(disk->identity.serial.empty());
    CHECK(disk->interfaces.empty());
    CHECK(disk->description() == "0781:5581");
}

TEST_CASE("a folder that cannot be read fails the enumeration, a device or controller is named") {
    const XhciTree tree;
    UsbReader reader(tree.paths());
    const auto whole = reader.read_all();
    REQUIRE(whole);
    CHECK(whole->unreadable.empty());
    SUBCASE("the devices") {
        tree.unreadable(tree.sys() + "/bus/usb/devices");
        CHECK_FALSE(reader.read_all());
    }
    SUBCASE("the functions") {
        tree.unreadable(tree.sys() + "/bus/pci/devices");
        CHECK_FALSE(read_functions(tree.paths()));
        CHECK_FALSE(list_functions(tree.paths()));
    }
    SUBCASE("a device") {
        tree.unreadable(tree.disk + "/idVendor");
        const auto scan = reader.read_all();
        REQUIRE(scan);
        CHECK(scan->unreadable == std::vector<std::string>{tree.disk});
        CHECK(scan->devices.size() == whole->devices.size() - 1);
    }
    SUBCASE("a controller") {
        tree.unreadable(tree.controller + "/class");
        const auto scan = reader.read_all();
        REQUIRE(scan);
        CHECK(scan->unreadable == std::vector<std::string>{"0000:00:14.0"});
        CHECK(scan->controllers.empty());
        CHECK(scan->devices.size() == whole->devices.size());
    }
    SUBCASE("the functions of an IOMMU group") {
        tree.group(7, {tree.controller});
        tree.unreadable(tree.sys() + "/kernel/iommu_groups/7/devices");
        const auto facts = read_function("0000:00:14.0", tree.paths());
        REQUIRE_FALSE(facts);
        CHECK(facts.error().code != std::errc::no_such_device);
    }
}

TEST_CASE("no sysfs is an error, and a host without USB or PCI has none") {
    const TemporaryFolder folder;
    UsbReader reader({.sys = folder / "nothing"});
    CHECK_FALSE(reader.read_all());
    CHECK_FALSE(read_functions({.sys = folder / "nothing"}));
    const UsbTree empty;
    UsbReader bare(empty.paths());
    const auto scan = bare.read_all();
    REQUIRE(scan);
    CHECK(scan->controllers.empty());
    CHECK(scan->devices.empty());
    const auto functions = read_functions(empty.paths());
    REQUIRE(functions);
    CHECK(functions->empty());
}
