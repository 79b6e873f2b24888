#include "usbarb/socket.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::usbarb {
namespace {

constexpr std::string_view usb3_prefix = "usb3-";
constexpr size_t deepest = 6;  // USB 2.0, 4.1.1: seven tiers, the root hub's is the first

std::optional<uint32_t> hexadecimal(std::string_view text, size_t digits, uint32_t highest) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    const bool whole = error == std::errc{} && end == text.data() + text.size();
    if (!whole || text.size() != digits || value > highest) return std::nullopt;
    return value;
}

std::optional<std::vector<uint8_t>> parse_ports(std::string_view text) {
    std::vector<uint8_t> ports;
    while (true) {
        const size_t dot = text.find('.');
        const std::string_view one = text.substr(0, dot);
        uint8_t port = 0;
        const auto [end, error] = std::from_chars(one.data(), one.data() + one.size(), port);
        const bool canonical = error == std::errc{} && end == one.data() + one.size() && port > 0 && one[0] != '0';
        if (!canonical || ports.size() == deepest) return std::nullopt;
        ports.push_back(port);
        if (dot == std::string_view::npos) return ports;
        text.remove_prefix(dot + 1);
    }
}

Error no_socket(std::string_view text) {
    return make_error(std::errc::invalid_argument,
                      fmt::format("'{}' is no socket: a socket is CONTROLLER/PORT.PORT…, such as 0000:00:14.0/2.1",
                                  escape_unprintable(text)));
}

}  // namespace

Socket Socket::parent() const {
    Socket above = *this;
    if (!above.unit.empty()) {
        above.unit.clear();
    } else if (!above.ports.empty()) {
        above.ports.pop_back();
        if (above.ports.empty()) above.usb3_only = false;
    }
    return above;
}

bool Socket::is_below(const Socket& hub) const {
    if (controller != hub.controller || *this == hub) return false;
    if (hub.is_root()) return true;
    return unit.empty() && hub.unit.empty() && usb3_only == hub.usb3_only && ports.size() > hub.ports.size() &&
           std::equal(hub.ports.begin(), hub.ports.end(), ports.begin());
}

std::string to_text(const Socket& socket) {
    if (!socket.unit.empty()) return fmt::format("{}/{}", socket.controller, socket.unit);
    if (socket.ports.empty()) return socket.controller;
    return fmt::format("{}/{}{}", socket.controller, socket.usb3_only ? usb3_prefix : "", fmt::join(socket.ports, "."));
}

Result<Socket> parse_socket(std::string_view text) {
    const bool elsewhere = text.starts_with("platform/");
    const size_t slash = text.find('/', elsewhere ? std::string_view("platform/").size() : 0);
    Socket socket;
    const std::string_view controller = text.substr(0, slash);
    if (elsewhere) {
        if (controller.size() == std::string_view("platform/").size()) return no_socket(text);
        socket.controller = controller;
    } else {
        auto address = parse_pci_address(controller);
        if (!address) return no_socket(text);
        socket.controller = std::move(*address);
    }
    if (slash == std::string_view::npos) return socket;
    std::string_view chain = text.substr(slash + 1);
    if (chain.starts_with(usb3_prefix)) {
        socket.usb3_only = true;
        chain.remove_prefix(usb3_prefix.size());
    }
    auto ports = parse_ports(chain);
    if (!ports) return no_socket(text);
    socket.ports = std::move(*ports);
    return socket;
}

Result<std::string> parse_pci_address(std::string_view text) {
    const auto wrong = make_error(std::errc::invalid_argument,
                                  fmt::format("'{}' is no PCI address such as 0000:00:14.0", escape_unprintable(text)));
    std::string_view rest = text;
    uint32_t domain = 0;
    if (std::count(rest.begin(), rest.end(), ':') == 2) {
        const size_t colon = rest.find(':');
        // a domain has four digits, more behind some host bridges (Linux: "10000" of VMD)
        const auto value = hexadecimal(rest.substr(0, colon), colon, 0xffffffff);
        if (!value || colon < 4 || colon > 8) return wrong;
        domain = *value;
        rest.remove_prefix(colon + 1);
    }
    if (rest.size() != std::string_view("00:00.0").size() || rest[2] != ':' || rest[5] != '.') return wrong;
    const auto bus = hexadecimal(rest.substr(0, 2), 2, 0xff);
    const auto slot = hexadecimal(rest.substr(3, 2), 2, 0x1f);
    const auto function = hexadecimal(rest.substr(6, 1), 1, 7);
    if (!bus || !slot || !function) return wrong;
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, *bus, *slot, *function);
}

}  // namespace storctl::usbarb
