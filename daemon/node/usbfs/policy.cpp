#include "daemon/node/usbfs/policy.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace storctl::node::usbfs {
namespace {

// bmRequestType (USB 2.0, 9.3.1). Recipients from 4 on are reserved: they count as what a device takes them for that
// looks at the low bits only.
enum class Type : uint8_t { standard = 0, class_specific = 1, vendor = 2, reserved = 3 };
enum class Recipient : uint8_t { device = 0, interface = 1, endpoint = 2, other = 3 };
Type type_of(const Setup& setup) { return static_cast<Type>(setup.request_type >> 5 & 3); }
Recipient recipient_of(const Setup& setup) { return static_cast<Recipient>(setup.request_type & 3); }
bool is_certainly_to_endpoint(const Setup& setup) { return (setup.request_type & 0x1f) == 2; }

// bRequest of standard requests (table 9-4), feature (table 9-6) and descriptor types (table 9-5).
constexpr uint8_t clear_feature = 1, set_feature = 3, set_address = 5, get_descriptor = 6, set_descriptor = 7;
constexpr uint8_t set_configuration = 9, get_interface = 10, set_interface = 11;
constexpr uint8_t feature_test_mode = 2;
constexpr uint8_t configuration_type = 2, other_speed_type = 7;

/// DFU_ABORT: the requests are 0, DFU_DETACH, to 6 (DFU 1.1, 3).
constexpr uint8_t last_firmware_request = 6;

/// GET_DEVICE_ID (Printer class 1.1, 4.2.1): the interface is in the high byte of wIndex, its setting in the low one.
constexpr uint8_t printer_request_type = 0xa1, get_device_id = 0;

uint8_t low(uint16_t word) { return static_cast<uint8_t>(word); }
uint8_t high(uint16_t word) { return static_cast<uint8_t>(word >> 8); }

std::string sentence(const Setup& setup, const std::string& why) {
    return fmt::format("control request {:02x} {:02x}, value {:04x}, index {:04x}, length {}: {}", setup.request_type,
                       setup.request, setup.value, setup.index, setup.length, why);
}

ControlVerdict stall(const Setup& setup, const std::string& why) {
    return {.kind = ControlVerdict::Kind::stall, .reason = sentence(setup, why)};
}

bool is_descriptor_request(const Setup& setup, uint8_t descriptor_type) {
    return type_of(setup) == Type::standard && setup.request == get_descriptor && setup.to_host() &&
           high(setup.value) == descriptor_type;
}

}  // namespace

Setup Setup::parse(const std::array<uint8_t, 8>& bytes) {
    const auto word = [&](size_t at) { return static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8); };
    return {.request_type = bytes[0], .request = bytes[1], .value = word(2), .index = word(4), .length = word(6)};
}

Filter::Filter(Policy policy, std::vector<uint8_t> descriptors)
    : policy_(std::move(policy)),
      descriptors_(std::move(descriptors)),
      shown_(policy_.interfaces ? show_only(descriptors_, *policy_.interfaces) : descriptors_),
      description_(describe(descriptors_).value_or(DeviceDescription{})) {}

bool Filter::interface_allowed(uint8_t number) const {
    return !policy_.interfaces || policy_.interfaces->contains(number);
}

bool Filter::endpoint_allowed(uint8_t address) const {
    address &= 0x8f;
    if (!policy_.interfaces || (address & 0x0f) == 0) return true;
    return description_.complete &&
           std::none_of(description_.configurations.begin(), description_.configurations.end(),
                        [&](const auto& configuration) { return hides_endpoint(configuration, address); });
}

/// An address that two interfaces have is the hidden one's: the kernel takes the first that has it.
bool Filter::hides_endpoint(const ConfigurationDescription& configuration, uint8_t address) const {
    return std::any_of(configuration.interfaces.begin(), configuration.interfaces.end(), [&](const auto& entry) {
        return entry.second.endpoints.contains(address) && !interface_allowed(entry.first);
    });
}

bool Filter::may_exist(uint8_t interface) const {
    return !description_.complete ||
           std::any_of(description_.configurations.begin(), description_.configurations.end(),
                       [&](const auto& configuration) { return configuration.interfaces.contains(interface); });
}

bool Filter::may_upgrade_firmware(uint8_t interface) const {
    return !description_.complete ||
           std::any_of(
               description_.configurations.begin(), description_.configurations.end(), [&](const auto& configuration) {
                   const auto found = configuration.interfaces.find(interface);
                   return found != configuration.interfaces.end() && !found->second.classes_with_firmware.empty();
               });
}

std::set<uint8_t> Filter::interfaces_meant(const Setup& setup) const {
    const uint8_t number = low(setup.index), printer = high(setup.index);
    if (setup.request_type != printer_request_type || setup.request != get_device_id) return {number};
    std::set<uint8_t> meant;
    if (!description_.complete) meant = {number, printer};
    for (const auto& configuration : description_.configurations) {
        const auto found = configuration.interfaces.find(printer);
        const bool is_printer =
            found != configuration.interfaces.end() && found->second.printer_settings.contains(number);
        meant.insert(is_printer ? printer : number);
    }
    return meant;
}

std::string Filter::interface_refusal(const Setup& setup) const {
    for (const uint8_t number : interfaces_meant(setup)) {
        // wIndex of a vendor's request may be anything; the kernel looks at it for none of them.
        const bool means_interface = type_of(setup) != Type::vendor || may_exist(number);
        if (means_interface && !interface_allowed(number)) return fmt::format("interface {} is hidden", number);
    }
    return {};
}

/// Of what is for the device or another recipient the kernel does not check wIndex, and some devices look at nothing
/// but it and bRequest. The reserved type counts as a class's here, because it differs from that in one bit. Where the
/// low byte of a printer's GET_DEVICE_ID, a setting, is the number of an interface for firmware, it is let through all
/// the same: DFU has no request of this number in this direction, and a device that took it for DFU_DETACH would come
/// back as another one, which its node does not let in.
std::string Filter::firmware_refusal(const Setup& setup) const {
    const bool of_class = type_of(setup) == Type::class_specific || type_of(setup) == Type::reserved;
    if (!of_class || is_certainly_to_endpoint(setup)) return {};
    if (setup.request > last_firmware_request && recipient_of(setup) != Recipient::interface) return {};
    for (const uint8_t number : interfaces_meant(setup)) {
        if (!may_upgrade_firmware(number)) continue;
        if (denies(Denial::firmware))
            return fmt::format("interface {} is for firmware upgrades, which are denied", number);
        if (!interface_allowed(number)) return fmt::format("interface {} is hidden", number);
    }
    return {};
}

std::string Filter::endpoint_refusal(const Setup& setup) const {
    const uint8_t address = low(setup.index) & 0x8f;
    if (!policy_.interfaces || (address & 0x0f) == 0) return {};
    // devio.c, check_ctrlrecip: an address that no interface has counts as the one in the other direction
    const auto meant = [&](const ConfigurationDescription& configuration) -> uint8_t {
        const bool exists = std::any_of(configuration.interfaces.begin(), configuration.interfaces.end(),
                                        [&](const auto& entry) { return entry.second.endpoints.contains(address); });
        return exists ? address : address ^ 0x80;
    };
    const bool hidden =
        !description_.complete || std::any_of(description_.configurations.begin(), description_.configurations.end(),
                                              [&](const auto& one) { return hides_endpoint(one, meant(one)); });
    return hidden ? fmt::format("endpoint {:02x} is of a hidden interface", address) : std::string();
}

/// Whatever their direction and recipient: devices look at bRequest first, and some at nothing else.
std::string Filter::standard_refusal(const Setup& setup) const {
    const bool test_mode = setup.request == set_feature && low(setup.value) == feature_test_mode;
    const bool whole_device = setup.request == set_address || setup.request == set_descriptor ||
                              setup.request == set_configuration || test_mode;
    if (policy_.interfaces && whole_device) return "it acts on hidden interfaces too";
    if (policy_.interfaces && is_descriptor_request(setup, other_speed_type))
        return "what it asks for tells of hidden interfaces";
    if (denies(Denial::configuration) && setup.request == set_configuration)
        return "changing the configuration is denied";

    const uint8_t number = low(setup.index);
    const bool of_interface = setup.request == get_interface || setup.request == set_interface;
    if (of_interface && !interface_allowed(number)) return fmt::format("interface {} is hidden", number);
    // feature 0 is an endpoint's or an interface's; the device's have another number, and nothing in the low byte
    const bool of_part = (setup.request == clear_feature || setup.request == set_feature) &&
                         !is_certainly_to_endpoint(setup) && (number != 0 || low(setup.value) == 0);
    if (of_part && may_exist(number) && !interface_allowed(number))
        return fmt::format("interface {} is hidden", number);
    if (of_part && !endpoint_allowed(number))
        return fmt::format("endpoint {:02x} is of a hidden interface", number & 0x8f);
    return {};
}

ControlVerdict Filter::control(const Setup& setup) const {
    std::string refusal;
    const bool of_vendor = type_of(setup) == Type::vendor || type_of(setup) == Type::reserved;
    if (of_vendor && denies(Denial::vendor)) refusal = "vendor requests are denied";
    if (refusal.empty()) refusal = firmware_refusal(setup);
    if (refusal.empty() && recipient_of(setup) == Recipient::interface) refusal = interface_refusal(setup);
    if (refusal.empty() && recipient_of(setup) == Recipient::endpoint) refusal = endpoint_refusal(setup);
    if (refusal.empty() && type_of(setup) == Type::standard) refusal = standard_refusal(setup);
    if (!refusal.empty()) return stall(setup, refusal);

    if (!policy_.interfaces || !is_descriptor_request(setup, configuration_type)) return {};
    const auto configuration = configuration_bytes(shown_, low(setup.value));
    if (configuration.empty()) return stall(setup, fmt::format("there is no configuration {}", low(setup.value)));
    const auto answer = configuration.first(std::min<size_t>(configuration.size(), setup.length));
    return {.kind = ControlVerdict::Kind::answer, .data = {answer.begin(), answer.end()}};
}

}  // namespace storctl::node::usbfs
