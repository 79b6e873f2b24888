#pragma once
// PERSISTENT RESERVE IN and OUT (SPC-5) as functions from one state to an answer or to the next state. Nothing is
// stored and nobody is told here: the caller does both with what comes back.

#include <variant>
#include <vector>

#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/node/scsi/sense.hpp"
#include "daemon/node/scsi/unit_attention.hpp"

namespace storctl::node::scsi {

/// READ KEYS, READ RESERVATION, REPORT CAPABILITIES or READ FULL STATUS.
Reply persistent_reserve_in(const ReservationState& state, ByteView cdb);

struct ReservationChange {
    struct Notice {
        NexusName nexus;
        Attention attention;
    };
    ReservationState state;          ///< with the next version, or the very same: nothing is to be stored
    std::vector<Notice> notices;     ///< unit attentions for others
    std::vector<NexusName> aborted;  ///< PREEMPT AND ABORT: whose commands end
};

struct ReservationLimits {
    uint32_t registrations = 256;
    uint16_t target_ports = 1;
};

/// `parameters` has as many bytes as the CDB's parameter list length says. A Status is RESERVATION CONFLICT.
std::variant<ReservationChange, Sense, Status> persistent_reserve_out(const ReservationState& state,
                                                                      const NexusName& from,
                                                                      const ReservationLimits& limits, ByteView cdb,
                                                                      ByteView parameters);

/// What local nexuses have to be told when the state was changed elsewhere: only what the states themselves show.
std::vector<ReservationChange::Notice> notices_between(const ReservationState& before, const ReservationState& after);

}  // namespace storctl::node::scsi
