#include "daemon/device_service_view.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "locality/boot.hpp"

namespace storctl {
namespace {

using nlohmann::json;

/// What a device says of itself need not be UTF-8, and JSON takes nothing else.
std::string clean(const std::string& text) { return valid_utf8(text) ? text : escape_unprintable(text); }

template <class T>
json or_null(const std::optional<T>& value) {
    return value ? json(*value) : json(nullptr);
}

json identifiers_json(const std::vector<locality::Identifier>& identifiers) {
    json out = json::array();
    for (const auto& identifier : identifiers) {
        out.push_back({{"type", to_text(identifier.type)},
                       {"value", identifier.value},
                       {"quality", to_text(identifier.quality())},
                       {"usable", identifier.usable},
                       {"why", identifier.why.empty() ? json(nullptr) : json(clean(identifier.why))}});
    }
    return out;
}

json paths_json(const std::vector<locality::Path>& paths) {
    json out = json::array();
    for (const auto& path : paths) {
        out.push_back({{"name", path.name},
                       {"devnode", path.devnode},
                       {"transport", to_text(path.transport)},
                       {"location", clean(path.location)},
                       {"state", clean(path.state)}});
    }
    return out;
}

json sharing_json(const locality::Sharing& sharing) {
    return {{"shared", sharing.shared},
            {"basis", to_text(sharing.basis)},
            {"reason", clean(sharing.reason)},
            {"seen_by", sharing.seen_by},
            {"not_seen_by", sharing.not_seen_by},
            {"undecided", or_null(sharing.undecided)},
            {"author", or_null(sharing.author)},
            {"time", sharing.time ? json(format_time(*sharing.time)) : json(nullptr)}};
}

std::optional<locality::AdminDecision> decision_of(const SharingOverride* entry) {
    if (entry == nullptr) return std::nullopt;
    return locality::AdminDecision{
        .shared = entry->shared, .reason = entry->reason, .author = entry->author, .time = entry->time};
}

/// The forms in which other tools print an identifier's value.
std::string plain_value(std::string name) {
    name = to_lower(name);
    for (const std::string_view prefix : {"wwn-0x", "naa.", "eui.", "uuid.", "nvme.", "0x"}) {
        if (name.starts_with(prefix)) return name.substr(prefix.size());
    }
    return name;
}

std::vector<size_t> by_identifier(const std::string& name, const std::vector<DeviceView>& views, bool usable) {
    const std::string wanted = to_lower(name), plain = plain_value(name);
    std::vector<size_t> found;
    for (size_t i = 0; i < views.size(); ++i) {
        for (const auto& identifier : views[i].device.identifiers) {
            const std::string value = to_lower(identifier.value);
            const bool same = value == wanted || value == plain || to_lower(identifier.text()) == wanted;
            if (!same || identifier.usable != usable) continue;
            found.push_back(i);
            break;
        }
    }
    return found;
}

bool has_name(const locality::BlockFacts& facts, const std::string& name) {
    return facts.name == name || (!facts.devnode.empty() && facts.devnode == name) ||
           (!facts.dm_name.empty() && (facts.dm_name == name || "/dev/mapper/" + facts.dm_name == name)) ||
           std::find(facts.links.begin(), facts.links.end(), name) != facts.links.end();
}

template <class Predicate>
std::vector<size_t> by_block(const std::vector<DeviceView>& views, const locality::KnownBlocks& blocks,
                             const Predicate& wanted) {
    std::vector<size_t> found;
    for (const auto& [name, block] : blocks) {
        if (!wanted(block.facts)) continue;
        const std::string device = locality::device_name_of(blocks, name);
        for (size_t i = 0; i < views.size(); ++i) {
            const bool fresh = std::find(found.begin(), found.end(), i) == found.end();
            if (views[i].device.name == device && fresh) found.push_back(i);
        }
    }
    return found;
}

}  // namespace

const SharingOverride* override_for(const locality::Device& device,
                                    const std::map<std::string, SharingOverride>& overrides) {
    for (const auto& identifier : device.identifiers) {
        if (!identifier.usable) continue;
        if (const auto found = overrides.find(identifier.text()); found != overrides.end()) return &found->second;
    }
    return nullptr;
}

locality::SharingCase sharing_case(const DeviceView& view, const std::string& host) {
    return {.host = host,
            .verdict = view.device.verdict,
            .boot = view.boot,
            .conflict = view.device.conflict,
            .quality = view.device.quality};
}

locality::Sharing sharing_of(const DeviceView& view, const std::string& host,
                             const std::map<std::string, SharingOverride>& overrides) {
    return locality::decide_sharing(sharing_case(view, host), decision_of(override_for(view.device, overrides)));
}

std::vector<DeviceView> build_views(const locality::KnownBlocks& blocks, const ViewInputs& inputs) {
    std::vector<const locality::BlockFacts*> facts;
    facts.reserve(blocks.size());
    for (const auto& [name, block] : blocks) facts.push_back(&block.facts);
    const locality::Usage usage(locality::usage_tree(facts), inputs.texts);
    const auto boot = locality::boot_marks(facts, usage);

    std::vector<DeviceView> views;
    for (auto& device : locality::build_inventory(blocks, inputs.extra_placeholders)) {
        DeviceView view{.device = std::move(device)};
        view.boot = boot.of(view.device.name);
        view.in_use = usage.users_of(view.device.name);
        if (const auto node = inputs.nodes.find(view.device.id); node != inputs.nodes.end()) {
            view.in_use.push_back("node " + node->second);
        }
        view.sharing = sharing_of(view, inputs.host, inputs.overrides);
        views.push_back(std::move(view));
    }
    return views;
}

json to_json(const DeviceView& view) {
    const auto& device = view.device;
    json links = json::array(), in_use = json::array();
    for (const auto& link : device.links) links.push_back(clean(link));
    for (const auto& user : view.in_use) in_use.push_back(clean(user));
    return {{"id", device.id},
            {"name", device.name},
            {"devnode", device.devnode},
            {"kind", to_text(device.kind)},
            {"vendor", clean(device.product.vendor)},
            {"model", clean(device.product.model)},
            {"serial", clean(device.product.serial)},
            {"revision", clean(device.product.revision)},
            {"size_bytes", device.size_bytes},
            {"logical_block_bytes", device.logical_block_bytes},
            {"physical_block_bytes", device.physical_block_bytes},
            {"read_only", device.read_only},
            {"removable", device.removable},
            {"rotational", or_null(device.rotational)},
            {"transport", to_text(device.transport)},
            {"locality", to_text(device.verdict.locality)},
            {"locality_reason", device.verdict.reason},
            {"boot", or_null(view.boot)},
            {"ready", device.ready},
            {"quality", to_text(device.quality)},
            {"identifiers", identifiers_json(device.identifiers)},
            {"conflict", or_null(device.conflict)},
            {"sharing", sharing_json(view.sharing)},
            {"paths", paths_json(device.paths)},
            {"links", std::move(links)},
            {"in_use", std::move(in_use)}};
}

DeviceSummary summary_of(const DeviceView& view) {
    const auto& device = view.device;
    return {.id = device.id,
            .name = device.name,
            .devnode = device.devnode,
            .size_bytes = device.size_bytes,
            .logical_block_bytes = device.logical_block_bytes,
            .read_only = device.read_only,
            .shared = view.sharing.shared,
            .conflict = device.conflict.has_value(),
            .product = device.product,
            .identifiers = device.identifiers};
}

std::vector<size_t> resolve_device(const std::string& name, const std::vector<DeviceView>& views,
                                   const locality::KnownBlocks& blocks) {
    for (size_t i = 0; i < views.size(); ++i) {
        if (views[i].device.id == name) return {i};
    }
    if (name.empty()) return {};
    auto found = by_identifier(name, views, true);
    if (found.empty()) {
        found = by_block(views, blocks, [&](const locality::BlockFacts& facts) { return has_name(facts, name); });
    }
    if (!found.empty()) return found;
    // what several devices claim cannot name one of them; a placeholder on one device does not name it either
    found = by_identifier(name, views, false);
    return found.size() > 1 ? found : std::vector<size_t>{};
}

std::vector<size_t> resolve_device(locality::DeviceNumber number, const std::vector<DeviceView>& views,
                                   const locality::KnownBlocks& blocks) {
    return by_block(views, blocks, [&](const locality::BlockFacts& facts) { return facts.number == number; });
}

}  // namespace storctl
