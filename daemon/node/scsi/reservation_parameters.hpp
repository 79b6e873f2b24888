#pragma once
// Parameter lists of PERSISTENT RESERVE OUT (SPC-5): the basic one, with TransportIDs behind it where SPEC_I_PT says
// so, and the one of REGISTER AND MOVE. Pure.

#include <string>
#include <variant>
#include <vector>

#include "daemon/node/scsi/sense.hpp"

namespace storctl::node::scsi {

enum class ReserveAction : uint8_t {
    register_key = 0,
    reserve = 1,
    release = 2,
    clear = 3,
    preempt = 4,
    preempt_and_abort = 5,
    register_and_ignore = 6,
    register_and_move = 7,
};

// Where field pointers point.
inline constexpr size_t basic_bytes = 24, key_at = 0, service_key_at = 8, flags_at = 20, initiators_at = 28;
inline constexpr uint8_t spec_i_pt_bit = 3, all_tg_pt_bit = 2, unregister_bit = 1;

struct ReserveParameters {
    uint64_t key = 0;
    uint64_t service_key = 0;
    bool specify_initiators = false;  // SPEC_I_PT
    bool all_target_ports = false;    // ALL_TG_PT
    bool persists = false;            // APTPL
    std::vector<std::string> initiators;
    bool unregister = false;   // REGISTER AND MOVE: UNREG
    uint16_t target_port = 0;  // REGISTER AND MOVE
};

/// Lengths have to be those that the list itself says.
std::variant<ReserveParameters, Sense> parse_reserve_parameters(ReserveAction action, ByteView bytes);

}  // namespace storctl::node::scsi
