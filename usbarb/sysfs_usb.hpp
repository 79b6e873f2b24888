#pragma once
// The adapter that reads USB devices, their sockets and host controllers from sysfs. No device node is opened.
// Blocking; one reader is for one thread.

#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
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
    /// Sysfs paths of devices, and controllers' paths, that are there and could not be read: what was known of them
    /// before holds. Devices of such a controller that are not in `devices` are named themselves.
    std::vector<std::string> unreadable;
    std::set<std::string> unsettled;  ///< sysfs paths of devices whose rules udev has still to run
};

class UsbReader {
 public:
    explicit UsbReader(KernelPaths paths = {}) : paths_(std::move(paths)) {}
    /// Everything there is; a device that goes while it is read is left out. What cannot be read or understood is among
    /// `unreadable`, with an error in the log. Never knows of `unsettled`.
    Result<UsbScan> read_all();
    /// The same in parts: what hangs on each bus first (a scan without devices), then sysfs paths for `read`.
    Result<UsbScan> read_controllers();
    Result<std::vector<std::string>> list_devices() const;
    /// One device by its sysfs path; no_such_device when it is not (or no longer) there.
    Result<DeviceFacts> read(const std::string& syspath);
    /// The USB host controller above a root hub or device, as it is now; no_such_device when it is not there.
    Result<ControllerFacts> read_controller_of(const std::string& syspath) const;
    /// The socket and half that a kernel name has or had, from the name and what is known of its bus: also for a device
    /// that is gone, if something on its bus was read before. `syspath` as in the event; a root hub has the root's.
    Result<std::pair<Socket, Half>> place_of(const std::string& syspath);
    /// A root hub came anew: what was known of one with its path is of another.
    void forget_bus(const std::string& root_hub) { buses_.erase(root_hub); }

 private:
    struct Bus {
        std::string controller;
        Half half = Half::usb2;
        std::map<uint8_t, uint8_t> peers;  ///< of a USB 3 root hub: its port → the USB 2 root hub's
    };
    Result<const Bus*> bus_of(const std::string& root_hub, uint8_t port);
    Result<Bus> read_bus(const std::string& root_hub) const;

    KernelPaths paths_;
    std::map<std::string, Bus> buses_;  ///< by the root hub's sysfs path, as last seen: also of those that are gone
};

/// "0000:00:14.0" or "platform/xhci-hcd.0" of a path at or below a root hub; empty when there is none in it.
std::string controller_of(const std::string& syspath);
/// The sysfs path of the root hub in it ("…/usb1"); empty when there is none.
std::string root_hub_of(std::string_view syspath);
/// Bus numbers and halves of root hubs below a controller's folder.
Result<std::array<uint16_t, 2>> read_buses(const std::string& controller_syspath);

}  // namespace storctl::usbarb
