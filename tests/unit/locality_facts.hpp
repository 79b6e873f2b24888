#pragma once
// Facts of block devices for the tests of locality/, as sysfs gives them.

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/text.hpp"
#include "locality/block_facts.hpp"
#include "locality/inventory.hpp"

namespace storctl::test {

inline std::vector<uint8_t> bytes(std::string_view hex) {
    std::string digits(hex);
    std::erase(digits, ' ');
    return hex_decode(digits).value();
}

/// A VPD page 0x83 with one NAA designator of the logical unit.
inline std::vector<uint8_t> naa_page(const std::string& naa) {
    const size_t length = naa.size() / 2;
    return bytes(fmt::format("0083{:04x}010300{:02x}{}", length + 4, length, naa));
}

inline locality::BlockFacts block(const std::string& name, std::vector<locality::ParentFacts> parents = {}) {
    return {.name = name,
            .syspath = "/sys/devices/test/block/" + name,
            .devnode = "/dev/" + name,
            .size_bytes = 1 << 30,
            .parents = std::move(parents)};
}

/// A SCSI disk: its unit, target and host, then what is `above` the host.
inline locality::BlockFacts scsi_disk(const std::string& name, const std::string& hctl,
                                      const std::vector<locality::ParentFacts>& above) {
    locality::BlockFacts facts =
        block(name, {{hctl, "scsi", "sd"}, {"target" + hctl.substr(0, hctl.rfind(':')), "scsi", ""}});
    facts.parents.insert(facts.parents.end(), above.begin(), above.end());
    facts.vendor = "ACME";
    facts.model = "Disk";
    facts.state = "running";
    return facts;
}

inline locality::BlockFacts sata_disk(const std::string& name, const std::string& naa) {
    auto facts = scsi_disk(name, "0:0:0:0", {{"host0", "scsi", ""}, {"ata1", "", ""}, {"0000:00:1f.2", "pci", "ahci"}});
    facts.vpd_pg83 = naa_page(naa);
    return facts;
}

inline locality::BlockFacts fc_path(const std::string& name, const std::string& hctl, const std::string& naa) {
    auto facts =
        scsi_disk(name, hctl, {{"rport-1:0-0", "", ""}, {"host1", "scsi", ""}, {"0000:00:03.0", "pci", "qla2xxx"}});
    facts.vpd_pg83 = naa_page(naa);
    return facts;
}

inline locality::BlockFacts mapped(const std::string& name, const std::string& uuid, std::vector<std::string> slaves) {
    auto facts = block(name);
    facts.dm_uuid = uuid;
    facts.dm_name = "map_" + name;
    facts.slaves = std::move(slaves);
    return facts;
}

inline locality::KnownBlocks known(const std::vector<locality::BlockFacts>& devices) {
    locality::KnownBlocks blocks;
    for (const auto& facts : devices) blocks.emplace(facts.name, locality::know(facts, {}));
    return blocks;
}

}  // namespace storctl::test
