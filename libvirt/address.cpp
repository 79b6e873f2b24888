#include "libvirt/address.hpp"

#include <charconv>
#include <vector>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::libvirt {
namespace {

constexpr size_t max_ports = 7;  // a root port and five hubs; one to spare

std::optional<uint32_t> parse_digits(std::string_view text, int base, uint32_t most) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
    return value;
}

}  // namespace

std::optional<uint32_t> parse_number(std::string_view text, uint32_t most) {
    if (text.starts_with("0x") || text.starts_with("0X")) return parse_digits(text.substr(2), 16, most);
    if (text.size() > 1 && text.starts_with('0')) return parse_digits(text.substr(1), 8, most);
    return parse_digits(text, 10, most);
}

std::string usb_node(uint32_t bus, uint32_t device) { return fmt::format("/dev/bus/usb/{:03}/{:03}", bus, device); }

std::optional<std::string> usb_kernel_name(uint32_t bus, std::string_view port) {
    const auto chain = split(port, '.');
    if (bus == 0 || chain.empty() || chain.size() > max_ports) return std::nullopt;
    std::string out;
    for (const auto& one : chain) {
        const auto number = parse_digits(one, 10, UINT8_MAX);
        if (!number || *number == 0) return std::nullopt;
        out += fmt::format("{}{}", out.empty() ? "" : ".", *number);
    }
    return fmt::format("{}-{}", bus, out);
}

std::string usb_ids(uint32_t vendor, uint32_t product) { return fmt::format("{:04x}:{:04x}", vendor, product); }

std::optional<std::string> pci_address(uint32_t domain, uint32_t bus, uint32_t slot, uint32_t function) {
    if (bus > 0xff || slot > 0x1f || function > 7) return std::nullopt;
    return fmt::format("{:04x}:{:02x}:{:02x}.{}", domain, bus, slot, function);
}

std::optional<std::string> parse_pci_address(std::string_view text) {
    const auto parts = split(text, ':');
    if (parts.size() < 2 || parts.size() > 3) return std::nullopt;
    const auto dot = parts.back().find('.');
    if (dot == std::string::npos) return std::nullopt;
    const auto domain = parts.size() == 3 ? parse_digits(parts[0], 16, UINT32_MAX) : 0;
    const auto bus = parse_digits(parts[parts.size() - 2], 16, UINT32_MAX);
    const auto slot = parse_digits(std::string_view(parts.back()).substr(0, dot), 16, UINT32_MAX);
    const auto function = parse_digits(std::string_view(parts.back()).substr(dot + 1), 16, UINT32_MAX);
    if (!domain || !bus || !slot || !function) return std::nullopt;
    return pci_address(*domain, *bus, *slot, *function);
}

}  // namespace storctl::libvirt
