#include "locality/vpd.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::locality {
namespace {

constexpr size_t header_bytes = 4;
constexpr uint8_t code_binary = 1, code_ascii = 2, code_utf8 = 3;

/// The page's body after its header has been checked.
Result<std::span<const uint8_t>> page_body(std::span<const uint8_t> page, uint8_t code) {
    if (page.size() < header_bytes) {
        return make_error(std::errc::bad_message,
                          fmt::format("VPD page {:#04x}: {} bytes hold no header", code, page.size()));
    }
    if (page[1] != code) {
        return make_error(std::errc::bad_message, fmt::format("VPD page {:#04x}: the page is {:#04x}", code, page[1]));
    }
    const size_t length = static_cast<size_t>(page[2]) << 8 | page[3];
    if (length > page.size() - header_bytes) {
        return make_error(std::errc::bad_message, fmt::format("VPD page {:#04x}: it says {} bytes and has {}", code,
                                                              length, page.size() - header_bytes));
    }
    return page.subspan(header_bytes, length);
}

std::string as_text(std::span<const uint8_t> bytes) {
    // a field ends at its first NUL
    return std::string(bytes.begin(), std::find(bytes.begin(), bytes.end(), 0));
}

bool is_text(const Designator& designator) {
    return designator.code_set == code_ascii || designator.code_set == code_utf8;
}

std::optional<Identifier> scsi_name_identifier(const Designator& designator) {
    // SPC-5 7.7.6.11: UTF-8, NUL-terminated, padded to a multiple of four, at most 256 bytes
    if (designator.code_set != code_utf8 || designator.value.size() % 4 != 0 || designator.value.size() > 256) {
        return std::nullopt;
    }
    const std::string name = as_text(designator.value);
    if (!valid_utf8(name)) return std::nullopt;
    return named_identifier(name, NameSpace::scsi);
}

std::optional<Identifier> identifier_of(const Designator& designator) {
    switch (static_cast<DesignatorType>(designator.type)) {
        case DesignatorType::naa:
            return designator.code_set == code_binary ? naa_identifier(hex_encode(designator.value)) : std::nullopt;
        case DesignatorType::eui64:
            return designator.code_set == code_binary ? eui64_identifier(hex_encode(designator.value)) : std::nullopt;
        case DesignatorType::t10: {
            // eight bytes of vendor and something of the vendor's own
            if (!is_text(designator) || designator.value.size() <= 8) return std::nullopt;
            std::string value = normal_value(as_text(designator.value));
            if (value.empty()) return std::nullopt;
            return Identifier{.type = IdType::t10, .value = std::move(value)};
        }
        case DesignatorType::scsi_name:
            return scsi_name_identifier(designator);
        case DesignatorType::vendor_specific:
        case DesignatorType::relative_target_port:
        case DesignatorType::target_port_group:
        case DesignatorType::logical_unit_group:
        case DesignatorType::md5:
        case DesignatorType::protocol_port:
        case DesignatorType::uuid:
            return std::nullopt;
    }
    return std::nullopt;
}

}  // namespace

Result<std::vector<Designator>> parse_vpd83(std::span<const uint8_t> page) {
    std::span<const uint8_t> body = TRY(page_body(page, 0x83));
    std::vector<Designator> designators;
    while (!body.empty()) {
        if (body.size() < header_bytes || body[3] > body.size() - header_bytes) {
            return make_error(
                std::errc::bad_message,
                fmt::format("VPD page 0x83: designator {} reaches over the end of the page", designators.size()));
        }
        const auto value = body.subspan(header_bytes, body[3]);
        designators.push_back({.code_set = static_cast<uint8_t>(body[0] & 0x0f),
                               .type = static_cast<uint8_t>(body[1] & 0x0f),
                               .association = static_cast<Association>(body[1] >> 4 & 0x03),
                               .value = {value.begin(), value.end()}});
        body = body.subspan(header_bytes + value.size());
    }
    return designators;
}

std::vector<Identifier> logical_unit_identifiers(const std::vector<Designator>& designators) {
    std::vector<Identifier> out;
    for (const auto& designator : designators) {
        if (designator.association != Association::logical_unit) continue;
        auto identifier = identifier_of(designator);
        if (identifier && std::find(out.begin(), out.end(), *identifier) == out.end()) {
            out.push_back(std::move(*identifier));
        }
    }
    return out;
}

Result<std::string> parse_vpd80(std::span<const uint8_t> page) {
    const std::span<const uint8_t> body = TRY(page_body(page, 0x80));
    return std::string(trim(as_text(body)));
}

std::optional<AtaName> ata_name(const std::vector<Designator>& designators) {
    // SAT-4 10.4.2.4: "ATA     ", 40 bytes of model, 20 bytes of serial number
    constexpr size_t vendor_bytes = 8, model_bytes = 40, serial_bytes = 20;
    for (const auto& designator : designators) {
        const auto& value = designator.value;
        if (designator.type != static_cast<uint8_t>(DesignatorType::t10) || !is_text(designator) ||
            value.size() != vendor_bytes + model_bytes + serial_bytes) {
            continue;
        }
        const std::string text(value.begin(), value.end());
        if (!text.starts_with("ATA     ")) continue;
        return AtaName{.model = std::string(trim(text.substr(vendor_bytes, model_bytes))),
                       .serial = std::string(trim(text.substr(vendor_bytes + model_bytes)))};
    }
    return std::nullopt;
}

}  // namespace storctl::locality
