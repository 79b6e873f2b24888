#pragma once
// Descriptors of devices that do not exist, put together from their parts.

#include <cstdint>
#include <vector>

namespace storctl::test {

using Bytes = std::vector<uint8_t>;

inline Bytes operator+(Bytes left, const Bytes& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

inline Bytes usb_device(uint8_t configurations = 1) {
    return {18, 1, 0x00, 0x02, 0xef, 2, 1, 64, 0x34, 0x12, 0x78, 0x56, 0x01, 0x01, 1, 2, 3, configurations};
}

inline Bytes usb_interface(uint8_t number, uint8_t setting, uint8_t endpoints, uint8_t interface_class = 0xff,
                           uint8_t subclass = 0, uint8_t protocol = 0) {
    return {9, 4, number, setting, endpoints, interface_class, subclass, protocol, 0};
}

inline Bytes usb_endpoint(uint8_t address, uint8_t attributes = 2) {
    return {7, 5, address, attributes, 0x00, 0x02, 0};
}

inline Bytes usb_association(uint8_t first, uint8_t count) { return {8, 11, first, count, 1, 2, 3, 0}; }

/// A class-specific descriptor that is told from others by `mark`.
inline Bytes usb_class_specific(uint8_t mark, uint8_t type = 0x24) { return {5, type, mark, mark, mark}; }

/// Around `body`, with a true wTotalLength.
inline Bytes usb_configuration(uint8_t value, uint8_t interfaces, const Bytes& body) {
    const size_t total = 9 + body.size();
    const Bytes head = {9,    2, static_cast<uint8_t>(total), static_cast<uint8_t>(total >> 8), interfaces, value, 0,
                        0x80, 50};
    return head + body;
}

/// A headset: audio control and streaming in one function, HID, firmware upgrades.
///   0  audio control
///   1  audio streaming, setting 1 has endpoint 01
///   2  HID, endpoint 83
///   3  DFU
inline Bytes headset_control() { return usb_interface(0, 0, 0, 1, 1) + usb_class_specific(10); }
inline Bytes headset_streaming() {
    return usb_interface(1, 0, 0, 1, 2) + usb_interface(1, 1, 1, 1, 2) + usb_class_specific(11) +
           usb_endpoint(0x01, 9) + usb_class_specific(12, 0x25);
}
inline Bytes headset_hid() { return usb_interface(2, 0, 1, 3) + usb_class_specific(13, 0x21) + usb_endpoint(0x83, 3); }
inline Bytes headset_dfu() { return usb_interface(3, 0, 0, 0xfe, 1, 1) + usb_class_specific(14, 0x21); }
inline Bytes headset() {
    return usb_device() +
           usb_configuration(
               1, 4, usb_association(0, 2) + headset_control() + headset_streaming() + headset_hid() + headset_dfu());
}

}  // namespace storctl::test
