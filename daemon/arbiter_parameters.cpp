#include "daemon/arbiter_parameters.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"
#include "usbarb/actuation.hpp"

namespace storctl {
namespace {

using control::Call;
using nlohmann::json;

constexpr size_t most_targets = 256;
constexpr size_t reason_limit_bytes = 256;

bool one_line(const std::string& value) {
    return value.size() <= reason_limit_bytes && std::none_of(value.begin(), value.end(), [](char c) {
               return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
           });
}

/// False: an error has been answered.
bool take_id(Call& call, const char* name, std::optional<uint16_t>& id) {
    const auto given = optional_parameter<std::string>(call.parameters(), name);
    if (!given) return true;
    const auto bytes = hex_decode(*given);
    if (!bytes || bytes->size() != 2) {
        answer_invalid(call, name, *given, "give four hexadecimal digits, \"046d\"");
        return false;
    }
    id = static_cast<uint16_t>((*bytes)[0] << 8 | (*bytes)[1]);
    return true;
}

/// Of a rule whose holder is none of its mistakes; of one that matches everything, the first that may be given.
const char* wrong_parameter(const usbarb::Rule& rule) {
    if (rule.product_id && !rule.vendor_id) return "product_id";
    const bool good_socket = rule.socket && usbarb::check_rule({.socket = rule.socket, .holder = rule.holder});
    return rule.serial && (!rule.socket || good_socket) ? "serial" : "socket";
}

}  // namespace

bool flag_parameter(const json& parameters, const char* name) {
    return optional_parameter<bool>(parameters, name).value_or(false);
}

std::string text_parameter(const json& parameters, const char* name) {
    return optional_parameter<std::string>(parameters, name).value_or("");
}

void answer_invalid(Call& call, const char* parameter, const std::string& value, const std::string& message) {
    call.error("InvalidValue", {{"parameter", parameter}, {"value", value}, {"message", message}});
}

std::optional<std::vector<WantedTarget>> wanted_targets(Call& call, const json& targets) {
    std::vector<WantedTarget> out;
    for (const auto& target : targets) {
        WantedTarget wanted{
            .bus = target.at("bus"), .what = target.at("what"), .optional = flag_parameter(target, "optional")};
        if (wanted.bus != "usb" && wanted.bus != "pci") {
            answer_invalid(call, "bus", wanted.bus, "give usb or pci");
            return std::nullopt;
        }
        out.push_back(std::move(wanted));
    }
    if (out.empty() || out.size() > most_targets) {
        answer_invalid(call, "targets", std::to_string(out.size()), fmt::format("give 1 to {} targets", most_targets));
        return std::nullopt;
    }
    return out;
}

bool check_holder_parameter(Call& call) {
    const std::string holder = text_parameter(call.parameters(), "holder");
    if (holder.empty()) return true;
    const auto good = usbarb::check_holder(holder);
    if (!good) answer_invalid(call, "holder", holder, good.error().context);
    return good.has_value();
}

bool check_interfaces(Call& call) {
    const auto given = optional_parameter<std::vector<int64_t>>(call.parameters(), "interfaces");
    if (!given) return true;
    for (const int64_t number : *given) {
        if (number >= 0 && number <= usbarb::highest_restricted_interface) continue;
        answer_invalid(call, "interfaces", std::to_string(number),
                       fmt::format("give numbers from 0 to {}", usbarb::highest_restricted_interface));
        return false;
    }
    if (!given->empty()) return true;
    answer_invalid(call, "interfaces", "[]", "name at least one, or leave the parameter out");
    return false;
}

bool check_claim_texts(Call& call) {
    const auto& parameters = call.parameters();
    const std::string holder = parameters.at("holder");
    const std::string origin = optional_parameter<std::string>(parameters, "origin").value_or("admin");
    const std::string reason = text_parameter(parameters, "reason");
    if (auto good = usbarb::check_holder(holder); !good) {
        answer_invalid(call, "holder", holder, good.error().context);
    } else if (origin != "admin" && origin != "libvirt") {
        answer_invalid(call, "origin", origin, "give admin or libvirt");
    } else if (!one_line(reason)) {
        answer_invalid(call, "reason", reason, fmt::format("give one line of at most {} bytes", reason_limit_bytes));
    } else {
        return true;
    }
    return false;
}

std::optional<usbarb::Rule> wanted_rule(Call& call) {
    const auto& parameters = call.parameters();
    usbarb::Rule rule{.serial = optional_parameter<std::string>(parameters, "serial"),
                      .holder = parameters.at("holder")};
    if (const auto socket = optional_parameter<std::string>(parameters, "socket")) {
        auto parsed = usbarb::parse_socket(*socket);
        if (!parsed) {
            answer_invalid(call, "socket", *socket, parsed.error().context);
            return std::nullopt;
        }
        rule.socket = std::move(*parsed);
    }
    if (!take_id(call, "vendor_id", rule.vendor_id) || !take_id(call, "product_id", rule.product_id))
        return std::nullopt;
    if (const auto device_class = optional_parameter<int64_t>(parameters, "device_class")) {
        if (*device_class < 0 || *device_class > UINT8_MAX) {
            answer_invalid(call, "device_class", std::to_string(*device_class), "give 0 to 255");
            return std::nullopt;
        }
        rule.device_class = static_cast<uint8_t>(*device_class);
    }
    if (auto good = usbarb::check_holder(rule.holder); !good) {
        answer_invalid(call, "holder", rule.holder, good.error().context);
        return std::nullopt;
    }
    if (auto good = usbarb::check_rule(rule); !good) {
        const char* const parameter = wrong_parameter(rule);
        answer_invalid(call, parameter, text_parameter(parameters, parameter), good.error().context);
        return std::nullopt;
    }
    return rule;
}

}  // namespace storctl
