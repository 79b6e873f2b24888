#include "daemon/usb_node_request.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "daemon/arbiter_parameters.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using node::OpenPolicy;
using node::usbfs::Denial;

NodeRefusal invalid(const char* parameter, std::string value, std::string message) {
    return {"InvalidValue", {{"parameter", parameter}, {"value", std::move(value)}, {"message", std::move(message)}}};
}

std::optional<NodeRefusal> take_interfaces(const json& parameters, node::usbfs::Policy& policy) {
    const auto given = optional_parameter<std::vector<int64_t>>(parameters, "interfaces");
    if (!given) return std::nullopt;
    auto& allowed = policy.interfaces.emplace();
    for (const int64_t number : *given) {
        if (number < 0 || number > std::numeric_limits<uint8_t>::max()) {
            return invalid("interfaces", std::to_string(number), "an interface's number is 0 to 255");
        }
        allowed.insert(static_cast<uint8_t>(number));
    }
    if (allowed.empty()) return invalid("interfaces", "", "give at least one, or leave it out for all");
    return std::nullopt;
}

std::optional<NodeRefusal> take_denials(const json& parameters, node::usbfs::Policy& policy) {
    const auto given = optional_parameter<std::vector<std::string>>(parameters, "deny");
    if (!given) return std::nullopt;
    policy.deny.clear();
    for (const auto& name : *given) {
        const auto what = from_text<Denial>(name);
        if (!what) return invalid("deny", name, fmt::format("it is not {}", all_names<Denial>()));
        policy.deny.insert(*what);
    }
    return std::nullopt;
}

}  // namespace

std::variant<UsbNodeRequest, NodeRefusal> usb_node_request(const json& parameters) {
    UsbNodeRequest out;
    out.name = parameters.at("name");
    out.target = parameters.at("target");
    out.holder = parameters.at("holder");
    out.open = optional_parameter<std::string>(parameters, "open").value_or("single-writer");
    out.reason = text_parameter(parameters, "reason");
    out.dry_run = flag_parameter(parameters, "dry_run");
    if (auto good = node::check_node_name(out.name); !good) return invalid("name", out.name, good.error().context);
    const auto open = from_text<OpenPolicy>(out.open);
    if (!open || *open == OpenPolicy::read_only) {
        return invalid("open", out.open,
                       fmt::format("it is not {} or {}: whoever only reads a USB device's node gets its descriptors, "
                                   "and is always let in",
                                   to_text(OpenPolicy::single_writer), to_text(OpenPolicy::shared)));
    }
    if (auto wrong = take_interfaces(parameters, out.policy)) return *wrong;
    if (auto wrong = take_denials(parameters, out.policy)) return *wrong;
    return out;
}

unsigned free_minor(const std::vector<NodeRecord>& existing) {
    std::set<unsigned> taken;
    for (const auto& record : existing) {
        if (record.usb) taken.insert(record.usb->minor);
    }
    unsigned out = node::usb_node_first_minor;
    while (taken.contains(out)) ++out;
    return out;
}

}  // namespace storctl
