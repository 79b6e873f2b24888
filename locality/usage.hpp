#pragma once
// Who uses a block device in the kernel: mounts and swap of it, of its partitions and of whatever is stacked on them
// (dm, md, bcache), and those stacked devices themselves. Pure; locality/sysfs_block.hpp fills the tree.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "locality/block_facts.hpp"
#include "locality/mounts.hpp"

namespace storctl::locality {

/// What usage needs to know of one block device.
struct UsageNode {
    std::string name;
    DeviceNumber number;
    std::vector<std::string>
        names;                ///< every path that may stand in mountinfo or swaps: "/dev/sda1", "/dev/mapper/vg-root"
    std::string description;  ///< of a stacked device: "LVM vg-root", "RAID raid1", "crypt home"; else empty
    std::vector<std::string> above;  ///< kernel names: its partitions and its holders
};

using UsageTree = std::map<std::string, UsageNode>;  ///< by kernel name

UsageNode usage_node(const BlockFacts& facts);
/// From every block device's facts; `above` comes from slaves and partitions.
UsageTree usage_tree(const std::vector<const BlockFacts*>& devices);

struct UsageTexts {
    std::vector<Mount> mounts;
    std::vector<std::string> swaps;
    /// Names of block devices that make up one file system together (btrfs): a mount of one is a mount of all.
    std::vector<std::vector<std::string>> groups;
};

/// Sentences in the order found: "mounted on /srv", "mounted on /boot (sda1)", "swap (sda2)", "dm-0 (LVM vg-root)".
/// Empty: nobody, as far as the kernel tells.
std::vector<std::string> users_of(const UsageTree& tree, const std::string& name, const UsageTexts& texts);

/// The block devices that carry a mount, by kernel name: by its number, else by its source.
std::vector<std::string> devices_of_mount(const UsageTree& tree, const Mount& mount,
                                          const std::vector<std::vector<std::string>>& groups);

}  // namespace storctl::locality
