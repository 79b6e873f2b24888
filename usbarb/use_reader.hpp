#pragma once
// The adapter that finds what hangs below a USB device or PCI function, and which programs hold raw USB nodes. What
// uses a block device is locality/'s to say: here are only their names.

#include <map>
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

/// Whole disks, network interfaces and keyboards of the host that have a USB device or a PCI function above them.
std::vector<Unit> read_units(const KernelPaths& paths = {});
/// Use of a network interface: up; on PCI up with an address or as part of a bridge or bond. Empty: none.
std::vector<Use> network_uses(const Unit& unit, const KernelPaths& paths = {});
/// Programs that have a raw USB node open, by node ("/dev/bus/usb/001/004"). `usbfs` where it is known to have claimed
/// an interface. A QEMU says which guest it runs. Costs a walk over all processes' descriptors: not on the loop's
/// thread.
std::map<std::string, std::vector<Use>> read_open_nodes(const KernelPaths& paths = {});

}  // namespace storctl::usbarb
