#pragma once
// Brings drivers to what a claim says: plain descriptions of the work here; usbarb/actuation_*.cpp does it, blocking,
// in a process of its own (stor-actuate), because the kernel may take its time: unbinding vfio-pci waits for the
// virtual machine, unbinding usb-storage for a disk that does not answer.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_text.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "usbarb/facts.hpp"

namespace storctl::usbarb {

///   detach      host drivers off the interfaces of `devices` (hubs among them are left alone)
///   attach      ports of open `hubs` given back, then `devices` back to host drivers: configured again where they are
///               not, then probed
///   hold_hub    the ports of `hubs` claimed (USBDEVFS_CLAIM_PORT), then detach of `devices`; gives the open hubs
///   configure   `devices` on held ports get their first configuration, without drivers
///   free_port   `hubs`: one port of an open hub given back, for the hub in it (`devices`) to work
///   open_device the node of one device (`devices`, `node`), for reading and writing; gives the open file
///   bind_vfio   `functions` to vfio-pci
///   return_functions  `functions` from vfio-pci back to the driver that they had, those that had vfio-pci itself left
///               alone; one that has no driver in the end is done all the same, with a message
enum class Action : uint8_t {
    detach,
    attach,
    hold_hub,
    configure,
    free_port,
    open_device,
    bind_vfio,
    return_functions
};

struct HubPorts {
    std::string devnode;         ///< "/dev/bus/usb/001/004"
    std::vector<uint8_t> ports;  ///< to claim or to free: ports in which a hub is are left out by who asks
};

/// A device's node, and what its open file may be used for.
struct DeviceNode {
    std::string devnode;
    /// Numbers up to 31: of no other interface anything, no reset, no change of configuration or drivers
    /// (USBDEVFS_DROP_PRIVILEGES). None given: not restricted.
    std::optional<std::vector<uint8_t>> interfaces;
};
inline constexpr uint8_t highest_restricted_interface = 31;  ///< the kernel's mask has 32 bits

struct FunctionWork {
    std::string path;           ///< "0000:00:14.0"
    std::string former_driver;  ///< of return_functions: the driver to go back to; empty: whichever the kernel picks
};

struct Job {
    Action action = Action::detach;
    std::vector<std::string> devices;  ///< sysfs paths of USB devices
    std::vector<HubPorts> hubs;
    std::vector<FunctionWork> functions;
    std::optional<DeviceNode> node;  ///< of open_device
};

/// What came of it. A job that failed has undone what it had done, and says where it could not.
struct Outcome {
    bool done = false;
    std::string message;  ///< of a failure: what was tried, on what, the kernel's word; else what there is to know
    std::map<std::string, std::string> former_drivers;  ///< of bind_vfio: by function
};

/// Where the kernel is; tests point them elsewhere.
struct ActuationPaths {
    std::string sys = "/sys";
    std::string dev = "/dev";
};

/// Blocking. `held`: of hold_hub the open hubs, in the order of `hubs`, which keep the ports; of open_device the open
/// device; of free_port and attach the open hubs come in with it.
Outcome carry_out(const Job& job, std::vector<UniqueFd>& held, const ActuationPaths& paths = {});

std::string job_text(const Job& job);  ///< JSON, one line
Result<Job> parse_job(std::string_view text);
std::string outcome_text(const Outcome& outcome);
Result<Outcome> parse_outcome(std::string_view text);

}  // namespace storctl::usbarb

namespace storctl {
template <>
struct EnumNames<usbarb::Action> {
    using A = usbarb::Action;
    static constexpr std::array<EnumName<A>, 8> table{{
        {A::detach, "detach"},
        {A::attach, "attach"},
        {A::hold_hub, "hold-hub"},
        {A::configure, "configure"},
        {A::free_port, "free-port"},
        {A::open_device, "open-device"},
        {A::bind_vfio, "bind-vfio"},
        {A::return_functions, "return-functions"},
    }};
};
static_assert(round_trips<usbarb::Action>());
}  // namespace storctl
