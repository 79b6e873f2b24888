#pragma once
// The commands of the emulated disk as one table: CDB layouts for REPORT SUPPORTED OPERATION CODES, lengths, direction
// of data, and what a persistent reservation of somebody else's leaves of each (SPC-5 and SBC-4: the tables "Commands
// that are allowed in the presence of various reservations"). Pure.

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "daemon/node/scsi/bytes.hpp"
#include "daemon/node/scsi/identity.hpp"

namespace storctl::node::scsi {

enum class Command : uint8_t {
    test_unit_ready,
    request_sense,
    inquiry,
    mode_select,
    mode_sense,
    start_stop_unit,
    send_diagnostic,
    read_capacity_10,
    read_capacity_16,
    read,
    write,
    write_and_verify,
    verify,
    pre_fetch,
    synchronize_cache,
    write_same,
    unmap,
    compare_and_write,
    get_lba_status,
    log_sense,
    persistent_reserve_in,
    persistent_reserve_out,
    report_luns,
    report_supported_operation_codes,
    report_supported_task_management_functions,
};

enum class Direction : uint8_t { none, in, out };

/// What a command does as far as reservations are concerned.
enum class Access : uint8_t {
    free,     ///< allowed to everybody
    reads,    ///< in conflict with Exclusive Access
    changes,  ///< in conflict with Write Exclusive and Exclusive Access
    decides,  ///< PERSISTENT RESERVE OUT: its service actions look for themselves
};

struct CommandRow {
    Command command;
    uint8_t opcode;
    std::optional<uint8_t> service_action;
    Access access;
    Direction direction;
    bool touches_medium;
    uint8_t length;  ///< of the CDB
    std::array<uint8_t, 16>
        usage;  ///< SPC-5 "CDB usage data": opcode and service action as they are, else the bits used
};

std::span<const CommandRow> all_commands();

enum class Known : uint8_t { yes, not_this_service_action, no };

/// The row of a CDB by its opcode and service action, whatever its length; null: `known` says what is wrong.
struct Lookup {
    const CommandRow* row = nullptr;
    Known known = Known::no;
};
Lookup find_command(ByteView cdb, const Geometry& geometry);
/// The same for an opcode and a service action by themselves (REPORT SUPPORTED OPERATION CODES).
bool opcode_has_service_actions(uint8_t opcode);
/// UNMAP is a command of thin disks only.
bool offered(const CommandRow& row, const Geometry& geometry);

/// As the row says, except for START STOP UNIT, of which starting alone is free.
Access access_of(const CommandRow& row, ByteView cdb);

/// LBA and length of the block commands, by the length of the CDB (SBC-4). READ(6)'s length 0 is 256.
struct BlockRange {
    uint64_t lba = 0;
    uint64_t blocks = 0;
};
BlockRange block_range(const CommandRow& row, ByteView cdb);
/// Where the length stands: for field pointers.
size_t length_field(const CommandRow& row);

}  // namespace storctl::node::scsi
