#pragma once
// What the host and its programs do with USB devices and with what lies on PCI functions: one look at mounts, swap,
// holders, loop devices, network interfaces, and every process' open raw USB nodes, vfio nodes and disks. Blocking, any
// thread; for a thread of its own see daemon/use_scanner.hpp.

#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "daemon/node_processes.hpp"
#include "locality/sysfs_block.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl {

struct UsePaths {
    usbarb::KernelPaths kernel;
    locality::KernelPaths block;
};

struct UseRequest {
    std::map<std::string, std::string> nodes;  ///< block devices behind mediated nodes: kernel name → node's name
    std::map<std::string, std::string>
        usb_nodes;  ///< devices behind mediated nodes: "/dev/bus/usb/001/004" → node's name
    NodeProcesses processes;
    bool consoles = false;  ///< policy: keyboards are the host's console
    bool operator==(const UseRequest&) const = default;
};

/// USB devices by their sockets: what lies below a device is the nearest device's. Of other PCI functions one entry per
/// unit on them (Socket{.controller, .unit}); unit "vfio" is the function itself. What is not named has no use.
struct UseScan {
    std::map<usbarb::Socket, std::vector<usbarb::Use>> uses;
    size_t hidden_processes = 0;  ///< that may not be looked into, and may have any node open
};

Result<UseScan> scan_uses(const UseRequest& request, const UsePaths& paths);

}  // namespace storctl
