#pragma once
// A mocked sysfs with an xHCI controller, a hub and USB devices that come and go. The process runs under
// umockdev-wrapper.

#include <string>

#include <fmt/format.h>

#include "tests/integration/devices/hotplug.hpp"

namespace storctl::test {

class UsbTestbed : public Testbed {
 public:
    std::string controller, usb2, usb3;

    UsbTestbed() {
        controller = add_function("0000:00:14.0", "0x0c0330");
        usb2 = add_root_hub(controller, 1, "480", 4);
        usb3 = add_root_hub(controller, 2, "5000", 2);
        // the USB 3 root hub's port 1 is the other half of port 3
        set_link(usb3 + "/2-0:1.0/usb2-port1", "peer", "../../../usb1/1-0:1.0/usb1-port3");
    }

    std::string add_function(const std::string& address, const std::string& class_code) {
        return add("pci", address, "", {{"class", class_code}, {"vendor", "0x8086"}, {"device", "0xa36d"}},
                   {{"PCI_SLOT_NAME", address},
                    {"ID_VENDOR_FROM_DATABASE", "Intel Corporation"},
                    {"ID_MODEL_FROM_DATABASE", "Cannon Lake xHCI"}});
    }
    std::string add_root_hub(const std::string& above, int bus, const std::string& speed, int ports) {
        const std::string path = add_usb(above, fmt::format("usb{}", bus), bus, 1, speed, "09", ports);
        const std::string interface =
            add("usb", fmt::format("{}-0:1.0", bus), path, {}, {{"DEVTYPE", "usb_interface"}});
        for (int port = 1; port <= ports; ++port) {
            set(interface, fmt::format("usb{}-port{}/connect_type", bus, port), "hotplug");
        }
        return path;
    }
    std::string add_usb(const std::string& above, const std::string& name, int bus, int address,
                        const std::string& speed = "480", const std::string& device_class = "00", int ports = 0) {
        return add("usb", name, above,
                   {{"busnum", std::to_string(bus)},
                    {"devnum", std::to_string(address)},
                    {"idVendor", "046d"},
                    {"idProduct", "c31c"},
                    {"bDeviceClass", device_class},
                    {"bConfigurationValue", "1"},
                    {"speed", speed},
                    {"maxchild", std::to_string(ports)},
                    {"serial", "S" + std::to_string(address)}},
                   {{"DEVTYPE", "usb_device"},
                    {"BUSNUM", fmt::format("{:03}", bus)},
                    {"DEVNUM", fmt::format("{:03}", address)}});
    }
    std::string add_interface(const std::string& device) {
        return add("usb", base_name(device) + ":1.0", device,
                   {{"bInterfaceNumber", "00"},
                    {"bInterfaceClass", "03"},
                    {"bInterfaceSubClass", "01"},
                    {"bInterfaceProtocol", "01"}},
                   {{"DEVTYPE", "usb_interface"}});
    }
};

}  // namespace storctl::test
