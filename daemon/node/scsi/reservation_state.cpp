#include "daemon/node/scsi/reservation_state.hpp"

#include <algorithm>

namespace storctl::node::scsi {

namespace {

constexpr size_t longest_initiator = 223 + 17;

bool exclusive_access(ReservationType type) {
    return type == ReservationType::exclusive_access || type == ReservationType::exclusive_access_registrants_only ||
           type == ReservationType::exclusive_access_all_registrants;
}

}  // namespace

Result<void> check(const NexusName& name) {
    const bool printable =
        std::all_of(name.initiator.begin(), name.initiator.end(), [](char c) { return c > 0x20 && c != 0x7f; });
    if (name.initiator.empty() || name.initiator.size() > longest_initiator || !printable)
        return make_error(std::errc::invalid_argument, "\"" + name.initiator +
                                                           "\" cannot name an initiator port: 1 to " +
                                                           std::to_string(longest_initiator) + " printable characters");
    if (name.target_port == 0) return make_error(std::errc::invalid_argument, "relative target ports begin at 1");
    return {};
}

std::optional<ReservationType> reservation_type(uint8_t code) {
    for (const auto& row : EnumNames<ReservationType>::table) {
        if (static_cast<uint8_t>(row.value) == code) return row.value;
    }
    return std::nullopt;
}

bool for_all_registrants(ReservationType type) {
    return type == ReservationType::write_exclusive_all_registrants ||
           type == ReservationType::exclusive_access_all_registrants;
}

bool for_registrants(ReservationType type) {
    return for_all_registrants(type) || type == ReservationType::write_exclusive_registrants_only ||
           type == ReservationType::exclusive_access_registrants_only;
}

const Registration* ReservationState::registration(const NexusName& nexus) const {
    const auto found = std::lower_bound(registrations.begin(), registrations.end(), nexus,
                                        [](const Registration& a, const NexusName& b) { return a.nexus < b; });
    return found != registrations.end() && found->nexus == nexus ? &*found : nullptr;
}

bool ReservationState::holds(const NexusName& nexus) const {
    if (!type) return false;
    return for_all_registrants(*type) ? registration(nexus) != nullptr : holder == nexus;
}

Result<void> check(const ReservationState& state) {
    const auto invalid = [](const std::string& what) {
        return make_error(std::errc::invalid_argument, "stored persistent reservations cannot be used: " + what);
    };
    for (size_t i = 0; i < state.registrations.size(); ++i) {
        const auto& registration = state.registrations[i];
        TRY(check(registration.nexus));
        if (registration.key == 0)
            return invalid("\"" + registration.nexus.initiator + "\" is registered without a key");
        if (i > 0 && state.registrations[i - 1].nexus >= registration.nexus)
            return invalid("registrations are not in order");
    }
    if (!state.type)
        return state.holder ? Result<void>(invalid("there is a holder of no reservation")) : Result<void>();
    if (!reservation_type(static_cast<uint8_t>(*state.type))) return invalid("the type is none");
    if (for_all_registrants(*state.type)) {
        if (state.holder) return invalid("a reservation of all registrants has a holder");
        if (state.registrations.empty()) return invalid("a reservation of all registrants, of whom there are none");
        return {};
    }
    if (!state.holder || state.registration(*state.holder) == nullptr) return invalid("the holder is not registered");
    return {};
}

ReservationState after_power_loss(const ReservationState& state) {
    if (!state.persists) return {.version = state.version + 1};
    ReservationState out = state;
    out.generation = 0;
    ++out.version;
    return out;
}

Standing standing_of(const ReservationState& state, const NexusName& nexus) {
    if (state.holds(nexus)) return Standing::holder;
    return state.registration(nexus) != nullptr ? Standing::registered : Standing::unregistered;
}

bool conflicts(std::optional<ReservationType> type, Standing standing, Access access) {
    if (!type || standing == Standing::holder) return false;
    if (standing == Standing::registered && for_registrants(*type)) return false;
    switch (access) {
        case Access::free:
        case Access::decides:
            return false;
        case Access::reads:
            return exclusive_access(*type);
        case Access::changes:
            return true;
    }
    __builtin_unreachable();
}

}  // namespace storctl::node::scsi
