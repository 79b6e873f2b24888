#pragma once
// Persistent reservations as JSON: io.storctl.NodeProcess's type Reservations, which specifications, the state
// database and io.storctl.Node show as well. Pure.

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "daemon/node/scsi/reservation_state.hpp"

namespace storctl::node {

nlohmann::json reservations_json(const scsi::ReservationState& state);
/// Held together as scsi::check says; an error names the key that is wrong.
Result<scsi::ReservationState> parse_reservations(const nlohmann::json& in);

}  // namespace storctl::node
