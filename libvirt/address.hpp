#pragma once
// Addresses of host devices as libvirt and QEMU write them, brought to the form that the arbiter takes. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace storctl::libvirt {

/// A whole number as strtoul(3) takes it with base 0: "10", "0x0a", "012"; at most `most`.
std::optional<uint32_t> parse_number(std::string_view text, uint32_t most = UINT32_MAX);

/// "/dev/bus/usb/001/004"
std::string usb_node(uint32_t bus, uint32_t device);
/// "1-2.1"; nothing when the port is no chain of port numbers.
std::optional<std::string> usb_kernel_name(uint32_t bus, std::string_view port);
/// "046d:c31c"
std::string usb_ids(uint32_t vendor, uint32_t product);

/// "0000:00:14.0"; nothing when a part is out of range.
std::optional<std::string> pci_address(uint32_t domain, uint32_t bus, uint32_t slot, uint32_t function);
/// As QEMU's host= takes it, in hexadecimal: "0000:00:14.0", "00:14.0", "0:14.0".
std::optional<std::string> parse_pci_address(std::string_view text);

}  // namespace storctl::libvirt
