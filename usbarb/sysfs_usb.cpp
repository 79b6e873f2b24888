#include "usbarb/sysfs_usb.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "usbarb/sysfs_folder.hpp"
#include "usbarb/sysfs_pci.hpp"

namespace storctl::usbarb {
namespace {

constexpr uint32_t super_speed_mbps = 5000;
constexpr uint8_t hub_class = 9;
constexpr int deepest_root_hub = 3;  // "0000:00:15.0/dwc3.1.auto/xhci-hcd.2.auto/usb1"

/// A USB 3 controller has two root hubs; the speed tells which one this is.
Result<Half> read_half(const std::string& root_hub) {
    const SysfsFolder folder(root_hub);
    const std::string speed = TRY(folder.required_text("speed"));
    // whole numbers but for "1.5"
    const auto whole = parse_number(speed.substr(0, speed.find('.')), 10, 1000000);
    if (!whole) {
        return make_error(folder.there() ? std::errc{} : std::errc::no_such_device,
                          fmt::format("'{}/speed' says '{}', which is no speed", root_hub, escape_unprintable(speed)));
    }
    return *whole >= super_speed_mbps ? Half::usb3 : Half::usb2;
}

/// "…/usb2/2-0:1.0/usb2-port1/peer" → "../../../usb1/1-0:1.0/usb1-port5": port 1 of the USB 3 root hub is port 5.
Result<std::map<uint8_t, uint8_t>> read_peers(const std::string& root_hub) {
    const std::string name = base_name(root_hub);
    const std::string interface = fmt::format("{}/{}-0:1.0", root_hub, name.substr(3));
    const std::string prefix = name + "-port";
    std::map<uint8_t, uint8_t> peers;
    const auto entries = TRY(read_directory(interface));
    for (const auto& entry : entries) {
        if (!entry.starts_with(prefix)) continue;
        const std::string link = fmt::format("{}/{}/peer", interface, entry);
        const std::string target = base_name(read_link(link));
        if (target.empty()) continue;
        const auto port = parse_number(std::string_view(entry).substr(prefix.size()), 10, 255);
        const size_t at = target.rfind("-port");
        const auto peer = at == std::string::npos ? std::nullopt : parse_number(target.substr(at + 5), 10, 255);
        if (!port || !peer || *peer == 0) {
            return make_error(std::errc{}, fmt::format("'{}' leads to '{}', which is no port of a root hub", link,
                                                       escape_unprintable(target)));
        }
        peers.emplace(static_cast<uint8_t>(*port), static_cast<uint8_t>(*peer));
    }
    return peers;
}

/// Root hubs at or below `folder`, not below other PCI functions.
Result<void> find_root_hubs(const std::string& folder, int depth, std::vector<std::string>& out) {
    const auto names = TRY(read_directory(folder));
    for (const auto& name : names) {
        const auto usb = parse_usb_name(name);
        const std::string path = fmt::format("{}/{}", folder, name);
        if (usb && usb->ports.empty()) {
            out.push_back(path);
        } else if (depth > 1 && !is_pci_address(name) && !is_symlink(std::filesystem::symlink_status(path)) &&
                   SysfsFolder(path).there()) {
            TRY(find_root_hubs(path, depth - 1, out));
        }
    }
    return {};
}

Result<uint8_t> read_byte(const SysfsFolder& folder, std::string_view name) {
    const uint32_t value = TRY(folder.number(name, 16, 0xff));
    return static_cast<uint8_t>(value);
}

Result<InterfaceFacts> read_interface(const std::string& path) {
    const SysfsFolder folder(path);
    InterfaceFacts facts;
    facts.number = TRY(read_byte(folder, "bInterfaceNumber"));
    facts.device_class = TRY(read_byte(folder, "bInterfaceClass"));
    facts.subclass = TRY(read_byte(folder, "bInterfaceSubClass"));
    facts.protocol = TRY(read_byte(folder, "bInterfaceProtocol"));
    facts.driver = folder.link_name("driver");
    return facts;
}

Result<std::vector<InterfaceFacts>> read_interfaces(const std::string& device) {
    std::vector<InterfaceFacts> out;
    const std::string prefix = base_name(device) + ":";
    const auto names = TRY(read_directory(device));
    for (const auto& name : names) {
        if (!name.starts_with(prefix)) continue;
        auto facts = read_interface(fmt::format("{}/{}", device, name));
        // a change of configuration takes interfaces away while the device stays
        if (!facts && facts.error().code == std::errc::no_such_device) continue;
        if (!facts) return std::move(facts).error();
        out.push_back(std::move(*facts));
    }
    return out;
}

Result<void> read_attributes(const SysfsFolder& folder, DeviceFacts& facts) {
    facts.bus = static_cast<uint16_t>(TRY(folder.number("busnum", 10, 0xffff)));
    facts.address = static_cast<uint16_t>(TRY(folder.number("devnum", 10, 0xffff)));
    facts.identity.vendor_id = static_cast<uint16_t>(TRY(folder.number("idVendor", 16, 0xffff)));
    facts.identity.product_id = static_cast<uint16_t>(TRY(folder.number("idProduct", 16, 0xffff)));
    facts.identity.serial = folder.text("serial");
    facts.vendor = folder.text("manufacturer");
    facts.product = folder.text("product");
    facts.device_class = TRY(read_byte(folder, "bDeviceClass"));
    facts.speed_mbps = TRY(folder.required_text("speed"));
    facts.configured = !folder.text("bConfigurationValue").empty();
    facts.hub = facts.device_class == hub_class;
    if (facts.hub) facts.ports = static_cast<uint8_t>(TRY(folder.number("maxchild", 10, 255)));
    return {};
}

}  // namespace

std::string root_hub_of(std::string_view syspath) {
    for (size_t at = syspath.find("/usb"); at != std::string_view::npos; at = syspath.find("/usb", at + 1)) {
        const size_t end = std::min(syspath.find('/', at + 1), syspath.size());
        const auto name = parse_usb_name(syspath.substr(at + 1, end - at - 1));
        if (name && name->ports.empty()) return std::string(syspath.substr(0, end));
    }
    return {};
}

std::string controller_of(const std::string& syspath) {
    const std::string root_hub = root_hub_of(syspath);
    if (root_hub.empty()) return {};
    const std::string above = dir_name(root_hub);
    // what hangs on a PCI function by way of a platform device goes away with the function all the same
    const std::string function = function_above(above);
    return function.empty() ? "platform/" + base_name(above) : base_name(function);
}

Result<std::array<uint16_t, 2>> read_buses(const std::string& controller_syspath) {
    std::vector<std::string> hubs;
    TRY(find_root_hubs(controller_syspath, deepest_root_hub, hubs));
    std::array<uint16_t, 2> buses{};
    for (const auto& hub : hubs) {
        const auto half = read_half(hub);
        if (!half && half.error().code == std::errc::no_such_device) continue;
        if (!half) return half.error();
        auto& number = buses[static_cast<size_t>(*half)];
        if (number == 0) number = parse_usb_name(base_name(hub))->bus;
    }
    return buses;
}

Result<UsbReader::Bus> UsbReader::read_bus(const std::string& root_hub) const {
    Bus bus{.controller = controller_of(root_hub)};
    bus.half = TRY(read_half(root_hub));
    if (bus.half == Half::usb3) bus.peers = TRY(read_peers(root_hub));
    return bus;
}

Result<const UsbReader::Bus*> UsbReader::bus_of(const std::string& root_hub, uint8_t port) {
    const auto known = buses_.find(root_hub);
    // a root hub's ports, and their peers, come after itself
    const bool enough =
        known != buses_.end() && (known->second.half == Half::usb2 || known->second.peers.count(port) > 0);
    if (enough) return &known->second;
    auto fresh = read_bus(root_hub);
    const bool gone = !fresh && fresh.error().code == std::errc::no_such_device;
    if (gone && known != buses_.end()) return &known->second;
    if (!fresh) return std::move(fresh).error();
    // one that is going loses its ports first: what it had still says where its devices were
    if (known != buses_.end()) fresh->peers.merge(known->second.peers);
    return &(buses_[root_hub] = std::move(*fresh));
}

Result<std::pair<Socket, Half>> UsbReader::place_of(const std::string& syspath) {
    const std::string root_hub = root_hub_of(syspath);
    auto name = parse_usb_name(base_name(syspath));
    if (root_hub.empty() || !name) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' is no path of a USB device", escape_unprintable(syspath)));
    }
    const uint8_t port = name->ports.empty() ? 0 : name->ports.front();
    const Bus* bus = TRY(bus_of(root_hub, port));
    Socket socket{.controller = bus->controller, .ports = std::move(name->ports)};
    if (bus->half == Half::usb3 && port != 0) {
        const auto peer = bus->peers.find(port);
        socket.usb3_only = peer == bus->peers.end();
        if (!socket.usb3_only) socket.ports.front() = peer->second;
    }
    return std::pair(std::move(socket), bus->half);
}

Result<DeviceFacts> UsbReader::read(const std::string& syspath) {
    const SysfsFolder folder(syspath);
    if (!folder.there()) {
        return make_error(std::errc::no_such_device, fmt::format("the USB device '{}' is not there", syspath));
    }
    DeviceFacts facts{.kernel_name = base_name(syspath), .syspath = syspath};
    auto place = TRY(place_of(syspath));
    if (place.first.is_root()) {
        return make_error(std::errc::invalid_argument, fmt::format("'{}' is a root hub", syspath));
    }
    facts.socket = std::move(place.first);
    facts.half = place.second;
    TRY(read_attributes(folder, facts));
    facts.interfaces = TRY(read_interfaces(syspath));
    // gone by now: what was read may be of two devices
    const auto address = folder.number("devnum", 10, 0xffff);
    if (!address || *address != facts.address) {
        return make_error(std::errc::no_such_device,
                          fmt::format("the USB device '{}' went while it was read", syspath));
    }
    return facts;
}

Result<ControllerFacts> UsbReader::read_controller_of(const std::string& syspath) const {
    const std::string root_hub = root_hub_of(syspath);
    if (root_hub.empty()) {
        return make_error(std::errc::invalid_argument, fmt::format("'{}' is not on a USB bus", syspath));
    }
    const std::string path = controller_of(root_hub);
    if (is_pci_address(path)) return read_function(path, paths_);
    const SysfsFolder folder(dir_name(root_hub));
    if (!folder.there()) {
        return make_error(std::errc::no_such_device, fmt::format("the USB controller '{}' is not there", path));
    }
    ControllerFacts facts{.path = path, .pci = false, .kind = ControllerKind::usb, .syspath = folder.path()};
    facts.driver = folder.link_name("driver");
    facts.buses = TRY(read_buses(folder.path()));
    return facts;
}

Result<std::vector<std::string>> UsbReader::list_devices() const {
    std::error_code error;
    if (!std::filesystem::is_directory(paths_.sys + "/devices", error)) {
        return make_error(std::errc::no_such_file_or_directory,
                          fmt::format("cannot enumerate USB devices: '{}' is no sysfs, is it mounted?", paths_.sys));
    }
    const std::string folder = paths_.sys + "/bus/usb/devices";
    std::vector<std::string> out;
    const auto names = TRY(read_directory(folder));
    for (const auto& name : names) {
        const auto parsed = parse_usb_name(name);
        if (!parsed || parsed->ports.empty()) continue;
        if (auto path = device_path(paths_.sys, fmt::format("{}/{}", folder, name)); !path.empty()) {
            out.push_back(std::move(path));
        }
    }
    return out;
}

Result<UsbScan> UsbReader::read_controllers() {
    TRY(list_devices());
    const std::string folder = paths_.sys + "/bus/usb/devices";
    const auto names = TRY(read_directory(folder));
    UsbScan out;
    std::set<std::string> seen;
    std::map<std::string, Bus> buses;
    for (const auto& name : names) {
        const auto parsed = parse_usb_name(name);
        if (!parsed || !parsed->ports.empty()) continue;
        const std::string root_hub = device_path(paths_.sys, fmt::format("{}/{}", folder, name));
        if (root_hub.empty()) continue;
        auto bus = read_bus(root_hub);
        if (bus) buses.emplace(root_hub, std::move(*bus));
        if (!seen.insert(controller_of(root_hub)).second) continue;
        auto facts = read_controller_of(root_hub);
        if (facts) {
            out.controllers.push_back(std::move(*facts));
        } else if (facts.error().code != std::errc::no_such_device) {
            log::error("the USB controller of '{}' cannot be read: {}", root_hub, facts.error().message());
            out.unreadable.push_back(controller_of(root_hub));
        }
    }
    buses_ = std::move(buses);
    return out;
}

Result<UsbScan> UsbReader::read_all() {
    UsbScan scan = TRY(read_controllers());
    const auto paths = TRY(list_devices());
    for (const auto& path : paths) {
        auto facts = read(path);
        if (facts) {
            scan.devices.push_back(std::move(*facts));
        } else if (facts.error().code != std::errc::no_such_device) {
            log::error("the USB device '{}' cannot be read: {}", path, facts.error().message());
            scan.unreadable.push_back(path);
        }
    }
    return scan;
}

}  // namespace storctl::usbarb
