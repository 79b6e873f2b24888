// Values that say nothing. The list holds what is found in the field: bridges and enclosures whose maker never set a
// serial number or a world-wide name, and the words firmware leaves in place of one.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/text.hpp"
#include "locality/identifier.hpp"

namespace storctl::locality {
namespace {

// compared without blanks, '_', '-', ':', '.' and in lower case
constexpr std::array<std::string_view, 21> made_up_values{
    "5000000000000001",  // ASMedia and other SATA bridges
    "50f0000000000000",  // some PATA and early SATA drives
    "50000f0000000000",  //
    "3000000000000001",  //
    "unknown",          "none",         "null",         "nil",        "na",           "defaultstring",
    "default",          "notspecified", "notavailable", "serial",     "serialnumber", "tobefilledbyoem",
    "0123456789abcdef", "0123456789",   "123456789",    "1234567890", "0000000000ca",
};

std::string bare(std::string_view text) {
    std::string out;
    for (const char c : to_lower(text)) {
        if (std::string_view(" _-:.").find(c) == std::string_view::npos) out += c;
    }
    return out;
}

bool all_are(std::string_view text, char wanted) {
    return std::all_of(text.begin(), text.end(), [&](char c) { return c == wanted; });
}

/// The part of a value that should tell one unit from the next: the last word of a model-serial or T10 text,
/// the serial number inside an NVMe vendor name.
std::string telling_part(const Identifier& identifier) {
    const std::string& value = identifier.value;
    if (identifier.type == IdType::nvme_vendor) {
        const auto parts = split(value, '-');
        const auto serial = hex_decode(parts.size() > 1 ? parts[1] : std::string());
        return serial ? normal_value(std::string(serial->begin(), serial->end())) : value;
    }
    if (identifier.type != IdType::model_serial && identifier.type != IdType::t10) return value;
    const auto cut = value.rfind('_');
    return cut == std::string::npos ? value : value.substr(cut + 1);
}

/// The maker's IEEE company id is in digits 1..6 of an NAA 2, 5 or 6 name and 0..5 of an EUI-64; nobody has 00-00-00.
bool without_company(const Identifier& identifier) {
    const std::string_view value = identifier.value;
    switch (identifier.type) {
        case IdType::naa5:
        case IdType::naa6:
            return value.size() > 7 && all_are(value.substr(1, 6), '0');
        case IdType::naa2:
            return value.size() > 10 && all_are(value.substr(4, 6), '0');
        case IdType::eui64:
            return value.size() < 32 && all_are(value.substr(0, 6), '0');
        case IdType::nvme_uuid:
        case IdType::nguid:
        case IdType::scsi_name:
        case IdType::t10:
        case IdType::naa3:
        case IdType::nvme_vendor:
        case IdType::md_uuid:
        case IdType::model_serial:
        case IdType::serial:
        case IdType::path:
        case IdType::name:
            return false;
    }
    return false;
}

}  // namespace

std::optional<std::string> placeholder_reason(const Identifier& identifier, const std::vector<std::string>& extra) {
    if (identifier.quality() == Quality::none) return std::nullopt;
    for (const auto& entry : extra) {
        const std::string wanted = bare(entry);
        if (wanted == bare(identifier.value) || wanted == bare(identifier.text()) ||
            wanted == bare(telling_part(identifier))) {
            return fmt::format("the configuration lists '{}' as a value without meaning", entry);
        }
    }
    const std::string value = bare(telling_part(identifier));
    if (value.empty()) return "an empty value";
    if (all_are(value, '0')) return "a placeholder: all zero";
    if (all_are(value, 'f')) return "a placeholder: all F";
    if (std::find(made_up_values.begin(), made_up_values.end(), value) != made_up_values.end()) {
        return fmt::format("a placeholder that makers leave in place of an identifier: '{}'", telling_part(identifier));
    }
    if (without_company(identifier)) return "a placeholder: it names no maker (company id 00-00-00)";
    return std::nullopt;
}

}  // namespace storctl::locality
