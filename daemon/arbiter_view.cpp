#include "daemon/arbiter_view.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using usbarb::Arbiter;
using usbarb::ClaimRecord;
using usbarb::Half;

std::string clean(const std::string& text) { return valid_utf8(text) ? text : escape_unprintable(text); }

std::string hex4(uint16_t id) { return fmt::format("{:04x}", id); }

json time_or_null(const std::optional<WallTime>& time) { return time ? json(format_time(*time)) : json(nullptr); }

template <class T>
json or_null(const std::optional<T>& value) {
    return value ? json(*value) : json(nullptr);
}

json text_or_null(const std::string& text) { return text.empty() ? json(nullptr) : json(clean(text)); }

json hex_or_null(const std::optional<uint16_t>& id) { return id ? json(hex4(*id)) : json(nullptr); }

/// The claim's holder, and its id where it was asked for.
void put_holder(json& out, const ClaimRecord* claim) {
    out["holder"] = claim != nullptr ? json(clean(claim->holder)) : json(nullptr);
    out["claim"] = claim != nullptr && !claim->observed ? json(claim->id) : json(nullptr);
}

json interfaces_json(const usbarb::DeviceFacts& facts) {
    json out = json::array();
    for (const auto& entry : facts.interfaces) {
        out.push_back({{"number", entry.number},
                       {"class", entry.device_class},
                       {"subclass", entry.subclass},
                       {"protocol", entry.protocol},
                       {"driver", entry.driver}});
    }
    return out;
}

json buses_json(const Arbiter::ControllerView& view) {
    json out = json::array();
    for (const auto& [half, name] : EnumNames<Half>::table) {
        const auto index = static_cast<size_t>(half);
        if (view.facts->buses[index] == 0) continue;
        out.push_back({{"half", name}, {"number", view.facts->buses[index]}, {"in_use", view.bus_in_use[index]}});
    }
    return out;
}

json neighbours_json(const std::vector<usbarb::NeighbourFacts>& neighbours) {
    json out = json::array();
    for (const auto& neighbour : neighbours) {
        if (!neighbour.bridge) out.push_back(neighbour.path);
    }
    return out;
}

template <class Uses>
json uses_json(const Uses& uses) {
    json out = json::array();
    for (const auto& use : uses) out.push_back(to_json(use));
    return out;
}

}  // namespace

json to_json(const ClaimRecord& claim) {
    return {{"id", claim.observed ? json(nullptr) : json(claim.id)},
            {"kind", to_text(claim.kind)},
            {"target", usbarb::to_text(claim.target)},
            {"description", clean(claim.description)},
            {"holder", clean(claim.holder)},
            {"state", to_text(claim.state)},
            {"since", format_time(claim.since)},
            {"deadline", time_or_null(claim.deadline)},
            {"covered", claim.covered},
            {"origin", claim.origin},
            {"reason", clean(claim.reason)},
            {"counted", claim.counted},
            {"keep_drivers", claim.keep_drivers},
            {"phase", to_text(claim.phase)},
            {"message", clean(claim.message)}};
}

json to_json(const usbarb::Blocker& blocker) {
    return {{"target", clean(blocker.target)},
            {"description", clean(blocker.description)},
            {"holder", text_or_null(blocker.holder)},
            {"since", time_or_null(blocker.since)},
            {"reason", clean(blocker.reason)}};
}

json to_json(const usbarb::Use& use) {
    return {
        {"kind", to_text(use.kind)}, {"text", clean(use.text)}, {"pid", use.pid != 0 ? json(use.pid) : json(nullptr)}};
}

json to_json(const usbarb::Rule& rule) {
    return {{"id", rule.id},
            {"socket", rule.socket ? json(usbarb::to_text(*rule.socket)) : json(nullptr)},
            {"vendor_id", hex_or_null(rule.vendor_id)},
            {"product_id", hex_or_null(rule.product_id)},
            {"serial", rule.serial ? json(clean(*rule.serial)) : json(nullptr)},
            {"device_class", or_null(rule.device_class)},
            {"holder", clean(rule.holder)},
            {"created", format_time(rule.created)},
            {"created_by", clean(rule.created_by)}};
}

json to_json(const Arbiter::DeviceView& view) {
    const auto& facts = *view.facts;
    json out{{"socket", usbarb::to_text(facts.socket)},
             {"half", to_text(facts.half)},
             {"kernel_name", facts.kernel_name},
             {"bus", facts.bus},
             {"address", facts.address},
             {"devnode", facts.devnode()},
             {"parent", usbarb::to_text(facts.socket.parent())},
             {"vendor_id", hex4(facts.identity.vendor_id)},
             {"product_id", hex4(facts.identity.product_id)},
             {"vendor", clean(facts.vendor)},
             {"product", clean(facts.product)},
             {"serial", clean(facts.identity.serial)},
             {"device_class", facts.device_class},
             {"speed_mbps", facts.speed_mbps},
             {"hub", facts.hub},
             {"ports", facts.ports},
             {"in_use", view.in_use},
             {"present", view.present},
             {"interfaces", interfaces_json(facts)},
             {"uses", uses_json(*view.uses)}};
    put_holder(out, view.claim);
    return out;
}

json to_json(const Arbiter::ControllerView& view) {
    const auto& facts = *view.facts;
    json uses = json::array();
    for (const auto& [unit, found] : view.uses) {
        for (const auto& use : *found) uses.push_back(to_json(use));
    }
    json out{{"path", facts.path},
             {"pci", facts.pci},
             {"kind", to_text(facts.kind)},
             {"class", facts.pci ? fmt::format("{:06x}", facts.class_code) : ""},
             {"vendor_id", facts.pci ? hex4(facts.vendor_id) : ""},
             {"device_id", facts.pci ? hex4(facts.device_id) : ""},
             {"description", clean(facts.description())},
             {"driver", facts.driver},
             {"in_use", view.in_use},
             {"group", or_null(facts.iommu_group)},
             {"group_functions", neighbours_json(facts.group)},
             {"companions", neighbours_json(facts.companions)},
             {"buses", buses_json(view)},
             {"uses", std::move(uses)}};
    const ClaimRecord* claim = view.claim != nullptr ? view.claim : view.root_claim;
    put_holder(out, claim);
    out["state"] = claim != nullptr ? json(to_text(claim->state)) : json(nullptr);
    return out;
}

json blockers_json(const std::vector<usbarb::Blocker>& blockers) {
    json out = json::array();
    for (const auto& blocker : blockers) out.push_back(to_json(blocker));
    return out;
}

json claims_json(const std::vector<ClaimRecord>& claims) {
    json out = json::array();
    for (const auto& claim : claims) out.push_back(to_json(claim));
    return out;
}

json inventory_json(const Arbiter& arbiter) {
    json controllers = json::array(), devices = json::array();
    arbiter.each_controller([&](const Arbiter::ControllerView& view) { controllers.push_back(to_json(view)); });
    arbiter.each_device([&](const Arbiter::DeviceView& view) { devices.push_back(to_json(view)); });
    return {{"controllers", std::move(controllers)},
            {"devices", std::move(devices)},
            {"claims", claims_json(arbiter.claims())}};
}

json devices_digest(const Arbiter& arbiter) {
    json out = json::array();
    arbiter.each_device([&](const Arbiter::DeviceView& view) {
        if (!view.present) return;
        json entry{{"socket", usbarb::to_text(view.facts->socket)},
                   {"kernel_name", view.facts->kernel_name},
                   {"devnode", view.facts->devnode()},
                   {"description", clean(view.facts->description())}};
        put_holder(entry, view.claim);
        out.push_back(std::move(entry));
    });
    return out;
}

std::string summary_of(const ClaimRecord& claim) {
    const std::string number = claim.observed ? "seen" : fmt::format("claim {}", claim.id);
    const std::string description = claim.description.empty() ? std::string(to_text(claim.kind)) : claim.description;
    std::string out = fmt::format("{}: {} ({}) for {}: {}", number, clean(description), usbarb::to_text(claim.target),
                                  clean(claim.holder), to_text(claim.state));
    if (!claim.message.empty()) out += ", " + clean(claim.message);
    return out;
}

}  // namespace storctl
