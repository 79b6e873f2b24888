#pragma once
// From the facts of one device to its identifiers, best first: VPD pages and NVMe files from sysfs decide, udev's
// properties fill gaps and are held against them. Also what to print as vendor, model, serial number and revision.

#include <string>
#include <vector>

#include "locality/block_facts.hpp"
#include "locality/identifier.hpp"

namespace storctl::locality {

struct Product {
    std::string vendor, model, serial, revision;
    bool operator==(const Product&) const = default;
};

Product product_of(const BlockFacts& facts);

/// All of one device or path by itself: typed, in rank order, placeholders marked unusable, at the end its path (if one
/// is known) and its kernel name.
std::vector<Identifier> identify(const BlockFacts& facts, const std::vector<std::string>& extra_placeholders);

/// Rank order; equal ones once.
void sort_by_rank(std::vector<Identifier>& identifiers);

/// "pci-0000:00:1f.2-ata-1": udev's ID_PATH, or the same kind of name from the parents. Empty when they say nothing
/// that would still hold after the next boot.
std::string device_path(const BlockFacts& facts);

}  // namespace storctl::locality
