#pragma once
// Where a USB device is plugged in: its controller and the chain of ports below it. Bus and device numbers change from
// plug to plug and from boot to boot; a socket does not. Pure values, any thread.

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/enum_text.hpp"
#include "base/result.hpp"

namespace storctl::usbarb {

/// A USB 3 controller and a USB 3 hub appear twice: as one on the USB 2 bus and as one on the USB 3 bus.
enum class Half : uint8_t { usb2, usb3 };

/// The kernel's `peer` links make the two halves of a socket one: a chain is counted in the ports of the USB 2 half.
/// Only a root port that has no USB 2 peer is counted on its own, and says so ("usb3-1").
struct Socket {
    std::string controller;      ///< "0000:00:14.0"; of one that is not on PCI "platform/xhci-hcd.0"
    bool usb3_only = false;      ///< the first port is of the USB 3 root hub and has no peer
    std::vector<uint8_t> ports;  ///< from the root hub down; empty: the root hub, that is all of the controller's
    std::string unit;            ///< below a function that is no USB controller: the disk or interface on it ("sda")

    auto operator<=>(const Socket&) const = default;
    bool operator==(const Socket&) const = default;

    bool is_root() const { return ports.empty() && unit.empty(); }
    /// The hub above; the root hub's own is itself.
    Socket parent() const;
    /// True for everything below `hub`, not for itself.
    bool is_below(const Socket& hub) const;
};

using storctl::to_text;  // of the room's enums, beside that of sockets

/// "0000:00:14.0/2.1", "0000:00:14.0/usb3-2.1", "0000:00:14.0" for the root hub, "0000:01:00.0/nvme0n1" for a unit.
std::string to_text(const Socket& socket);
/// invalid_argument when it is no such text. A unit is not taken: nobody names one.
Result<Socket> parse_socket(std::string_view text);

/// A PCI function's address in full: "0000:00:14.0" of "00:14.0" or "0000:00:14.0"; invalid_argument otherwise.
Result<std::string> parse_pci_address(std::string_view text);

}  // namespace storctl::usbarb

namespace storctl {
template <>
struct EnumNames<usbarb::Half> {
    static constexpr std::array<EnumName<usbarb::Half>, 2> table{{
        {usbarb::Half::usb2, "usb2"},
        {usbarb::Half::usb3, "usb3"},
    }};
};
static_assert(round_trips<usbarb::Half>());
}  // namespace storctl
