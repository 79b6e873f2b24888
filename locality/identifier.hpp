#pragma once
// Typed identifiers of a device with their quality. Only quality high proves "the same device on another host".

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/enum_text.hpp"

namespace storctl::locality {

/// In order of rank: the first usable one names the device.
enum class IdType {
    naa6,
    naa5,
    naa2,
    nvme_uuid,
    nguid,
    eui64,
    scsi_name,
    t10,
    naa3,
    nvme_vendor,
    md_uuid,
    model_serial,
    serial,
    path,
    name,
};

enum class Quality { high, medium, low, none };

constexpr Quality quality_of(IdType type) {
    switch (type) {
        case IdType::naa6:
        case IdType::naa5:
        case IdType::naa2:
        case IdType::nvme_uuid:
        case IdType::nguid:
        case IdType::eui64:
            return Quality::high;
        case IdType::scsi_name:
        case IdType::t10:
        case IdType::naa3:
        case IdType::nvme_vendor:
        case IdType::md_uuid:
        case IdType::model_serial:
            return Quality::medium;
        case IdType::serial:
            return Quality::low;
        case IdType::path:
        case IdType::name:
            return Quality::none;
    }
    return Quality::none;
}

struct Identifier {
    IdType type = IdType::name;
    std::string value;
    bool usable = true;
    std::string why;  ///< why it is not usable

    Quality quality() const { return quality_of(type); }
    /// "naa6.6001405…": a device's id, and an override's key.
    std::string text() const;
    bool operator==(const Identifier&) const = default;
};

/// Outer blanks cut, inner runs of blanks one '_', what a shell or a path would trip over '_'.
std::string normal_value(std::string_view text);

/// NAA by its first digit and length: "6…" of 32 digits, "5…", "2…", "3…" of 16. Anything else is none.
std::optional<Identifier> naa_identifier(std::string_view hex);
/// EUI-64 of 8, 12 or 16 bytes in hexadecimal.
std::optional<Identifier> eui64_identifier(std::string_view hex);
/// NGUID: 16 bytes in hexadecimal, dashes allowed.
std::optional<Identifier> nguid_identifier(std::string_view hex);
/// A name that carries its own type: "naa.…", "eui.…", "uuid.…", "t10.…", "nvme.…", "iqn.…". In an NVMe name an
/// "eui." of 32 digits is an NGUID.
enum class NameSpace { scsi, nvme };
std::optional<Identifier> named_identifier(std::string_view name, NameSpace space);
/// What follows "mpath-" in a multipath map's device-mapper uuid: scsi_id's digit and value, or an NVMe wwid.
std::optional<Identifier> multipath_identifier(std::string_view wwid);

/// Whether `identifier` is a value that makers leave when they set none: all zero, all F, a made-up constant, or one of
/// `extra` (values alone or TYPE.VALUE). Gives the reason.
std::optional<std::string> placeholder_reason(const Identifier& identifier, const std::vector<std::string>& extra);

}  // namespace storctl::locality

namespace storctl {

template <>
struct EnumNames<locality::IdType> {
    using E = locality::IdType;
    static constexpr std::array<EnumName<E>, 15> table{{
        {E::naa6, "naa6"},
        {E::naa5, "naa5"},
        {E::naa2, "naa2"},
        {E::nvme_uuid, "nvme-uuid"},
        {E::nguid, "nguid"},
        {E::eui64, "eui64"},
        {E::scsi_name, "scsi-name"},
        {E::t10, "t10"},
        {E::naa3, "naa3"},
        {E::nvme_vendor, "nvme-vendor"},
        {E::md_uuid, "md-uuid"},
        {E::model_serial, "model-serial"},
        {E::serial, "serial"},
        {E::path, "path"},
        {E::name, "name"},
    }};
};
static_assert(round_trips<locality::IdType>());

template <>
struct EnumNames<locality::Quality> {
    using E = locality::Quality;
    static constexpr std::array<EnumName<E>, 4> table{
        {{E::high, "high"}, {E::medium, "medium"}, {E::low, "low"}, {E::none, "none"}}};
};
static_assert(round_trips<locality::Quality>());

}  // namespace storctl
