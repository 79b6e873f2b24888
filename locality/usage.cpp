#include "locality/usage.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::locality {
namespace {

constexpr size_t listed_mounts_limit = 8;

/// Foreign text as it is where a terminal and JSON can take it, else with its bytes escaped.
std::string printable(std::string_view text) {
    const bool plain = valid_utf8(text) && std::none_of(text.begin(), text.end(), [](char c) {
                           return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
                       });
    return plain ? std::string(text) : escape_unprintable(text);
}

bool contains(const std::vector<std::string>& list, const std::string& value) {
    return std::find(list.begin(), list.end(), value) != list.end();
}

/// Kernel names by every name and number that mountinfo and swaps may use.
struct Names {
    std::map<DeviceNumber, std::string> by_number;
    std::map<std::string_view, std::string> by_path;
};

Names index_names(const UsageTree& tree) {
    Names names;
    for (const auto& [name, node] : tree) {
        names.by_number.emplace(node.number, name);
        for (const auto& path : node.names) names.by_path.emplace(path, name);
    }
    return names;
}

std::vector<std::string> carriers(const Names& names, const Mount& mount,
                                  const std::vector<std::vector<std::string>>& groups) {
    if (mount.number.major != 0) {
        const auto found = names.by_number.find(mount.number);
        return found == names.by_number.end() ? std::vector<std::string>{} : std::vector{found->second};
    }
    const auto found = names.by_path.find(mount.source);
    if (found == names.by_path.end()) return {};
    // a file system over several devices names only one of them as its source
    for (const auto& group : groups) {
        if (contains(group, found->second)) return group;
    }
    return {found->second};
}

std::string stacked_description(const BlockFacts& facts) {
    // device-mapper's owners mark their uuids with a prefix: "LVM-", "CRYPT-LUKS2-", "mpath-", "part1-mpath-"
    struct Row {
        std::string_view prefix, what;
    };
    constexpr Row rows[] = {{"LVM-", "LVM"}, {"CRYPT-", "crypt"}, {"mpath-", "multipath"}, {"part", "partition"}};
    if (facts.name.starts_with("dm-")) {
        std::string_view what = "device-mapper";
        for (const auto& row : rows) {
            if (facts.dm_uuid.starts_with(row.prefix)) what = row.what;
        }
        return std::string(trim(fmt::format("{} {}", what, facts.dm_name)));
    }
    if (facts.name.starts_with("md")) return std::string(trim(fmt::format("RAID {}", facts.md_level)));
    if (facts.name.starts_with("bcache")) return "bcache";
    return {};
}

}  // namespace

UsageNode usage_node(const BlockFacts& facts) {
    UsageNode node{.name = facts.name, .number = facts.number, .description = stacked_description(facts)};
    node.names = facts.links;
    if (!facts.devnode.empty()) node.names.push_back(facts.devnode);
    if (!facts.dm_name.empty()) node.names.push_back("/dev/mapper/" + facts.dm_name);
    return node;
}

UsageTree usage_tree(const std::vector<const BlockFacts*>& devices) {
    UsageTree tree;
    for (const auto* facts : devices) tree.emplace(facts->name, usage_node(*facts));
    for (const auto* facts : devices) {
        std::vector<std::string> below = facts->slaves;
        if (!facts->partition_of.empty()) below.push_back(facts->partition_of);
        for (const auto& name : below) {
            const auto found = tree.find(name);
            if (found != tree.end()) found->second.above.push_back(facts->name);
        }
    }
    return tree;
}

Usage::Usage(UsageTree tree, const UsageTexts& texts) : tree_(std::move(tree)) {
    const Names names = index_names(tree_);
    std::set<std::pair<std::string, std::string>> listed;
    for (const auto& mount : texts.mounts) {
        // an automounter's trigger is not the file system itself
        if (mount.type == "autofs") continue;
        auto found = carriers(names, mount, texts.groups);
        for (const auto& name : found) {
            if (listed.emplace(name, mount.mount_point).second) places_[name].push_back(mount.mount_point);
        }
        carriers_[mount.mount_point] = {mount.type, std::move(found)};  // the later one lies on top
    }
    for (const auto& swap : texts.swaps) {
        if (const auto found = names.by_path.find(swap); found != names.by_path.end()) swaps_.insert(found->second);
    }
}

void Usage::walk(const UsageNode& node, bool itself, std::set<std::string>& seen, std::vector<User>& out) const {
    if (!seen.insert(node.name).second) return;
    const std::string via = itself ? std::string() : fmt::format(" ({})", node.name);
    const auto add = [&](User::Kind kind, std::string text) { out.push_back({kind, std::move(text), node.name}); };
    if (!itself && !node.description.empty()) {
        add(User::Kind::stacked, fmt::format("{} ({})", node.name, node.description));
    }
    if (const auto found = places_.find(node.name); found != places_.end()) {
        const auto& places = found->second;
        const size_t listed = std::min(places.size(), listed_mounts_limit);
        for (size_t i = 0; i < listed; ++i) {
            add(User::Kind::mount, fmt::format("mounted on {}{}", printable(places[i]), via));
        }
        if (listed < places.size()) {
            add(User::Kind::mount, fmt::format("mounted on {} more places{}", places.size() - listed, via));
        }
    }
    if (swaps_.count(node.name) > 0) add(User::Kind::swap, "swap" + via);
    for (const auto& name : node.above) {
        const auto found = tree_.find(name);
        if (found != tree_.end()) {
            walk(found->second, false, seen, out);
        } else {
            // a holder that we cannot look into holds it all the same
            out.push_back({User::Kind::stacked, name, name});
        }
    }
}

std::vector<Usage::User> Usage::find_users(const std::string& name) const {
    std::vector<User> out;
    std::set<std::string> seen;
    if (const auto found = tree_.find(name); found != tree_.end()) walk(found->second, true, seen, out);
    return out;
}

std::vector<std::string> Usage::users_of(const std::string& name) const {
    std::vector<std::string> out;
    for (auto& user : find_users(name)) out.push_back(std::move(user.text));
    return out;
}

std::set<std::string> Usage::stack_of(const std::string& name) const {
    std::vector<User> users;
    std::set<std::string> seen{};
    if (const auto found = tree_.find(name); found != tree_.end()) walk(found->second, true, seen, users);
    seen.insert(name);
    return seen;
}

std::optional<Usage::Carriers> Usage::carriers_of(std::string_view place) const {
    const auto found = carriers_.find(std::string(place));
    return found == carriers_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace storctl::locality
