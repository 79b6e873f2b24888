#pragma once
// What a device's descriptors say, and what is shown of them when only some interfaces may be used. The bytes are those
// that a usbfs node gives to read(2): the device descriptor, then each configuration in full (drivers/usb/core/devio.c,
// usbdev_read). They come from hardware: any bytes are survived. Pure.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace storctl::node::usbfs {

struct InterfaceDescription {
    uint8_t number = 0;
    uint8_t interface_class = 0, subclass = 0, protocol = 0;  ///< of its first alternate setting
    std::set<uint8_t> endpoints;                              ///< addresses, of all alternate settings
    std::set<uint8_t> classes_with_firmware;  ///< alternate settings that are of class FE, subclass 01 (DFU 1.1, 4.2.1)
    std::set<uint8_t> printer_settings;       ///< alternate settings that are of class 07
};

struct ConfigurationDescription {
    uint8_t value = 0;  ///< bConfigurationValue
    size_t offset = 0;  ///< of its bytes in the whole
    size_t length = 0;
    std::map<uint8_t, InterfaceDescription> interfaces;  ///< by number
};

struct DeviceDescription {
    uint16_t vendor_id = 0, product_id = 0;
    uint8_t device_class = 0;
    std::vector<ConfigurationDescription> configurations;  ///< by index; one that is cut off ends the list
    bool complete = false;  ///< as many as the device descriptor counts, and one at least

    const ConfigurationDescription* configuration(uint8_t value) const;
};

/// Nothing: fewer than the 18 bytes of a device descriptor.
std::optional<DeviceDescription> describe(std::span<const uint8_t> descriptors);

/// The same bytes with all that belongs to other interfaces taken out: their descriptors, what stands between them and
/// the next interface's, and interface associations that would be left without one; bNumInterfaces and wTotalLength
/// follow. What cannot be read as descriptors belongs to nobody and goes too. The device descriptor stays as it is.
std::vector<uint8_t> show_only(std::span<const uint8_t> descriptors, const std::set<uint8_t>& interfaces);

/// The configuration of this index in `descriptors`, as GET_DESCRIPTOR gives it; empty: none.
std::span<const uint8_t> configuration_bytes(std::span<const uint8_t> descriptors, uint8_t index);

/// The same device with the same firmware: equal but for what a kernel or a bus changes by itself (nothing, today).
bool same_device(std::span<const uint8_t> before, std::span<const uint8_t> after);

}  // namespace storctl::node::usbfs
