#pragma once
// The adapter that finds what hangs below a USB device or PCI function. What uses a block device is locality/'s to say:
// here are only their names. Blocking, any thread.

#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl::usbarb {

struct Unit {
    enum class Kind { block, network, console } kind = Kind::block;
    std::string name;  ///< "sda", "enx00e04c680001", "event3"
    std::string syspath;
    std::string owner;  ///< sysfs path of the nearest USB device above it; else of the PCI function
};

/// Whole disks, network interfaces and keyboards of the host that have a USB device or a PCI function above them. A
/// disk that several functions lead to (NVMe with several controllers) is there once for each. What cannot be read is
/// an error: left out, it would be taken for unused.
Result<std::vector<Unit>> read_units(const KernelPaths& paths = {});

/// Which interfaces of this host have an address of their own: read once for all of them.
class NetworkUses {
 public:
    static Result<NetworkUses> read(const KernelPaths& paths = {});
    /// Up; on PCI up with an address or as part of something else (bridge, bond, VLAN). Empty: none.
    Result<std::vector<Use>> of(const Unit& unit) const;

 private:
    std::set<std::string> addressed_;
};

}  // namespace storctl::usbarb
