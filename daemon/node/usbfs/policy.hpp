#pragma once
// What the consumer of a mediated USB node may ask of the device. Decides on control requests and interfaces; what it
// hides looks to the consumer as if the device did not have it. Pure.

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/enum_text.hpp"
#include "base/result.hpp"
#include "daemon/node/usbfs/descriptors.hpp"

namespace storctl::node::usbfs {

/// reset: USBDEVFS_RESET. configuration: another configuration than the active one by ioctl, any by control request:
/// the kernel does not follow that, and only the device knows for certain which one is active. firmware: requests of
/// the Device Firmware Upgrade class (DFU 1.1, 3) whose wIndex is its interface, whoever else they are said to be for
/// but an endpoint. vendor: control requests of type vendor, and of the type that is reserved.
enum class Denial : uint8_t { reset, configuration, firmware, vendor };

struct Policy {
    /// That may be used and are shown; none: all. If given, the configuration is denied too.
    std::optional<std::set<uint8_t>> interfaces;
    std::set<Denial> deny = {Denial::firmware};
};

/// A control request's setup packet (USB 2.0, 9.3), in host order.
struct Setup {
    uint8_t request_type = 0, request = 0;
    uint16_t value = 0, index = 0, length = 0;
    static Setup parse(const std::array<uint8_t, 8>& bytes);
    bool to_host() const { return (request_type & 0x80) != 0; }
};

struct ControlVerdict {
    /// allow: to the device. answer: with `data` instead, cut to wLength (descriptors of which something is hidden).
    /// stall: as a device does that does not know the request.
    enum class Kind : uint8_t { allow, answer, stall };
    Kind kind = Kind::allow;
    std::vector<uint8_t> data;
    std::string reason;  ///< of a stall: a sentence for the log, with the request in it
};

/// With `interfaces` given, these are stalled beside the requests to hidden interfaces and their endpoints, because
/// they act on the device as a whole: SET_ADDRESS, SET_DESCRIPTOR, SET_CONFIGURATION as a control request, test mode;
/// and what tells of hidden ones: other-speed configurations.
///
/// Which configuration is active may change at any time, and by others: nothing depends on it. What one configuration
/// hides is hidden, what is for firmware upgrades in one is so in all. If not all configurations could be read, every
/// endpoint may be hidden and every interface be for firmware upgrades.
class Filter {
 public:
    /// `descriptors` as in descriptors.hpp; those of no interface's number are all shown.
    Filter(Policy policy, std::vector<uint8_t> descriptors);

    /// What read(2) gives.
    const std::vector<uint8_t>& shown() const { return shown_; }
    /// A control request.
    ControlVerdict control(const Setup& setup, uint8_t active_configuration) const;
    /// May be claimed, and is shown.
    bool interface_allowed(uint8_t number) const;
    /// Does not belong to a hidden interface of any configuration. Endpoint 0 belongs to none.
    bool endpoint_allowed(uint8_t address, uint8_t active_configuration) const;
    /// Another configuration also with `interfaces` given: their numbers mean other functions there.
    bool denies(Denial what) const {
        return policy_.deny.contains(what) || (what == Denial::configuration && policy_.interfaces);
    }
    const Policy& policy() const { return policy_; }

 private:
    Policy policy_;
    std::vector<uint8_t> descriptors_;
    std::vector<uint8_t> shown_;
    DeviceDescription description_;

    bool hides_endpoint(const ConfigurationDescription& configuration, uint8_t address) const;
    // In some configuration, or in one that is not known.
    bool may_exist(uint8_t interface) const;
    bool may_upgrade_firmware(uint8_t interface) const;
    /// The interfaces that the kernel may take a request to an interface for, one per configuration.
    std::set<uint8_t> interfaces_meant(const Setup& setup) const;
    // Why a request may not pass; empty: it may, as far as this goes.
    std::string interface_refusal(const Setup& setup) const;
    std::string firmware_refusal(const Setup& setup) const;
    std::string endpoint_refusal(const Setup& setup) const;
    std::string standard_refusal(const Setup& setup) const;
};

}  // namespace storctl::node::usbfs

namespace storctl {
template <>
struct EnumNames<node::usbfs::Denial> {
    using D = node::usbfs::Denial;
    static constexpr auto table = std::to_array<EnumName<D>>({
        {D::reset, "reset"},
        {D::configuration, "configuration"},
        {D::firmware, "firmware"},
        {D::vendor, "vendor"},
    });
};
static_assert(round_trips<node::usbfs::Denial>());
}  // namespace storctl
