#include "daemon/node/usbfs/descriptors.hpp"

#include <algorithm>
#include <cstring>

namespace storctl::node::usbfs {
namespace {

using Bytes = std::span<const uint8_t>;

// bDescriptorType (USB 2.0, table 9-5; interface associations: its ECN)
constexpr uint8_t type_configuration = 2, type_interface = 4, type_endpoint = 5, type_association = 11;

// The smallest that each can be (USB 2.0, 9.6). The kernel reads no smaller ones (drivers/usb/core/config.c).
constexpr size_t device_bytes = 18, configuration_head_bytes = 9, interface_bytes = 9, association_bytes = 8;

constexpr size_t total_length_at = 2, interface_count_at = 4, configuration_count_at = 17;
constexpr uint8_t class_application = 0xfe, subclass_firmware = 0x01, class_printer = 0x07;
/// Bits 4 to 6 of an endpoint's address are reserved; the kernel reads them as 0.
constexpr uint8_t endpoint_bits = 0x8f, endpoint_number_bits = 0x0f;

/// The device descriptor's words as usbfs gives them: in host order.
uint16_t host_word(Bytes bytes, size_t at) {
    uint16_t word = 0;
    std::memcpy(&word, bytes.subspan(at, sizeof word).data(), sizeof word);
    return word;
}
/// All others' words: as on the wire.
uint16_t wire_word(Bytes bytes, size_t at) { return static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8); }

/// The descriptor that `rest` begins with; empty: none, or one whose length cannot be. The kernel ends there too.
Bytes next_descriptor(Bytes rest) {
    if (rest.size() < 2 || rest[0] < 2 || rest[0] > rest.size()) return {};
    return rest.first(rest[0]);
}

bool is_interface(Bytes descriptor) { return descriptor[1] == type_interface && descriptor.size() >= interface_bytes; }

/// The whole configuration that `rest` begins with; empty: none, or not all of it.
Bytes next_configuration(Bytes rest) {
    if (rest.size() < configuration_head_bytes || rest[1] != type_configuration) return {};
    const size_t length = wire_word(rest, total_length_at);
    if (rest[0] < configuration_head_bytes || length < rest[0] || length > rest.size()) return {};
    return rest.first(length);
}

void add_interface(ConfigurationDescription& configuration, Bytes descriptor) {
    const uint8_t number = descriptor[2];
    auto [entry, is_new] = configuration.interfaces.try_emplace(number);
    auto& interface = entry->second;
    const uint8_t interface_class = descriptor[5], subclass = descriptor[6];
    if (is_new) {
        interface.number = number;
        interface.interface_class = interface_class;
        interface.subclass = subclass;
        interface.protocol = descriptor[7];
    }
    if (interface_class == class_application && subclass == subclass_firmware)
        interface.classes_with_firmware.insert(descriptor[3]);
    if (interface_class == class_printer) interface.printer_settings.insert(descriptor[3]);
}

ConfigurationDescription describe_configuration(Bytes bytes, size_t offset) {
    ConfigurationDescription out{.value = bytes[5], .offset = offset, .length = bytes.size()};
    InterfaceDescription* current = nullptr;
    for (auto rest = bytes.subspan(bytes[0]); !rest.empty();) {
        const auto descriptor = next_descriptor(rest);
        if (descriptor.empty()) break;
        rest = rest.subspan(descriptor.size());
        if (descriptor[1] == type_interface) {
            current = nullptr;
            if (!is_interface(descriptor)) continue;
            add_interface(out, descriptor);
            current = &out.interfaces[descriptor[2]];
        } else if (descriptor[1] == type_endpoint && descriptor.size() > 2 && current) {
            // also what is too short for the kernel: an endpoint too many of a hidden interface does no harm
            if ((descriptor[2] & endpoint_number_bits) != 0) current->endpoints.insert(descriptor[2] & endpoint_bits);
        }
    }
    return out;
}

bool association_is_shown(Bytes descriptor, const std::set<uint8_t>& interfaces) {
    if (descriptor.size() < association_bytes) return false;
    const int first = descriptor[2], end = first + descriptor[3];
    return std::any_of(interfaces.begin(), interfaces.end(),
                       [&](int number) { return number >= first && number < end; });
}

/// Bytes that cannot be read as descriptors belong to nobody and are not shown.
std::vector<uint8_t> show_of_configuration(Bytes bytes, const std::set<uint8_t>& interfaces) {
    std::vector<uint8_t> out(bytes.begin(), bytes.begin() + bytes[0]);
    std::set<uint8_t> shown_interfaces;
    bool shown = true;  // what stands before the first interface is the configuration's own
    for (auto rest = bytes.subspan(bytes[0]); !rest.empty();) {
        const auto descriptor = next_descriptor(rest);
        if (descriptor.empty()) break;
        rest = rest.subspan(descriptor.size());
        if (descriptor[1] == type_association) {
            shown = association_is_shown(descriptor, interfaces);
        } else if (descriptor[1] == type_interface) {
            shown = is_interface(descriptor) && interfaces.contains(descriptor[2]);
            if (shown) shown_interfaces.insert(descriptor[2]);
        }
        if (shown) out.insert(out.end(), descriptor.begin(), descriptor.end());
    }
    if (out.size() == bytes.size()) return out;
    out[total_length_at] = static_cast<uint8_t>(out.size());
    out[total_length_at + 1] = static_cast<uint8_t>(out.size() >> 8);
    out[interface_count_at] = static_cast<uint8_t>(shown_interfaces.size());
    return out;
}

}  // namespace

const ConfigurationDescription* DeviceDescription::configuration(uint8_t value) const {
    const auto found =
        std::find_if(configurations.begin(), configurations.end(), [&](const auto& one) { return one.value == value; });
    return found == configurations.end() ? nullptr : &*found;
}

std::optional<DeviceDescription> describe(Bytes descriptors) {
    if (descriptors.size() < device_bytes) return std::nullopt;
    DeviceDescription out{
        .vendor_id = host_word(descriptors, 8),
        .product_id = host_word(descriptors, 10),
        .device_class = descriptors[4],
    };
    for (size_t offset = device_bytes;;) {
        const auto bytes = next_configuration(descriptors.subspan(offset));
        if (bytes.empty()) break;
        out.configurations.push_back(describe_configuration(bytes, offset));
        offset += bytes.size();
    }
    out.complete =
        !out.configurations.empty() && out.configurations.size() >= size_t{descriptors[configuration_count_at]};
    return out;
}

std::vector<uint8_t> show_only(Bytes descriptors, const std::set<uint8_t>& interfaces) {
    const auto head = descriptors.first(std::min(descriptors.size(), device_bytes));
    std::vector<uint8_t> out(head.begin(), head.end());
    for (auto rest = descriptors.subspan(head.size());;) {
        const auto bytes = next_configuration(rest);
        if (bytes.empty()) return out;
        rest = rest.subspan(bytes.size());
        const auto shown = show_of_configuration(bytes, interfaces);
        out.insert(out.end(), shown.begin(), shown.end());
    }
}

Bytes configuration_bytes(Bytes descriptors, uint8_t index) {
    if (descriptors.size() < device_bytes) return {};
    auto rest = descriptors.subspan(device_bytes);
    for (int left = index;; --left) {
        const auto bytes = next_configuration(rest);
        if (bytes.empty() || left == 0) return bytes;
        rest = rest.subspan(bytes.size());
    }
}

bool same_device(Bytes before, Bytes after) {
    return std::equal(before.begin(), before.end(), after.begin(), after.end());
}

}  // namespace storctl::node::usbfs
