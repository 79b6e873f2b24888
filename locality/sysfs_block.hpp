#pragma once
// The adapter that fills this room's facts from sysfs and /proc. Reads attribute files only: no device node is opened.

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "locality/block_facts.hpp"
#include "locality/usage.hpp"

namespace storctl::locality {

/// Where the kernel is asked; tests point them elsewhere.
struct KernelPaths {
    std::string sys = "/sys";
    std::string mountinfo = "/proc/self/mountinfo";
    std::string swaps = "/proc/swaps";
};

/// Reads block devices. What devices have in common above them (host adapters, buses) is read once and kept until
/// `forget`, which belongs before every enumeration and every batch of events.
class SysfsReader {
 public:
    explicit SysfsReader(std::string sys = "/sys") : sys_(std::move(sys)) {}

    /// `syspath` as the kernel names it, without links. no_such_device when it is not (or no longer) there.
    Result<BlockFacts> read(const std::string& syspath);
    void forget() { parents_.clear(); }

 private:
    struct Parent {
        ParentFacts facts;
        std::string usb_serial, ata_port, host_driver, host_symbolic_name;
    };
    const Parent& parent(const std::string& path);
    void add_parents(BlockFacts& facts);

    std::string sys_;
    std::unordered_map<std::string, Parent> parents_;
};

/// Mounts, swaps and multi-device file systems as they are now. What cannot be read is an error: without it everything
/// would look unused. A kernel without swap has no /proc/swaps.
Result<UsageTexts> read_usage_texts(const KernelPaths& paths);

/// Every block device with what lies on it (partitions, holders, loop devices), and no more than usage asks for. An
/// error as above.
Result<UsageTree> read_usage_tree(const std::string& sys = "/sys");

/// Who uses the device now (see Usage::users_of); for a partition also who holds the whole disk. For saying why an
/// exclusive open failed. Asks sysfs afresh.
Result<std::vector<std::string>> who_uses(DeviceNumber number, const KernelPaths& paths = {});

}  // namespace storctl::locality
