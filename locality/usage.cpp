#include "locality/usage.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::locality {
namespace {

constexpr size_t listed_mounts_limit = 8;

bool contains(const std::vector<std::string>& list, const std::string& value) {
    return std::find(list.begin(), list.end(), value) != list.end();
}

bool carries(const UsageNode& node, const Mount& mount, const std::vector<std::vector<std::string>>& groups) {
    if (mount.number.major != 0) return mount.number == node.number;
    if (contains(node.names, mount.source)) return true;
    // a file system over several devices names only one of them as its source
    for (const auto& group : groups) {
        if (!contains(group, node.name)) continue;
        for (const auto& member : group) {
            if (mount.source == "/dev/" + member) return true;
        }
    }
    return false;
}

void add_mounts(const UsageNode& node, const std::string& via, const UsageTexts& texts, std::vector<std::string>& out) {
    std::vector<std::string> places;
    for (const auto& mount : texts.mounts) {
        if (carries(node, mount, texts.groups) && !contains(places, mount.mount_point))
            places.push_back(mount.mount_point);
    }
    for (size_t i = 0; i < places.size(); ++i) {
        if (i == listed_mounts_limit) {
            out.push_back(fmt::format("mounted on {} more places{}", places.size() - i, via));
            break;
        }
        out.push_back(fmt::format("mounted on {}{}", escape_unprintable(places[i]), via));
    }
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

void walk(const UsageTree& tree, const UsageNode& node, bool itself, const UsageTexts& texts,
          std::set<std::string>& seen, std::vector<std::string>& out) {
    if (!seen.insert(node.name).second) return;
    const std::string via = itself ? std::string() : fmt::format(" ({})", node.name);
    if (!itself && !node.description.empty()) out.push_back(fmt::format("{} ({})", node.name, node.description));
    add_mounts(node, via, texts, out);
    for (const auto& swap : texts.swaps) {
        if (contains(node.names, swap)) out.push_back("swap" + via);
    }
    for (const auto& name : node.above) {
        const auto found = tree.find(name);
        if (found != tree.end()) {
            walk(tree, found->second, false, texts, seen, out);
        } else {
            out.push_back(name);  // a holder that we cannot look into holds it all the same
        }
    }
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

std::vector<std::string> users_of(const UsageTree& tree, const std::string& name, const UsageTexts& texts) {
    std::vector<std::string> out;
    std::set<std::string> seen;
    const auto found = tree.find(name);
    if (found != tree.end()) walk(tree, found->second, true, texts, seen, out);
    return out;
}

std::vector<std::string> devices_of_mount(const UsageTree& tree, const Mount& mount,
                                          const std::vector<std::vector<std::string>>& groups) {
    std::vector<std::string> out;
    for (const auto& [name, node] : tree) {
        if (carries(node, mount, groups)) out.push_back(name);
    }
    return out;
}

}  // namespace storctl::locality
