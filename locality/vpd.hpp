#pragma once
// SCSI vital product data as sysfs keeps it: page 0x83 (device identification) and 0x80 (unit serial number),
// SPC-5 7.7. Pure functions over foreign bytes.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "locality/identifier.hpp"

namespace storctl::locality {

enum class DesignatorType : uint8_t {
    vendor_specific = 0,
    t10 = 1,
    eui64 = 2,
    naa = 3,
    relative_target_port = 4,
    target_port_group = 5,
    logical_unit_group = 6,
    md5 = 7,
    scsi_name = 8,
    protocol_port = 9,
    uuid = 10,
};

enum class Association : uint8_t { logical_unit = 0, target_port = 1, target_device = 2, reserved = 3 };

struct Designator {
    uint8_t code_set = 0;  ///< 1 binary, 2 ASCII, 3 UTF-8
    uint8_t type = 0;      ///< DesignatorType, or reserved
    Association association = Association::logical_unit;
    std::vector<uint8_t> value;
};

/// Every designator of page 0x83. An error when the page is no page 0x83, is longer than its bytes, or a designator
/// reaches over its end: then nothing in it can be trusted.
Result<std::vector<Designator>> parse_vpd83(std::span<const uint8_t> page);

/// What the designators say of the logical unit itself. Those of a port or target, of the wrong length or code set for
/// their type, and vendor-specific ones give nothing.
std::vector<Identifier> logical_unit_identifiers(const std::vector<Designator>& designators);

/// The unit serial number, trimmed; may be empty. Same errors as page 0x83.
Result<std::string> parse_vpd80(std::span<const uint8_t> page);

/// libata's T10 designator holds the whole model and serial number of an ATA disk, where INQUIRY cuts the model.
struct AtaName {
    std::string model;
    std::string serial;
};
std::optional<AtaName> ata_name(const std::vector<Designator>& designators);

}  // namespace storctl::locality
