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

/// Such a root needs no block device of this host: none is missing from what we found.
bool on_no_device(std::string_view type) {
    constexpr std::array<std::string_view, 7> types{"nfs", "nfs4", "cifs", "ceph", "9p", "tmpfs", "virtiofs"};
    return std::find(types.begin(), types.end(), type) != types.end();
}

}  // namespace

BootMarks boot_marks(const std::vector<const BlockFacts*>& devices, const Usage& usage) {
    constexpr std::array<std::string_view, 4> places{"/", "/boot", "/boot/efi", "/efi"};
    ByName by_name;
    for (const auto* facts : devices) by_name.emplace(facts->name, facts);
    BootMarks marks;
    for (const auto place : places) {
        const auto mounted = usage.carriers_of(place);
        if (!mounted) continue;
        for (const auto& name : mounted->names) mark_down(by_name, name, marks.names);
        if (place == "/") marks.complete = !mounted->names.empty() || on_no_device(mounted->type);
    }
    return marks;
}

}  // namespace storctl::locality
