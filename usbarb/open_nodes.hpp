#pragma once
// The adapter that finds which programs hold raw USB nodes (/dev/bus/usb/BBB/DDD), functions through vfio and block
// devices. Blocking, any thread.

#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl::usbarb {

struct OpenNodes {
    std::map<std::string, std::vector<Use>> uses;       ///< by node: "/dev/bus/usb/001/004"
    std::map<std::string, std::vector<Use>> functions;  ///< by address: opened through vfio, or another of its group is
    std::map<std::string, std::vector<Use>> blocks;     ///< by kernel name ("sda1"): opened for writing
    size_t hidden = 0;                                  ///< processes that may not be looked into
};
/// Programs that have one of these nodes open, under whatever name. `usbfs` where it is known to have claimed an
/// interface. Block devices count when they are open for writing: udevd, multipathd and others hold or probe disks for
/// reading. A QEMU says which guest it runs. A process that is named as mediated nodes' are is of kind `node`: whoever
/// knows their numbers has to look at `pid`. `own` and its children are not looked at. An error where a look would mean
/// that nothing is open. Costs a walk over all processes' descriptors: not on the loop's thread.
Result<OpenNodes> read_open_nodes(int own, const KernelPaths& paths = {});

/// The sysfs path of the USB device whose node this is; empty when there is none.
std::string device_of_node(const std::string& devnode, const KernelPaths& paths = {});

}  // namespace storctl::usbarb
