#pragma once
// One device's folder in sysfs: attributes read strictly. A device that goes while it is read is no_such_device; a file
// that says something else than it should is an error that names it. Blocking, any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace storctl::usbarb {

class SysfsFolder {
 public:
    explicit SysfsFolder(std::string path) : path_(std::move(path)) {}

    const std::string& path() const { return path_; }
    bool there() const;
    /// Trimmed; empty when it is missing.
    std::string text(std::string_view name) const;
    /// Trimmed; a missing file is an error.
    Result<std::string> required_text(std::string_view name) const;
    /// "0x" in front of a hexadecimal one is taken. Missing is an error, as what is above `highest`.
    Result<uint32_t> number(std::string_view name, int base, uint32_t highest) const;
    /// Name of what the link leads to; empty: there is none.
    std::string link_name(std::string_view name) const;

 private:
    Error missing(std::string_view name) const;
    std::string path_;
};

/// Whole-text number.
std::optional<uint32_t> parse_number(std::string_view text, int base, uint32_t highest);

/// The sysfs path that a link in one of sysfs' link folders leads to ("/sys/bus/usb/devices/1-2"), without asking for
/// more than the link; empty when it is none.
std::string device_path(const std::string& sys, const std::string& link);

/// "1-2.1" in parts.
struct UsbName {
    uint16_t bus = 0;
    std::vector<uint8_t> ports;  ///< empty: the root hub, "usb1"
};
std::optional<UsbName> parse_usb_name(std::string_view name);
/// A PCI function's address in the kernel's full form.
bool is_pci_address(std::string_view name);

/// The sysfs path cut behind the last part that is a PCI function's address; empty: there is none.
std::string function_above(std::string_view syspath);
/// The same for a USB device, root hubs and interfaces not being one.
std::string usb_device_above(std::string_view syspath);

}  // namespace storctl::usbarb
