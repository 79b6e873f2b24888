#pragma once
// What a virtual machine takes of this host, in the words that the arbiter understands. Plain values; any thread.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/enum_text.hpp"

namespace storctl::libvirt {

enum class Bus : uint8_t { usb, pci };

/// What happens when a device is not there: libvirt's words. mandatory: the domain does not start; requisite: the
/// same, but not for one that is restored or comes from another host; optional: it starts without.
enum class StartupPolicy : uint8_t { mandatory, requisite, optional };

struct HostDevice {
    Bus bus = Bus::usb;
    /// usb: "/dev/bus/usb/001/004", another path of a node, "1-2.1", "046d:c31c"; pci: "0000:00:14.0".
    std::string what;
    std::string where;     ///< its place in the XML: "hostdev 2", "qemu:arg 4"
    bool managed = false;  ///< libvirt itself moves the function to vfio-pci and back
    StartupPolicy startup = StartupPolicy::mandatory;
    bool missing = false;  ///< libvirt looked for it, and the domain runs without
    bool operator==(const HostDevice&) const = default;
};

/// `unclear`: what takes a device of the host and does not say which, one sentence each.
struct HostDevices {
    std::vector<HostDevice> devices;
    std::vector<std::string> unclear;
};

}  // namespace storctl::libvirt

namespace storctl {
template <>
struct EnumNames<libvirt::Bus> {
    static constexpr std::array<EnumName<libvirt::Bus>, 2> table{
        {{libvirt::Bus::usb, "usb"}, {libvirt::Bus::pci, "pci"}}};
};
static_assert(round_trips<libvirt::Bus>());

template <>
struct EnumNames<libvirt::StartupPolicy> {
    using P = libvirt::StartupPolicy;
    static constexpr std::array<EnumName<P>, 3> table{
        {{P::mandatory, "mandatory"}, {P::requisite, "requisite"}, {P::optional, "optional"}}};
};
static_assert(round_trips<libvirt::StartupPolicy>());
}  // namespace storctl
