#pragma once
// The adapter that reads USB devices, their sockets and host controllers from sysfs. No device node is opened.

#include <string>
#include <vector>

#include "base/result.hpp"
#include "usbarb/facts.hpp"

namespace storctl::usbarb {

/// Where the kernel is asked; tests point them elsewhere.
struct KernelPaths {
    std::string sys = "/sys";
    std::string proc = "/proc";
    std::string dev = "/dev";
};

struct UsbScan {
    std::vector<ControllerFacts> controllers;  ///< USB host controllers, on PCI and elsewhere
    std::vector<DeviceFacts> devices;          ///< without root hubs
};

class UsbReader {
 public:
    explicit UsbReader(KernelPaths paths = {}) : paths_(std::move(paths)) {}
    /// Everything there is; a device that goes while it is read is left out.
    Result<UsbScan> read_all() const;
    /// One device by its sysfs path; no_such_device when it is not (or no longer) there.
    Result<DeviceFacts> read(const std::string& syspath) const;
    /// The socket and half that a kernel name has or had, from the name and what is known of its bus: also for a device
    /// that is gone. `syspath` as in the event.
    Result<std::pair<Socket, Half>> place_of(const std::string& syspath) const;

 private:
    KernelPaths paths_;
};

}  // namespace storctl::usbarb
