#include "usbarb/rules.hpp"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::usbarb {
namespace {

constexpr size_t longest_name_bytes = 255;

auto particularity(const Rule& rule) {
    return std::tuple(rule.socket.has_value(), rule.serial.has_value(), rule.product_id.has_value(),
                      rule.vendor_id.has_value(), rule.device_class.has_value());
}

bool has_class(const DeviceFacts& device, uint8_t wanted) {
    if (device.device_class == wanted) return true;
    return std::any_of(device.interfaces.begin(), device.interfaces.end(),
                       [wanted](const InterfaceFacts& interface) { return interface.device_class == wanted; });
}

}  // namespace

Result<void> check_holder(std::string_view holder) {
    const auto wrong = [&](std::string_view what) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' is no holder: {}", escape_unprintable(holder), what));
    };
    if (holder == "host") return {};
    if (holder.starts_with("proc:")) {
        const auto pid = parse_unsigned(holder.substr(5), "process");
        if (!pid || *pid == 0) return wrong("proc: wants a process number");
        return {};
    }
    if (!holder.starts_with("vm:")) return wrong("it is vm:NAME, host or proc:PID");
    const std::string_view name = holder.substr(3);
    if (name.empty() || name.size() > longest_name_bytes) return wrong("a machine's name has 1 to 255 bytes");
    const bool printable = valid_utf8(name) && std::none_of(name.begin(), name.end(),
                                                            [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!printable) return wrong("a machine's name is printable text");
    return {};
}

Result<void> check_rule(const Rule& rule) {
    TRY(check_holder(rule.holder));
    const auto wrong = [](std::string message) { return make_error(std::errc::invalid_argument, std::move(message)); };
    const bool anything = rule.socket || rule.vendor_id || rule.product_id || rule.serial || rule.device_class;
    if (!anything)
        return wrong("a rule that matches every device is refused: give a socket, an id, a serial or a class");
    if (rule.product_id && !rule.vendor_id) return wrong("a product id means nothing without its vendor id");
    if (rule.socket && (rule.socket->is_root() || !rule.socket->unit.empty())) {
        return wrong(fmt::format("'{}' is no socket that a device can be plugged into", to_text(*rule.socket)));
    }
    if (rule.serial && trim(*rule.serial).empty()) return wrong("an empty serial number matches nothing");
    return {};
}

bool matches(const Rule& rule, const DeviceFacts& device) {
    if (device.hub && !rule.socket) return false;
    if (rule.socket && *rule.socket != device.socket) return false;
    if (rule.vendor_id && *rule.vendor_id != device.identity.vendor_id) return false;
    if (rule.product_id && *rule.product_id != device.identity.product_id) return false;
    if (rule.serial && *rule.serial != device.identity.serial) return false;
    return !rule.device_class || has_class(device, *rule.device_class);
}

const Rule* choose_rule(const std::vector<Rule>& rules, const DeviceFacts& device) {
    const Rule* chosen = nullptr;
    for (const Rule& rule : rules) {
        if (!matches(rule, device)) continue;
        const bool better = chosen == nullptr || particularity(rule) > particularity(*chosen) ||
                            (particularity(rule) == particularity(*chosen) && rule.id < chosen->id);
        if (better) chosen = &rule;
    }
    return chosen;
}

}  // namespace storctl::usbarb
