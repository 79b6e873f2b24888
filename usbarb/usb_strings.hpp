#pragma once
// The words of a USB device that the kernel could not read when the device came, asked of the device itself. Opens the
// device's node: only for devices that nobody has claimed. May block for as long as it is told: not on the loop's
// thread.

#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.hpp"
#include "usbarb/facts.hpp"

namespace storctl::usbarb {

/// Where the descriptor says that the device has its words; 0: it has none, or the kernel has read them.
struct MissingStrings {
    uint8_t vendor = 0, product = 0;
    bool any() const { return vendor != 0 || product != 0; }
};
/// The serial number is not among them: it is part of what makes a device the same one, and must not come later.
MissingStrings missing_strings(const DeviceFacts& facts);

struct UsbStrings {
    std::string vendor, product;  ///< empty: could not be read
};
/// The first language that the device has. `timeout` is of each of at most three transfers.
Result<UsbStrings> read_strings(const std::string& devnode, MissingStrings wanted, std::chrono::milliseconds timeout);

/// The text of a string descriptor (USB 2.0, 9.6.7: UTF-16LE), as far as it is one.
std::string string_text(std::span<const uint8_t> descriptor);

}  // namespace storctl::usbarb
