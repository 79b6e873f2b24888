#pragma once
// Persistent reservations as a value (SPC-5 "Persistent reservations"): who is registered with which key, and who holds
// what. It can be stored and compared; `version` counts its changes, so that a store which several hosts share can
// refuse a change that was made to an older one. Pure.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_text.hpp"
#include "base/result.hpp"
#include "daemon/node/scsi/commands.hpp"

namespace storctl::node::scsi {

/// An I_T nexus: an initiator port, named as iSCSI names them, and the relative identifier of the target port.
struct NexusName {
    std::string initiator;
    uint16_t target_port = 1;
    auto operator<=>(const NexusName&) const = default;
};
/// An iSCSI name or initiator port name has at most 223 + 17 printable characters; a TransportID has to carry it.
Result<void> check(const NexusName& name);

enum class ReservationType : uint8_t {
    write_exclusive = 1,
    exclusive_access = 3,
    write_exclusive_registrants_only = 5,
    exclusive_access_registrants_only = 6,
    write_exclusive_all_registrants = 7,
    exclusive_access_all_registrants = 8,
};
std::optional<ReservationType> reservation_type(uint8_t code);
bool for_all_registrants(ReservationType type);
/// Registrants only and all registrants: whoever is registered may do what the holder may.
bool for_registrants(ReservationType type);

struct Registration {
    NexusName nexus;
    uint64_t key = 0;  ///< never 0
    bool operator==(const Registration&) const = default;
};

struct ReservationState {
    uint64_t version = 0;
    uint32_t generation = 0;                  ///< PRGENERATION
    bool persists = false;                    ///< APTPL: registrations outlive a loss of power
    std::optional<ReservationType> type;      ///< nothing is reserved without one
    std::optional<NexusName> holder;          ///< none of the types for all registrants
    std::vector<Registration> registrations;  ///< sorted by nexus
    bool operator==(const ReservationState&) const = default;

    const Registration* registration(const NexusName& nexus) const;
    bool holds(const NexusName& nexus) const;
};

/// What comes from a database holds together: keys, a holder who is registered, order.
Result<void> check(const ReservationState& state);

/// What is left after a loss of power.
ReservationState after_power_loss(const ReservationState& state);

enum class Standing : uint8_t { unregistered, registered, holder };
Standing standing_of(const ReservationState& state, const NexusName& nexus);

/// Whether a command of that kind is answered with RESERVATION CONFLICT (SPC-5, SBC-4: the columns of their tables).
bool conflicts(std::optional<ReservationType> type, Standing standing, Access access);

}  // namespace storctl::node::scsi

namespace storctl {

template <>
struct EnumNames<node::scsi::ReservationType> {
    static constexpr auto table = std::to_array<EnumName<node::scsi::ReservationType>>({
        {node::scsi::ReservationType::write_exclusive, "write-exclusive"},
        {node::scsi::ReservationType::exclusive_access, "exclusive-access"},
        {node::scsi::ReservationType::write_exclusive_registrants_only, "write-exclusive-registrants-only"},
        {node::scsi::ReservationType::exclusive_access_registrants_only, "exclusive-access-registrants-only"},
        {node::scsi::ReservationType::write_exclusive_all_registrants, "write-exclusive-all-registrants"},
        {node::scsi::ReservationType::exclusive_access_all_registrants, "exclusive-access-all-registrants"},
    });
};
static_assert(round_trips<node::scsi::ReservationType>());

}  // namespace storctl
