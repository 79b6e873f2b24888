#pragma once
// Which block devices carry the running system: "/", "/boot", "/boot/efi" and "/efi", followed down through partitions,
// dm and md to the disks, multipath maps on the way included. Pure.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "locality/block_facts.hpp"
#include "locality/usage.hpp"

namespace storctl::locality {

struct BootMarks {
    bool complete = false;        ///< what carries "/" is known, so that the others are known not to
    std::set<std::string> names;  ///< kernel names, every level

    /// nullopt: not known.
    std::optional<bool> of(const std::string& name) const {
        if (names.count(name) > 0) return true;
        return complete ? std::optional(false) : std::nullopt;
    }
};

BootMarks boot_marks(const std::vector<const BlockFacts*>& devices, const Usage& usage);

}  // namespace storctl::locality
