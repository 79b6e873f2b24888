#pragma once
// The adapter that finds which programs hold raw USB nodes (/dev/bus/usb/BBB/DDD). Blocking, any thread.

#include <map>
#include <string>
#include <vector>

#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl::usbarb {

struct OpenNodes {
    std::map<std::string, std::vector<Use>> uses;  ///< by node: "/dev/bus/usb/001/004"
    size_t hidden = 0;                             ///< processes that may not be looked into
};
/// Programs that have a raw USB node open, under whatever name. `usbfs` where it is known to have claimed an interface.
/// A QEMU says which guest it runs. `own` and its children are not looked at. Costs a walk over all processes'
/// descriptors: not on the loop's thread.
OpenNodes read_open_nodes(int own, const KernelPaths& paths = {});

/// The sysfs path of the USB device whose node this is; empty when there is none.
std::string device_of_node(const std::string& devnode, const KernelPaths& paths = {});

}  // namespace storctl::usbarb
