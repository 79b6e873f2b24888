#include "locality/identifier.hpp"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::locality {
namespace {

bool is_hex(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return std::isxdigit(static_cast<unsigned char>(c)); });
}

std::optional<Identifier> uuid_identifier(std::string_view text) {
    if (text.size() != 36) return std::nullopt;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !is_hex(text.substr(i, 1))) return std::nullopt;
    }
    return Identifier{.type = IdType::nvme_uuid, .value = to_lower(text)};
}

/// "VID-SERIAL-MODEL-NSID" with serial and model as hexadecimal of blank- or NUL-padded text: the padding goes.
std::optional<Identifier> nvme_vendor_identifier(std::string_view text) {
    auto parts = split(to_lower(text), '-');
    if (parts.size() != 4) return std::nullopt;
    for (auto& part : parts) {
        if (!is_hex(part)) return std::nullopt;
    }
    for (size_t i = 1; i < 3; ++i) {
        while (parts[i].size() >= 2 && parts[i].size() % 2 == 0 &&
               (parts[i].ends_with("00") || parts[i].ends_with("20"))) {
            parts[i].resize(parts[i].size() - 2);
        }
    }
    return Identifier{.type = IdType::nvme_vendor, .value = join(parts, "-")};
}

std::optional<Identifier> text_identifier(IdType type, std::string_view text) {
    std::string value = normal_value(text);
    if (value.empty()) return std::nullopt;
    return Identifier{.type = type, .value = std::move(value)};
}

}  // namespace

std::string Identifier::text() const { return fmt::format("{}.{}", to_text(type), value); }

std::string normal_value(std::string_view text) {
    constexpr std::string_view harmless = "._:+=,@-";
    // identifiers come padded with NULs as well as blanks
    while (!text.empty() && (text.back() == '\0' || std::isspace(static_cast<unsigned char>(text.back())))) {
        text.remove_suffix(1);
    }
    std::string out;
    bool gap = false;
    for (const char c : trim(text)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80 && (std::isalnum(byte) || harmless.find(c) != std::string_view::npos)) {
            out += c;
            gap = false;
        } else if (std::isspace(byte)) {
            if (!gap) out += '_';
            gap = true;
        } else {
            out += '_';
            gap = false;
        }
    }
    return out;
}

std::optional<Identifier> naa_identifier(std::string_view hex) {
    if (hex.starts_with("0x")) hex.remove_prefix(2);
    if (hex.empty() || !is_hex(hex)) return std::nullopt;
    const auto found = [&](IdType type) { return Identifier{.type = type, .value = to_lower(hex)}; };
    if (hex[0] == '6') return hex.size() == 32 ? std::optional(found(IdType::naa6)) : std::nullopt;
    if (hex.size() != 16) return std::nullopt;
    if (hex[0] == '5') return found(IdType::naa5);
    if (hex[0] == '2') return found(IdType::naa2);
    if (hex[0] == '3') return found(IdType::naa3);
    return std::nullopt;
}

std::optional<Identifier> eui64_identifier(std::string_view hex) {
    if (!is_hex(hex) || (hex.size() != 16 && hex.size() != 24 && hex.size() != 32)) return std::nullopt;
    return Identifier{.type = IdType::eui64, .value = to_lower(hex)};
}

std::optional<Identifier> nguid_identifier(std::string_view hex) {
    std::string digits(hex);
    std::erase(digits, '-');
    if (digits.size() != 32 || !is_hex(digits)) return std::nullopt;
    return Identifier{.type = IdType::nguid, .value = to_lower(digits)};
}

std::optional<Identifier> named_identifier(std::string_view name, NameSpace space) {
    name = trim(name);
    const auto dot = name.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    const std::string kind = to_lower(name.substr(0, dot));
    const std::string_view rest = name.substr(dot + 1);
    if (kind == "naa") return naa_identifier(rest);
    if (kind == "eui") {
        return space == NameSpace::nvme && rest.size() == 32 ? nguid_identifier(rest) : eui64_identifier(rest);
    }
    if (kind == "uuid" && space == NameSpace::nvme) return uuid_identifier(rest);
    if (kind == "nvme" && space == NameSpace::nvme) return nvme_vendor_identifier(rest);
    if (space == NameSpace::nvme) return std::nullopt;
    if (kind == "t10") return text_identifier(IdType::t10, rest);
    if (kind == "iqn") return text_identifier(IdType::scsi_name, name);
    return std::nullopt;
}

std::optional<Identifier> multipath_identifier(std::string_view wwid) {
    if (wwid.starts_with("eui.") || wwid.starts_with("uuid.") || wwid.starts_with("nvme.")) {
        return named_identifier(wwid, NameSpace::nvme);
    }
    if (wwid.size() < 2) return std::nullopt;
    const std::string_view rest = wwid.substr(1);
    switch (wwid[0]) {
        case '3':
            return naa_identifier(rest);
        case '2':
            return eui64_identifier(rest);
        case '1':
            return text_identifier(IdType::t10, rest);
        case '8': {
            const auto named = named_identifier(rest, NameSpace::scsi);
            return named ? named : text_identifier(IdType::scsi_name, rest);
        }
        case 'S':
            return text_identifier(IdType::model_serial, rest);
        default:
            return std::nullopt;
    }
}

}  // namespace storctl::locality
