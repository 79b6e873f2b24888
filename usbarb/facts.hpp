#pragma once
// What the adapters say of controllers, devices and their use, as plain values: all that the decisions in this room
// look at. Whoever fills it (usbarb/sysfs_*.hpp, a test) has done the reading.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_text.hpp"
#include "usbarb/socket.hpp"

namespace storctl::usbarb {

/// What makes a device the same one again in its socket.
struct Identity {
    uint16_t vendor_id = 0;
    uint16_t product_id = 0;
    std::string serial;  ///< empty: it has none
    bool operator==(const Identity&) const = default;
};

struct InterfaceFacts {
    uint8_t number = 0;
    uint8_t device_class = 0, subclass = 0, protocol = 0;
    std::string driver;  ///< empty: none; "usbfs": a program has claimed it
    bool operator==(const InterfaceFacts&) const = default;
};

/// A USB device as one bus sees it: a USB 3 hub is two of these in one socket. Root hubs are not among them.
struct DeviceFacts {
    Socket socket;
    Half half = Half::usb2;
    std::string kernel_name;  ///< "1-2.1"
    std::string syspath;      ///< "/sys/devices/…/1-2.1"
    uint16_t bus = 0;         ///< volatile, as address
    uint16_t address = 0;
    Identity identity;
    std::string vendor, product;  ///< its strings; empty: it has none
    uint8_t device_class = 0;
    std::string speed_mbps;
    bool configured = true;  ///< a configuration is chosen
    bool hub = false;
    uint8_t ports = 0;  ///< of a hub
    std::vector<InterfaceFacts> interfaces;
    bool operator==(const DeviceFacts&) const = default;

    std::string devnode() const;      ///< "/dev/bus/usb/001/004"
    std::string description() const;  ///< "046d:c31c Logitech Keyboard"
};

enum class ControllerKind : uint8_t { usb, nvme, storage, network, display, other };

/// Another function of the same IOMMU group, or a companion.
struct NeighbourFacts {
    std::string path;
    std::string driver;   ///< empty: none
    bool bridge = false;  ///< stays with the host, and may (vfio)
    bool operator==(const NeighbourFacts&) const = default;
};

/// A PCI function, or a USB host controller elsewhere.
struct ControllerFacts {
    std::string path;  ///< the address on PCI, else "platform/…": the controller of its sockets
    bool pci = true;
    bool bridge = false;
    ControllerKind kind = ControllerKind::other;
    std::string syspath;
    uint32_t class_code = 0;  ///< 24 bits, 0x0c0330
    uint16_t vendor_id = 0, device_id = 0;
    std::string vendor, model;  ///< from udev's hardware database; empty without it
    std::string driver;
    std::optional<int> iommu_group;
    std::vector<NeighbourFacts> group;       ///< the others in its IOMMU group
    std::vector<NeighbourFacts> companions;  ///< UHCI, OHCI and EHCI functions that serve the same sockets
    std::array<uint16_t, 2> buses{};         ///< by Half: the bus' number, 0: none
    bool operator==(const ControllerFacts&) const = default;

    std::string description() const;  ///< "USB controller 8086:a36d Intel …"
};

enum class UseKind : uint8_t { mount, swap, holder, loop, node, network, usbfs, open, console };

/// One thing that the host, or a program on it, does with a device now.
struct Use {
    UseKind kind = UseKind::mount;
    std::string text;  ///< "mounted on /srv (sda1)", "opened by qemu-system-x86 (pid 812, guest web1)"
    int pid = 0;       ///< of usbfs and open, where it is known; of a mediated node over the device itself: its process
    bool operator==(const Use&) const = default;
    /// Not over a disk that lies on it: the claim's own node, and no use of the host's.
    bool is_node_over_device() const { return kind == UseKind::node && pid != 0; }
};

}  // namespace storctl::usbarb

namespace storctl {
template <>
struct EnumNames<usbarb::ControllerKind> {
    using K = usbarb::ControllerKind;
    static constexpr std::array<EnumName<K>, 6> table{{
        {K::usb, "usb"},
        {K::nvme, "nvme"},
        {K::storage, "storage"},
        {K::network, "network"},
        {K::display, "display"},
        {K::other, "other"},
    }};
};
static_assert(round_trips<usbarb::ControllerKind>());

template <>
struct EnumNames<usbarb::UseKind> {
    using K = usbarb::UseKind;
    static constexpr std::array<EnumName<K>, 9> table{{
        {K::mount, "mount"},
        {K::swap, "swap"},
        {K::holder, "holder"},
        {K::loop, "loop"},
        {K::node, "node"},
        {K::network, "network"},
        {K::usbfs, "usbfs"},
        {K::open, "open"},
        {K::console, "console"},
    }};
};
static_assert(round_trips<usbarb::UseKind>());
}  // namespace storctl
