#pragma once
// Writes sysfs trees of PCI functions and USB devices into a folder of the test's own, as the kernel lays them out.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "base/file.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl::test {

struct UsbSpec {
    std::string vendor = "1d6b", product = "0104", device_class = "00", speed = "480";
    std::string serial, manufacturer, name;
    int devnum = 2;
    int ports = 0;
};

class UsbTree {
 public:
    UsbTree() {
        std::filesystem::create_directories(sys() + "/devices");
        std::filesystem::create_directories(proc());
    }

    std::string sys() const { return folder_.path() + "/sys"; }
    std::string proc() const { return folder_.path() + "/proc"; }
    usbarb::KernelPaths paths() const { return {.sys = sys(), .proc = proc(), .dev = "/dev"}; }

    void write(const std::string& path, const std::string& content) const {
        std::filesystem::create_directories(dir_name(path));
        std::ofstream(path) << content;
    }
    /// Replaces what is there. Relative, as sysfs' own links are.
    void link(const std::string& target, const std::string& path) const {
        std::filesystem::create_directories(dir_name(path));
        std::filesystem::remove(path);
        std::filesystem::create_symlink(std::filesystem::path(target).lexically_relative(dir_name(path)), path);
    }
    void remove(const std::string& path) const { std::filesystem::remove_all(path); }

    /// A PCI function on bus 0; gives its path.
    std::string function(const std::string& address, const std::string& class_code, const std::string& driver) const {
        const std::string path = fmt::format("{}/devices/pci0000:00/{}", sys(), address);
        write(path + "/uevent", "PCI_SLOT_NAME=" + address + "\n");
        write(path + "/class", class_code + "\n");
        write(path + "/vendor", "0x8086\n");
        write(path + "/device", "0xa36d\n");
        if (!driver.empty()) link(fmt::format("{}/bus/pci/drivers/{}", sys(), driver), path + "/driver");
        link(path, fmt::format("{}/bus/pci/devices/{}", sys(), address));
        return path;
    }
    void group(int number, const std::vector<std::string>& functions) const {
        const std::string folder = fmt::format("{}/kernel/iommu_groups/{}", sys(), number);
        for (const auto& path : functions) {
            link(path, fmt::format("{}/devices/{}", folder, base_name(path)));
            link(folder, path + "/iommu_group");
        }
    }

    std::string root_hub(const std::string& controller, int bus, const std::string& speed, int ports) const {
        const std::string path = usb_device(controller, fmt::format("usb{}", bus), bus,
                                            {.device_class = "09", .speed = speed, .devnum = 1, .ports = ports});
        for (int port = 1; port <= ports; ++port) write(root_port(path, bus, port) + "/connect_type", "hotplug\n");
        return path;
    }
    static std::string root_port(const std::string& root_hub, int bus, int port) {
        return fmt::format("{}/{}-0:1.0/usb{}-port{}", root_hub, bus, bus, port);
    }
    void peers(const std::string& one, const std::string& other) const {
        link(other, one + "/peer");
        link(one, other + "/peer");
    }
    std::string device(const std::string& hub, const std::string& name, const UsbSpec& spec) const {
        return usb_device(hub, name, std::stoi(name.substr(0, name.find('-'))), spec);
    }
    /// Of configuration 1.
    std::string interface(const std::string& device, int number, const std::string& device_class,
                          const std::string& driver) const {
        const std::string name = fmt::format("{}:1.{}", base_name(device), number);
        const std::string path = device + "/" + name;
        write(path + "/uevent", "DEVTYPE=usb_interface\n");
        write(path + "/bInterfaceNumber", fmt::format("{:02x}\n", number));
        write(path + "/bInterfaceClass", device_class + "\n");
        write(path + "/bInterfaceSubClass", "06\n");
        write(path + "/bInterfaceProtocol", "50\n");
        if (!driver.empty()) {
            const std::string folder = fmt::format("{}/bus/usb/drivers/{}", sys(), driver);
            link(folder, path + "/driver");
            link(path, folder + "/" + name);
        }
        link(path, fmt::format("{}/bus/usb/devices/{}", sys(), name));
        return path;
    }
    /// What the kernel has and does not let anybody read: in its place is what is neither a folder nor a text.
    void unreadable(const std::string& path) const {
        remove(path);
        std::filesystem::create_directories(dir_name(path));
        std::filesystem::create_symlink(base_name(path), path);
    }
    /// Of class block, net or input.
    std::string of_class(const std::string& path, const std::string& class_name) const {
        write(path + "/uevent", "\n");
        link(path, fmt::format("{}/class/{}/{}", sys(), class_name, base_name(path)));
        return path;
    }

 private:
    std::string usb_device(const std::string& above, const std::string& name, int bus, const UsbSpec& spec) const {
        const std::string path = above + "/" + name;
        write(path + "/uevent", "DEVTYPE=usb_device\n");
        write(path + "/busnum", fmt::format("{}\n", bus));
        write(path + "/devnum", fmt::format("{}\n", spec.devnum));
        write(path + "/idVendor", spec.vendor + "\n");
        write(path + "/idProduct", spec.product + "\n");
        write(path + "/bDeviceClass", spec.device_class + "\n");
        write(path + "/bConfigurationValue", "1\n");
        write(path + "/speed", spec.speed + "\n");
        write(path + "/maxchild", fmt::format("{}\n", spec.ports));
        if (!spec.serial.empty()) write(path + "/serial", spec.serial + "\n");
        if (!spec.manufacturer.empty()) write(path + "/manufacturer", spec.manufacturer + "\n");
        if (!spec.name.empty()) write(path + "/product", spec.name + "\n");
        link(path, fmt::format("{}/bus/usb/devices/{}", sys(), name));
        link(path, fmt::format("{}/dev/char/189:{}", sys(), (bus - 1) * 128 + spec.devnum - 1));
        return path;
    }

    TemporaryFolder folder_;
};

/// The usual one: an xHCI controller, whose USB 3 root port 1 is the socket of USB 2 root port 5; a USB 3 hub in it,
/// and a disk on that; a keyboard at port 2.
struct XhciTree : UsbTree {
    std::string controller = function("0000:00:14.0", "0x0c0330", "xhci_hcd");
    std::string usb2 = root_hub(controller, 1, "480", 6);
    std::string usb3 = root_hub(controller, 2, "10000", 2);
    std::string hub2 = device(usb2, "1-5", {.device_class = "09", .devnum = 3, .ports = 4});
    std::string hub3 = device(usb3, "2-1", {.device_class = "09", .speed = "5000", .devnum = 2, .ports = 4});
    std::string disk =
        device(hub3, "2-1.3", {.vendor = "0781", .product = "5581", .speed = "5000", .serial = "4C53", .devnum = 4});
    std::string disk_interface = interface(disk, 0, "08", "usb-storage");
    std::string keyboard = device(usb2, "1-2",
                                  {.vendor = "046d",
                                   .product = "c31c",
                                   .speed = "1.5",
                                   .manufacturer = "Logitech",
                                   .name = "USB Keyboard",
                                   .devnum = 4});
    std::string keyboard_interface = interface(keyboard, 0, "03", "usbhid");

    XhciTree() { peers(root_port(usb2, 1, 5), root_port(usb3, 2, 1)); }
};

}  // namespace storctl::test
