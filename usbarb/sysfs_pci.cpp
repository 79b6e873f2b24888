#include "usbarb/sysfs_pci.hpp"

#include <filesystem>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "usbarb/sysfs_folder.hpp"

namespace storctl::usbarb {
namespace {

constexpr uint32_t class_usb = 0x0c03;
constexpr uint32_t class_nvme = 0x0108;
constexpr uint32_t class_pci_bridge = 0x0604, class_transparent_bridge = 0x0609;

/// Programming interfaces of the older USB controllers; xHCI (0x30) serves all of its sockets alone.
constexpr uint32_t interface_uhci = 0x00, interface_ohci = 0x10, interface_ehci = 0x20;

ControllerKind kind_of(uint32_t class_code) {
    if (class_code >> 8 == class_usb) return ControllerKind::usb;
    if (class_code >> 8 == class_nvme) return ControllerKind::nvme;
    switch (class_code >> 16) {
        case 0x01:
            return ControllerKind::storage;
        case 0x02:
            return ControllerKind::network;
        case 0x03:
            return ControllerKind::display;
        default:
            return ControllerKind::other;
    }
}

/// Bridges between PCI buses stay with the host while the rest of their group is a guest's. Other bridges (ISA, host)
/// are functions like any: their drivers stand in the group's way.
bool is_bridge(uint32_t class_code, const std::string& driver) {
    return class_code >> 8 == class_pci_bridge || class_code >> 8 == class_transparent_bridge || driver == "pcieport";
}

bool has_companions(uint32_t class_code) {
    const uint32_t interface = class_code & 0xff;
    return class_code >> 8 == class_usb &&
           (interface == interface_uhci || interface == interface_ohci || interface == interface_ehci);
}

Result<uint32_t> read_class(const SysfsFolder& folder) { return folder.number("class", 16, 0xffffff); }

Result<NeighbourFacts> read_neighbour(const std::string& folder_path, const std::string& name) {
    const SysfsFolder folder(folder_path);
    NeighbourFacts facts{.path = name, .driver = folder.link_name("driver")};
    // a group may hold devices that are not on PCI, which have no class and are no bridges
    if (!is_pci_address(name)) return facts;
    const uint32_t class_code = TRY(read_class(folder));
    facts.bridge = is_bridge(class_code, facts.driver);
    return facts;
}

std::string functions_folder(const KernelPaths& paths) { return paths.sys + "/bus/pci/devices"; }

Result<std::vector<NeighbourFacts>> read_group(const std::string& itself, const std::string& folder) {
    std::vector<NeighbourFacts> out;
    const auto names = TRY(read_directory(folder));
    for (const auto& name : names) {
        if (name == itself) continue;
        auto facts = read_neighbour(fmt::format("{}/{}", folder, name), name);
        if (!facts && facts.error().code == std::errc::no_such_device) continue;
        if (!facts) return std::move(facts).error();
        out.push_back(std::move(*facts));
    }
    return out;
}

Result<std::vector<NeighbourFacts>> read_companions(const std::string& itself, const KernelPaths& paths) {
    std::vector<NeighbourFacts> out;
    for (char function = '0'; function < '8'; ++function) {
        std::string name = itself;
        name.back() = function;
        if (name == itself) continue;
        const SysfsFolder folder(fmt::format("{}/{}", functions_folder(paths), name));
        if (!folder.there()) continue;
        const auto class_code = read_class(folder);
        if (!class_code && class_code.error().code == std::errc::no_such_device) continue;
        if (!class_code) return class_code.error();
        if (has_companions(*class_code)) out.push_back({.path = name, .driver = folder.link_name("driver")});
    }
    return out;
}

Result<void> read_iommu_group(const SysfsFolder& folder, ControllerFacts& facts) {
    const std::string number = folder.link_name("iommu_group");
    if (number.empty()) return {};
    const auto value = parse_number(number, 10, 0x7fffffff);
    if (!value) {
        return make_error(std::errc{},
                          fmt::format("'{}/iommu_group' leads to '{}', which is no group", folder.path(), number));
    }
    facts.iommu_group = static_cast<int>(*value);
    facts.group = TRY(read_group(facts.path, folder.path() + "/iommu_group/devices"));
    return {};
}

}  // namespace

Result<ControllerFacts> read_function(const std::string& path, const KernelPaths& paths) {
    const std::string link = fmt::format("{}/{}", functions_folder(paths), path);
    const SysfsFolder folder(device_path(paths.sys, link));
    if (!is_pci_address(path) || folder.path().empty() || !folder.there()) {
        return make_error(std::errc::no_such_device, fmt::format("the PCI function '{}' is not there", path));
    }
    ControllerFacts facts{.path = path, .syspath = folder.path(), .driver = folder.link_name("driver")};
    facts.class_code = TRY(read_class(folder));
    facts.vendor_id = static_cast<uint16_t>(TRY(folder.number("vendor", 16, 0xffff)));
    facts.device_id = static_cast<uint16_t>(TRY(folder.number("device", 16, 0xffff)));
    facts.kind = kind_of(facts.class_code);
    facts.bridge = is_bridge(facts.class_code, facts.driver);
    TRY(read_iommu_group(folder, facts));
    if (has_companions(facts.class_code)) facts.companions = TRY(read_companions(path, paths));
    if (facts.kind == ControllerKind::usb) facts.buses = TRY(read_buses(folder.path()));
    return facts;
}

Result<std::vector<std::string>> list_functions(const KernelPaths& paths) {
    return read_directory(functions_folder(paths));
}

Result<std::vector<ControllerFacts>> read_functions(const KernelPaths& paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(paths.sys + "/devices", error)) {
        return make_error(std::errc::no_such_file_or_directory,
                          fmt::format("cannot enumerate PCI functions: '{}' is no sysfs, is it mounted?", paths.sys));
    }
    std::vector<ControllerFacts> out;
    const auto names = TRY(list_functions(paths));
    for (const auto& name : names) {
        auto facts = read_function(name, paths);
        if (facts) {
            out.push_back(std::move(*facts));
        } else if (facts.error().code != std::errc::no_such_device) {
            log::error("the PCI function '{}' is left out: {}", name, facts.error().message());
        }
    }
    return out;
}

}  // namespace storctl::usbarb
