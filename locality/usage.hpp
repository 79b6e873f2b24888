#pragma once
// Who uses a block device in the kernel: mounts and swap of it, of its partitions and of whatever is stacked on them
// (dm, md, bcache), and those stacked devices themselves. Pure; locality/sysfs_block.hpp fills the tree.

#include <map>
#include <optional>
#include <set>
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

/// The tree with what is mounted and swapped to, indexed: answers for one device cost what that device has above it.
class Usage {
 public:
    Usage(UsageTree tree, const UsageTexts& texts);

    /// Sentences in the order found: "mounted on /srv", "mounted on /boot (sda1)", "swap (sda2)", "dm-0 (LVM vg-root)".
    /// Empty: nobody, as far as the kernel tells.
    std::vector<std::string> users_of(const std::string& name) const;
    struct User {
        enum class Kind { mount, swap, stacked } kind;
        std::string text;  ///< as users_of says it
        std::string name;  ///< the block device that is mounted, swapped to or stacked: the disk, or something on it
    };
    std::vector<User> find_users(const std::string& name) const;
    /// The block device itself and everything on it, as far as it is known.
    std::set<std::string> stack_of(const std::string& name) const;
    /// The block devices that carry what is mounted at `place`, topmost mount; nullopt when nothing is mounted there.
    struct Carriers {
        std::string type;  ///< of the file system
        std::vector<std::string> names;
    };
    std::optional<Carriers> carriers_of(std::string_view place) const;

 private:
    void walk(const UsageNode& node, bool itself, std::set<std::string>& seen, std::vector<User>& out) const;

    UsageTree tree_;
    std::map<std::string, std::vector<std::string>> places_;  ///< by kernel name: mount points
    std::set<std::string> swaps_;                             ///< kernel names
    std::map<std::string, Carriers> carriers_;                ///< by mount point
};

}  // namespace storctl::locality
