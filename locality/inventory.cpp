#include "locality/inventory.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "locality/name_order.hpp"

namespace storctl::locality {
namespace {

constexpr std::string_view map_prefix = "mpath-";

bool is_map(const BlockFacts& facts) { return facts.dm_uuid.starts_with(map_prefix); }

bool is_cdrom(const BlockFacts& facts) { return facts.name.starts_with("sr") || facts.property("ID_CDROM") == "1"; }

/// eMMC boot and RPMB areas are disks of their own to the kernel and parts of one chip to everybody else.
bool is_emmc_area(const BlockFacts& facts) {
    return facts.name.starts_with("mmcblk") &&
           (facts.name.find("boot") != std::string::npos || facts.name.find("rpmb") != std::string::npos);
}

/// Whether it is a device of its own; `in_map`: a multipath map speaks for it.
bool is_listed(const BlockFacts& facts, bool in_map) {
    if (!facts.partition_of.empty() || facts.hidden || in_map || is_cdrom(facts) || is_emmc_area(facts)) return false;
    if (is_map(facts)) return true;
    switch (transport_of(facts)) {
        case Transport::loop:
        case Transport::memory:
            return false;
        case Transport::stacked:
            return facts.name.starts_with("md") && facts.size_bytes > 0;
        // without a server or a medium there is nothing to manage
        case Transport::nbd:
        case Transport::rbd:
            return facts.size_bytes > 0;
        case Transport::sata:
        case Transport::usb:
        case Transport::firewire:
        case Transport::mmc:
        case Transport::nvme:
        case Transport::nvme_tcp:
        case Transport::nvme_rdma:
        case Transport::nvme_fc:
        case Transport::nvme_loop:
        case Transport::sas:
        case Transport::iscsi:
        case Transport::fc:
        case Transport::fcoe:
        case Transport::srp:
        case Transport::scsi:
        case Transport::virtio:
        case Transport::xen:
        case Transport::hyperv:
        case Transport::pmem:
        case Transport::unknown:
            return facts.size_bytes > 0 || !facts.removable;
    }
    return false;
}

bool is_ready(const BlockFacts& facts) {
    return facts.initialized && facts.property("SYSTEMD_READY") != "0" &&
           facts.property("DM_UDEV_DISABLE_OTHER_RULES_FLAG") != "1";
}

std::string scsi_address(const BlockFacts& facts) {
    for (const auto& parent : facts.parents) {
        if (parent.subsystem == "scsi" && std::count(parent.name.begin(), parent.name.end(), ':') == 3 &&
            !parent.name.starts_with("target")) {
            return parent.name;
        }
    }
    return {};
}

std::vector<Path> own_paths(const BlockFacts& facts) {
    std::vector<Path> out;
    for (const auto& controller : facts.controllers) {
        // behind the kernel's own multipath the ways are the controllers; a single one is the device itself
        const bool single = facts.controllers.size() == 1;
        out.push_back({.name = single ? facts.name : controller.name,
                       .devnode = single ? facts.devnode : std::string(),
                       .transport = controller_transport(controller),
                       .location = controller.address,
                       .state = controller.state});
    }
    if (!out.empty()) return out;
    std::string location = scsi_address(facts);
    if (location.empty()) location = device_path(facts);
    return {{facts.name, facts.devnode, transport_of(facts), std::move(location), facts.state}};
}

Device plain_device(const KnownBlock& block) {
    const BlockFacts& facts = block.facts;
    return {.name = facts.name,
            .devnode = facts.devnode,
            .kind = facts.name.starts_with("md") ? Kind::array : Kind::disk,
            .product = product_of(facts),
            .size_bytes = facts.size_bytes,
            .logical_block_bytes = facts.logical_block_bytes,
            .physical_block_bytes = facts.physical_block_bytes,
            .read_only = facts.read_only,
            .removable = facts.removable,
            .rotational = facts.rotational,
            .transport = transport_of(facts),
            .verdict = locality_of(transport_of(facts)),
            .ready = is_ready(facts),
            .identifiers = block.identifiers,
            .paths = own_paths(facts),
            .links = facts.links};
}

/// What every path says of the LUN is the map's too; what only some say (a LUN mapped anew under one path) is not.
std::vector<Identifier> common_identifiers(const std::vector<const KnownBlock*>& paths) {
    std::vector<Identifier> common;
    if (paths.empty()) return common;
    for (const auto& identifier : paths.front()->identifiers) {
        if (identifier.quality() == Quality::none) continue;
        const bool everywhere = std::all_of(paths.begin(), paths.end(), [&](const KnownBlock* path) {
            return std::find(path->identifiers.begin(), path->identifiers.end(), identifier) != path->identifiers.end();
        });
        if (everywhere) common.push_back(identifier);
    }
    return common;
}

Device map_device(const KnownBlock& map, const std::vector<const KnownBlock*>& paths,
                  const std::vector<std::string>& extra_placeholders) {
    Device device = plain_device(map);
    device.kind = Kind::multipath;
    device.paths.clear();
    device.identifiers = common_identifiers(paths);
    auto own = multipath_identifier(std::string_view(map.facts.dm_uuid).substr(map_prefix.size()));
    if (own) {
        if (auto reason = placeholder_reason(*own, extra_placeholders)) {
            own->usable = false;
            own->why = std::move(*reason);
        }
        device.identifiers.push_back(std::move(*own));
    }
    device.identifiers.push_back({.type = IdType::name, .value = map.facts.name});
    sort_by_rank(device.identifiers);
    for (const auto* path : paths) {
        const auto ways = own_paths(path->facts);
        device.paths.insert(device.paths.end(), ways.begin(), ways.end());
    }
    if (!paths.empty()) {
        device.product = product_of(paths.front()->facts);
        device.transport = transport_of(paths.front()->facts);
        device.verdict = locality_of(device.transport);
        for (const auto* path : paths) {
            device.verdict = combine(device.verdict, locality_of(transport_of(path->facts)));
        }
    }
    return device;
}

/// The disks under a stacked device.
void leaves_of(const KnownBlocks& blocks, const std::string& name, std::set<std::string>& seen,
               std::set<std::string>& out) {
    const auto found = blocks.find(name);
    if (found == blocks.end() || !seen.insert(name).second) return;
    const BlockFacts& facts = found->second.facts;
    std::vector<std::string> below = facts.slaves;
    if (!facts.partition_of.empty()) below.push_back(facts.partition_of);
    if (below.empty()) out.insert(name);
    for (const auto& part : below) leaves_of(blocks, part, seen, out);
}

void judge_array(const KnownBlocks& blocks, Device& device) {
    std::set<std::string> seen, leaves;
    leaves_of(blocks, device.name, seen, leaves);
    leaves.erase(device.name);
    std::optional<Verdict> verdict;
    for (const auto& leaf : leaves) {
        const auto one = locality_of(transport_of(blocks.at(leaf).facts));
        verdict = verdict ? combine(*verdict, one) : one;
    }
    if (verdict) device.verdict = {verdict->locality, "an array with " + verdict->reason};
}

/// "sdb", "sdb and sdc", "sdb, sdc, sdd and 5 more".
std::string some_names(const std::vector<std::string>& names) {
    constexpr size_t limit = 3;
    if (names.size() == 1) return names[0];
    if (names.size() > limit) {
        return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + limit, ", "),
                           names.size() - limit);
    }
    return fmt::format("{} and {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
}

/// An identifier that two devices claim is nobody's. A device is in conflict when that takes away its best identifier
/// or one that would prove it to be the same as another host's; a serial number shared by the LUNs of an array is none.
void quarantine(std::vector<Device>& devices) {
    std::map<std::pair<IdType, std::string_view>, std::vector<size_t>> claims;
    for (size_t i = 0; i < devices.size(); ++i) {
        for (const auto& identifier : devices[i].identifiers) {
            if (identifier.usable) claims[{identifier.type, identifier.value}].push_back(i);
        }
    }
    for (size_t i = 0; i < devices.size(); ++i) {
        bool best = true;
        for (auto& identifier : devices[i].identifiers) {
            if (!identifier.usable) continue;
            const auto& claimants = claims.at({identifier.type, identifier.value});
            if (claimants.size() > 1) {
                std::vector<std::string> others;
                for (const size_t other : claimants) {
                    if (other != i) others.push_back(devices[other].name);
                }
                identifier.usable = false;
                identifier.why = "also that of " + some_names(others);
                const bool serious =
                    identifier.quality() == Quality::high || (best && identifier.quality() != Quality::none);
                if (serious && !devices[i].conflict) {
                    devices[i].conflict = fmt::format("{} is {}", identifier.text(), identifier.why);
                }
            }
            best = false;
        }
    }
}

void name_device(Device& device) {
    for (const auto& identifier : device.identifiers) {
        if (!identifier.usable) continue;
        device.id = identifier.text();
        device.quality = identifier.quality();
        return;
    }
}

/// For each block device that a multipath map has for a path: the map.
std::map<std::string, std::string> maps_over(const KnownBlocks& blocks) {
    std::map<std::string, std::string> out;
    for (const auto& [name, block] : blocks) {
        if (!is_map(block.facts)) continue;
        for (const auto& slave : block.facts.slaves) out.emplace(slave, name);
    }
    return out;
}

}  // namespace

KnownBlock know(BlockFacts facts, const std::vector<std::string>& extra_placeholders) {
    KnownBlock block;
    if (facts.partition_of.empty()) block.identifiers = identify(facts, extra_placeholders);
    block.facts = std::move(facts);
    return block;
}

std::vector<Device> build_inventory(const KnownBlocks& blocks, const std::vector<std::string>& extra_placeholders) {
    const auto maps = maps_over(blocks);
    std::vector<Device> devices;
    for (const auto& [name, block] : blocks) {
        if (!is_listed(block.facts, maps.count(name) > 0)) continue;
        if (!is_map(block.facts)) {
            devices.push_back(plain_device(block));
            if (devices.back().kind == Kind::array) judge_array(blocks, devices.back());
            continue;
        }
        std::vector<const KnownBlock*> paths;
        for (const auto& slave : block.facts.slaves) {
            if (const auto path = blocks.find(slave); path != blocks.end()) paths.push_back(&path->second);
        }
        devices.push_back(map_device(block, paths, extra_placeholders));
    }
    std::sort(devices.begin(), devices.end(),
              [](const Device& one, const Device& other) { return name_before(one.name, other.name); });
    quarantine(devices);
    for (auto& device : devices) name_device(device);
    return devices;
}

std::string device_name_of(const KnownBlocks& blocks, const std::string& name) {
    std::string at = name;
    // a partition's disk, a map's partition (kpartx), a path's map: each step leads on to another device, never back
    for (int steps = 0; steps < 8; ++steps) {
        const auto found = blocks.find(at);
        if (found == blocks.end()) return at;
        const BlockFacts& facts = found->second.facts;
        std::string next;
        if (!facts.partition_of.empty()) {
            next = facts.partition_of;
        } else if (facts.dm_uuid.starts_with("part") && facts.dm_uuid.find("-mpath-") != std::string::npos &&
                   facts.slaves.size() == 1) {
            next = facts.slaves[0];
        } else {
            for (const auto& [map_name, block] : blocks) {
                const auto& slaves = block.facts.slaves;
                if (is_map(block.facts) && std::find(slaves.begin(), slaves.end(), at) != slaves.end()) next = map_name;
            }
        }
        if (next.empty()) return at;
        at = next;
    }
    return at;
}

}  // namespace storctl::locality
