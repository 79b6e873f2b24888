#include "locality/boot.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

namespace storctl::locality {
namespace {

using ByName = std::map<std::string, const BlockFacts*>;

void mark_down(const ByName& by_name, const std::string& name, std::set<std::string>& marks) {
    if (!marks.insert(name).second) return;
    const auto found = by_name.find(name);
    if (found == by_name.end()) return;
    const BlockFacts& facts = *found->second;
    for (const auto& slave : facts.slaves) mark_down(by_name, slave, marks);
    if (!facts.partition_of.empty()) mark_down(by_name, facts.partition_of, marks);
}

/// What lies on top at a mount point; an automounter's trigger is not the file system itself.
const Mount* mounted_at(const std::vector<Mount>& mounts, std::string_view place) {
    for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount) {
        if (mount->mount_point == place && mount->type != "autofs") return &*mount;
    }
    return nullptr;
}

/// Such a root needs no block device of this host: none is missing from what we found.
bool on_no_device(const Mount& mount) {
    constexpr std::array<std::string_view, 7> types{"nfs", "nfs4", "cifs", "ceph", "9p", "tmpfs", "virtiofs"};
    return std::find(types.begin(), types.end(), mount.type) != types.end();
}

}  // namespace

BootMarks boot_marks(const std::vector<const BlockFacts*>& devices, const UsageTree& tree, const UsageTexts& texts) {
    constexpr std::array<std::string_view, 4> places{"/", "/boot", "/boot/efi", "/efi"};
    ByName by_name;
    for (const auto* facts : devices) by_name.emplace(facts->name, facts);
    BootMarks marks;
    for (const auto place : places) {
        const Mount* mount = mounted_at(texts.mounts, place);
        if (mount == nullptr) continue;
        const auto carriers = devices_of_mount(tree, *mount, texts.groups);
        for (const auto& name : carriers) mark_down(by_name, name, marks.names);
        if (place == "/") marks.complete = !carriers.empty() || on_no_device(*mount);
    }
    return marks;
}

}  // namespace storctl::locality
