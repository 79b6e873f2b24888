#include "usbarb/sysfs_folder.hpp"

#include <charconv>

#include <fmt/format.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/socket.hpp"

namespace storctl::usbarb {
namespace {

constexpr uint32_t highest_bus = 999;  // more than the kernel has numbers for (drivers/usb/core/hcd.c: 64)
constexpr size_t deepest = 6;

std::string wrong_text(const std::string& path, std::string_view what) {
    return fmt::format("'{}' says '{}', which is not what the kernel writes there", path, escape_unprintable(what));
}

/// Cuts `syspath` behind the last part that `wanted` takes.
template <class Wanted>
std::string cut_behind(std::string_view syspath, Wanted wanted) {
    for (size_t end = syspath.size(); end != std::string_view::npos && end > 0;) {
        const size_t slash = syspath.rfind('/', end - 1);
        if (slash == std::string_view::npos) return {};
        if (wanted(syspath.substr(slash + 1, end - slash - 1))) return std::string(syspath.substr(0, end));
        end = slash;
    }
    return {};
}

}  // namespace

std::optional<uint32_t> parse_number(std::string_view text, int base, uint32_t highest) {
    if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    const bool whole = error == std::errc{} && end == text.data() + text.size() && !text.empty();
    return whole && value <= highest ? std::optional(value) : std::nullopt;
}

bool SysfsFolder::there() const { return ::access((path_ + "/uevent").c_str(), F_OK) == 0; }

std::string SysfsFolder::text(std::string_view name) const { return read_attribute(fmt::format("{}/{}", path_, name)); }

Error SysfsFolder::missing(std::string_view name) const {
    if (!there()) return make_error(std::errc::no_such_device, fmt::format("'{}' is not there", path_));
    return make_error(std::errc{}, fmt::format("'{}/{}' cannot be read", path_, name));
}

Result<std::string> SysfsFolder::required_text(std::string_view name) const {
    const auto content = read_file(fmt::format("{}/{}", path_, name));
    // attributes of a device that is going answer with ENODEV, or are there and empty
    if (!content) return missing(name);
    return std::string(trim(*content));
}

Result<uint32_t> SysfsFolder::number(std::string_view name, int base, uint32_t highest) const {
    const std::string content = TRY(required_text(name));
    const auto value = parse_number(content, base, highest);
    if (value) return *value;
    if (!there()) return missing(name);
    return make_error(std::errc{}, wrong_text(fmt::format("{}/{}", path_, name), content));
}

std::string SysfsFolder::link_name(std::string_view name) const {
    return base_name(read_link(fmt::format("{}/{}", path_, name)));
}

std::string device_path(const std::string& sys, const std::string& link) {
    const std::string target = read_link(link);
    std::string_view rest = target;
    while (rest.starts_with("../")) rest.remove_prefix(3);
    return rest.starts_with("devices/") ? fmt::format("{}/{}", sys, rest) : std::string();
}

std::optional<UsbName> parse_usb_name(std::string_view name) {
    const bool root = name.starts_with("usb");
    if (root) name.remove_prefix(3);
    const size_t dash = name.find('-');
    if (root != (dash == std::string_view::npos)) return std::nullopt;
    const auto bus = parse_number(name.substr(0, dash), 10, highest_bus);
    if (!bus || *bus == 0) return std::nullopt;
    UsbName out{.bus = static_cast<uint16_t>(*bus)};
    if (root) return out;
    if (dash + 1 == name.size()) return std::nullopt;
    for (const auto& part : split(name.substr(dash + 1), '.')) {
        const auto port = parse_number(part, 10, 255);
        if (!port || *port == 0 || out.ports.size() == deepest) return std::nullopt;
        out.ports.push_back(static_cast<uint8_t>(*port));
    }
    return out;
}

bool is_pci_address(std::string_view name) {
    const auto full = parse_pci_address(name);
    return full && *full == name;
}

std::string function_above(std::string_view syspath) { return cut_behind(syspath, is_pci_address); }

std::string usb_device_above(std::string_view syspath) {
    return cut_behind(syspath, [syspath](std::string_view part) {
        const auto name = parse_usb_name(part);
        // other buses have such names too ("1-0050" on I2C), but not below a root hub
        return name && !name->ports.empty() &&
               syspath.find(fmt::format("/usb{}/", name->bus)) != std::string_view::npos;
    });
}

}  // namespace storctl::usbarb
