#pragma once
// Rules: which holder gets a device by itself when it is plugged in. Pure.

#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "usbarb/facts.hpp"

namespace storctl::usbarb {

/// What is not given matches everything; at least one is given.
struct Rule {
    uint64_t id = 0;
    std::optional<Socket> socket;  ///< whatever is plugged in there: also what changes its ids in firmware mode
    std::optional<uint16_t> vendor_id, product_id;
    std::optional<std::string> serial;
    std::optional<uint8_t> device_class;  ///< the device's or one of its interfaces'
    std::string holder;
    WallTime created{};
    std::string created_by;
    bool operator==(const Rule&) const = default;
};

/// invalid_argument with what is wrong: nothing given, a product without a vendor, a holder that is none.
Result<void> check_rule(const Rule& rule);
bool matches(const Rule& rule, const DeviceFacts& device);
/// The most particular of those that match: socket before serial before VID:PID before vendor before class; then the
/// oldest. Hubs are taken by rules with a socket only.
const Rule* choose_rule(const std::vector<Rule>& rules, const DeviceFacts& device);
/// "vm:NAME", "host" or "proc:PID"; invalid_argument otherwise. NAME: 1 to 255 bytes of printable UTF-8.
Result<void> check_holder(std::string_view holder);

}  // namespace storctl::usbarb
