// Requests of usbfs and descriptors of devices: one ioctl's number and header, a control request's setup packet, then
// the device's descriptors. Whatever they are, nothing is read beyond them, and nothing hidden gets through.

#include <algorithm>
#include <memory>

#include "daemon/node/usbfs/policy.hpp"
#include "daemon/node/usbfs/wire.hpp"
#include "tests/fuzz/byte_reader.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl::node::usbfs;

/// In memory of its own and of exactly its size, for the address sanitizer.
void decode(ByteReader& input) {
    const auto number = input.take<uint32_t>();
    const auto layout = input.take<uint8_t>() % 2 == 0 ? Layout::bits64 : Layout::bits32;
    const auto shape = decode_command(number, layout);
    if (!shape) return;
    FUZZ_CHECK(shape->header_bytes < 1 << 14);
    const auto copy = std::make_unique<std::byte[]>(shape->header_bytes);
    const auto bytes = input.take_bytes(shape->header_bytes);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t*>(copy.get()));
    const std::span<const std::byte> header(copy.get(), shape->header_bytes);
    const uint64_t highest = layout == Layout::bits64 ? UINT64_MAX : UINT32_MAX;
    if (shape->command == Command::submit_urb) {
        const auto urb = decode_urb(header, layout);
        FUZZ_CHECK(!urb || (urb->buffer <= highest && urb->user_context <= highest));
        FUZZ_CHECK(urb.has_value() == (std::to_integer<int>(header[0]) < 4));
    } else if (shape->command == Command::control) {
        const auto control = decode_control(header, layout);
        FUZZ_CHECK(Setup::parse(control.setup).length == control.length && control.data <= highest);
    } else if (shape->command == Command::bulk) {
        FUZZ_CHECK(decode_bulk(header, layout).data <= highest);
    } else if (shape->command == Command::driver_ioctl) {
        FUZZ_CHECK(decode_driver_ioctl(header, layout).data <= highest);
    }
}

bool subset(const std::set<uint8_t>& of, const std::map<uint8_t, InterfaceDescription>& interfaces) {
    return std::all_of(interfaces.begin(), interfaces.end(), [&](const auto& one) { return of.contains(one.first); });
}

void check_shown(const std::set<uint8_t>& allowed, std::span<const uint8_t> descriptors) {
    const auto shown = show_only(descriptors, allowed);
    FUZZ_CHECK(shown.size() <= descriptors.size());
    FUZZ_CHECK(show_only(shown, allowed) == shown);
    const auto before = describe(descriptors), after = describe(shown);
    FUZZ_CHECK(before.has_value() == after.has_value());
    if (!after) return;
    FUZZ_CHECK(before->configurations.size() == after->configurations.size());
    for (size_t i = 0; i < after->configurations.size(); ++i) {
        FUZZ_CHECK(subset(allowed, after->configurations[i].interfaces));
        FUZZ_CHECK(after->configurations[i].value == before->configurations[i].value);
        if (i > UINT8_MAX) continue;
        const auto bytes = configuration_bytes(shown, static_cast<uint8_t>(i));
        FUZZ_CHECK(bytes.size() == after->configurations[i].length);
        FUZZ_CHECK(bytes.data() == shown.data() + after->configurations[i].offset);
    }
}

bool is_for_firmware(std::span<const uint8_t> descriptors, uint8_t interface) {
    const auto device = describe(descriptors);
    return device && std::any_of(device->configurations.begin(), device->configurations.end(), [&](const auto& one) {
               const auto found = one.interfaces.find(interface);
               return found != one.interfaces.end() && !found->second.classes_with_firmware.empty();
           });
}

void check_control(const Filter& filter, const Setup& setup, uint8_t active, std::span<const uint8_t> descriptors) {
    const auto verdict = filter.control(setup, active);
    FUZZ_CHECK(verdict.data.size() <= setup.length);
    FUZZ_CHECK(verdict.reason.empty() == (verdict.kind != ControlVerdict::Kind::stall));
    if (verdict.kind != ControlVerdict::Kind::allow) return;
    const int recipient = setup.request_type & 3, type = setup.request_type >> 5 & 3;
    const auto low = static_cast<uint8_t>(setup.index);
    const bool device_id = setup.request_type == 0xa1 && setup.request == 0;
    FUZZ_CHECK(recipient != 1 || type == 2 || device_id || filter.interface_allowed(low));
    FUZZ_CHECK(recipient != 2 || filter.endpoint_allowed(low, active));
    FUZZ_CHECK(type < 2 || !filter.denies(Denial::vendor));
    FUZZ_CHECK(type != 0 || (setup.request != 10 && setup.request != 11) || filter.interface_allowed(low));
    const bool upgrades = type % 2 == 1 && setup.request <= 6 && (setup.request_type & 0x1f) != 2;
    FUZZ_CHECK(!upgrades || !filter.denies(Denial::firmware) || !is_for_firmware(descriptors, low));
    const bool selects = type == 0 && setup.request == 9;
    FUZZ_CHECK(!selects || !filter.policy().interfaces);
    FUZZ_CHECK(!selects || !filter.denies(Denial::configuration));
    const bool tells =
        type == 0 && setup.request == 6 && setup.to_host() && (setup.value >> 8 == 2 || setup.value >> 8 == 7);
    FUZZ_CHECK(!tells || !filter.policy().interfaces);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    ByteReader input(data, size);
    const auto choice = input.take<uint8_t>();
    if (choice % 4 == 0) {
        decode(input);
        return 0;
    }
    Policy policy{.deny = {}};
    for (const auto& row : storctl::EnumNames<Denial>::table) {
        if ((choice >> 4 & 1 << static_cast<int>(row.value)) != 0) policy.deny.insert(row.value);
    }
    std::set<uint8_t> allowed;
    const auto mask = input.take<uint8_t>();
    for (uint8_t bit = 0; bit < 8; ++bit) {
        if ((mask & 1 << bit) != 0) allowed.insert(bit);
    }
    if (choice % 4 != 1) policy.interfaces = allowed;
    const auto active = input.take<uint8_t>();
    const auto setup = Setup::parse(input.take<std::array<uint8_t, 8>>());
    const auto descriptors = input.take_bytes(size);
    check_shown(allowed, descriptors);
    const Filter filter(policy, {descriptors.begin(), descriptors.end()});
    check_control(filter, setup, active, descriptors);
    return 0;
}
