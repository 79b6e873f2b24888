#pragma once
// The devices that an administrator sees, made from the facts of all block devices of the host: paths folded behind
// their multipath map, partitions and pseudo devices left out, identifiers that two devices claim quarantined. Pure.

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/enum_text.hpp"
#include "locality/block_facts.hpp"
#include "locality/identifier.hpp"
#include "locality/identity.hpp"
#include "locality/transport.hpp"

namespace storctl::locality {

enum class Kind { disk, multipath, array };

/// One way to the device.
struct Path {
    std::string name;
    std::string devnode;
    Transport transport = Transport::unknown;
    std::string location;  ///< SCSI host:channel:target:LUN, or an NVMe controller's address
    std::string state;
    bool operator==(const Path&) const = default;
};

struct Device {
    std::string id;  ///< unique here: the best usable identifier, else a path or kernel name
    std::string name;
    std::string devnode;
    Kind kind = Kind::disk;
    Product product;
    uint64_t size_bytes = 0;
    uint32_t logical_block_bytes = 512;
    uint32_t physical_block_bytes = 512;
    bool read_only = false;
    bool removable = false;
    std::optional<bool> rotational;
    Transport transport = Transport::unknown;
    Verdict verdict;
    bool ready = true;  ///< udev has finished with it and no tool has it put aside
    Quality quality = Quality::none;
    std::vector<Identifier> identifiers;
    std::optional<std::string> conflict;
    std::vector<Path> paths;
    std::vector<std::string> links;
    bool operator==(const Device&) const = default;
};

/// A block device as discovery keeps it: its identifiers are worked out once per change, not once per inventory.
struct KnownBlock {
    BlockFacts facts;
    std::vector<Identifier> identifiers;
};
using KnownBlocks = std::map<std::string, KnownBlock>;  ///< by kernel name

KnownBlock know(BlockFacts facts, const std::vector<std::string>& extra_placeholders);

/// Every device, sorted by name as people sort (sda, sdb, …, sdaa; nvme2n1 before nvme10n1).
std::vector<Device> build_inventory(const KnownBlocks& blocks, const std::vector<std::string>& extra_placeholders);

/// The kernel name of the device that a block device belongs to: itself, its disk, the map over it.
std::string device_name_of(const KnownBlocks& blocks, const std::string& name);

}  // namespace storctl::locality

namespace storctl {

template <>
struct EnumNames<locality::Kind> {
    using E = locality::Kind;
    static constexpr std::array<EnumName<E>, 3> table{
        {{E::disk, "disk"}, {E::multipath, "multipath"}, {E::array, "array"}}};
};
static_assert(round_trips<locality::Kind>());

}  // namespace storctl
