#include "daemon/node/scsi/commands.hpp"

namespace storctl::node::scsi {

namespace {

using enum Command;
using A = Access;
using D = Direction;
constexpr std::nullopt_t none = std::nullopt;

constexpr CommandRow table[] = {
    {test_unit_ready, 0x00, none, A::free, D::none, false, 6, {0x00}},
    {request_sense, 0x03, none, A::free, D::in, false, 6, {0x03, 0x01, 0, 0, 0xff}},
    {read, 0x08, none, A::reads, D::in, true, 6, {0x08, 0x1f, 0xff, 0xff, 0xff}},
    {write, 0x0a, none, A::changes, D::out, true, 6, {0x0a, 0x1f, 0xff, 0xff, 0xff}},
    {inquiry, 0x12, none, A::free, D::in, false, 6, {0x12, 0x01, 0xff, 0xff, 0xff}},
    {mode_select, 0x15, none, A::changes, D::out, false, 6, {0x15, 0x11, 0, 0, 0xff}},
    {mode_sense, 0x1a, none, A::reads, D::in, false, 6, {0x1a, 0x08, 0xff, 0xff, 0xff}},
    {start_stop_unit, 0x1b, none, A::changes, D::none, false, 6, {0x1b, 0x01, 0, 0, 0xf7}},
    {send_diagnostic, 0x1d, none, A::changes, D::none, false, 6, {0x1d, 0xf7, 0, 0xff, 0xff}},
    {read_capacity_10, 0x25, none, A::free, D::in, false, 10, {0x25}},
    {read, 0x28, none, A::reads, D::in, true, 10, {0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {write, 0x2a, none, A::changes, D::out, true, 10, {0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {write_and_verify, 0x2e, none, A::changes, D::out, true, 10, {0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {verify, 0x2f, none, A::reads, D::out, true, 10, {0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {pre_fetch, 0x34, none, A::reads, D::none, true, 10, {0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {synchronize_cache, 0x35, none, A::changes, D::none, true, 10, {0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {write_same, 0x41, none, A::changes, D::out, true, 10, {0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff}},
    {unmap, 0x42, none, A::changes, D::out, true, 10, {0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {log_sense, 0x4d, none, A::free, D::in, false, 10, {0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff}},
    {mode_select, 0x55, none, A::changes, D::out, false, 10, {0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {mode_sense, 0x5a, none, A::reads, D::in, false, 10, {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff}},
    // READ KEYS, READ RESERVATION, REPORT CAPABILITIES, READ FULL STATUS
    {persistent_reserve_in, 0x5e, 0x00, A::free, D::in, false, 10, {0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {persistent_reserve_in, 0x5e, 0x01, A::free, D::in, false, 10, {0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {persistent_reserve_in, 0x5e, 0x02, A::free, D::in, false, 10, {0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff}},
    {persistent_reserve_in, 0x5e, 0x03, A::free, D::in, false, 10, {0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff}},
    // REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT AND ABORT, REGISTER AND IGNORE EXISTING KEY, REGISTER AND
    // MOVE
    {persistent_reserve_out, 0x5f, 0x00, A::decides, D::out, false, 10, {0x5f, 0x00, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out,
     0x5f,
     0x01,
     A::decides,
     D::out,
     false,
     10,
     {0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out,
     0x5f,
     0x02,
     A::decides,
     D::out,
     false,
     10,
     {0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out, 0x5f, 0x03, A::decides, D::out, false, 10, {0x5f, 0x03, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out,
     0x5f,
     0x04,
     A::decides,
     D::out,
     false,
     10,
     {0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out,
     0x5f,
     0x05,
     A::decides,
     D::out,
     false,
     10,
     {0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out, 0x5f, 0x06, A::decides, D::out, false, 10, {0x5f, 0x06, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {persistent_reserve_out, 0x5f, 0x07, A::decides, D::out, false, 10, {0x5f, 0x07, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {read,
     0x88,
     none,
     A::reads,
     D::in,
     true,
     16,
     {0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {compare_and_write,
     0x89,
     none,
     A::changes,
     D::out,
     true,
     16,
     {0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff}},
    {write,
     0x8a,
     none,
     A::changes,
     D::out,
     true,
     16,
     {0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {write_and_verify,
     0x8e,
     none,
     A::changes,
     D::out,
     true,
     16,
     {0x8e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {verify,
     0x8f,
     none,
     A::reads,
     D::out,
     true,
     16,
     {0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {pre_fetch,
     0x90,
     none,
     A::reads,
     D::none,
     true,
     16,
     {0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {synchronize_cache,
     0x91,
     none,
     A::changes,
     D::none,
     true,
     16,
     {0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {write_same,
     0x93,
     none,
     A::changes,
     D::out,
     true,
     16,
     {0x93, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {read_capacity_16,
     0x9e,
     0x10,
     A::free,
     D::in,
     false,
     16,
     {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {get_lba_status,
     0x9e,
     0x12,
     A::reads,
     D::in,
     true,
     16,
     {0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {report_luns, 0xa0, none, A::free, D::in, false, 12, {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {report_supported_operation_codes,
     0xa3,
     0x0c,
     A::reads,
     D::in,
     false,
     12,
     {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {report_supported_task_management_functions,
     0xa3,
     0x0d,
     A::reads,
     D::in,
     false,
     12,
     {0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    {read, 0xa8, none, A::reads, D::in, true, 12, {0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {write, 0xaa, none, A::changes, D::out, true, 12, {0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {write_and_verify,
     0xae,
     none,
     A::changes,
     D::out,
     true,
     12,
     {0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
    {verify, 0xaf, none, A::reads, D::out, true, 12, {0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
};

constexpr bool sorted() {
    for (size_t i = 1; i < std::size(table); ++i) {
        const auto &before = table[i - 1], &row = table[i];
        if (before.opcode > row.opcode) return false;
        if (before.opcode == row.opcode && before.service_action >= row.service_action) return false;
    }
    return true;
}
static_assert(sorted(), "the rows stand in the order in which they are reported");

/// First row of each opcode, so that a command is found without a search; -1: none.
constexpr auto first_rows = [] {
    std::array<int8_t, 256> out{};
    for (auto& first : out) first = -1;
    for (size_t i = std::size(table); i-- > 0;) out[table[i].opcode] = static_cast<int8_t>(i);
    return out;
}();

}  // namespace

std::span<const CommandRow> all_commands() { return table; }

bool offered(const CommandRow& row, const Geometry& geometry) { return row.command != unmap || geometry.thin; }

bool opcode_has_service_actions(uint8_t opcode) {
    const int first = first_rows[opcode];
    return first >= 0 && table[first].service_action.has_value();
}

Lookup find_command(ByteView cdb, const Geometry& geometry) {
    if (cdb.empty() || first_rows[cdb[0]] < 0) return {};
    const CommandRow* row = &table[first_rows[cdb[0]]];
    if (!row->service_action) {
        if (!offered(*row, geometry)) return {};
        return {row, Known::yes};
    }
    if (cdb.size() < 2) return {nullptr, Known::not_this_service_action};
    for (; row != std::end(table) && row->opcode == cdb[0]; ++row) {
        if (row->service_action == (cdb[1] & 0x1f)) return {row, Known::yes};
    }
    return {nullptr, Known::not_this_service_action};
}

Access access_of(const CommandRow& row, ByteView cdb) {
    if (row.command == start_stop_unit && (cdb[4] & 0xf1) == 0x01) return Access::free;
    return row.access;
}

BlockRange block_range(const CommandRow& row, ByteView cdb) {
    switch (row.length) {
        case 6:
            return {get_be(cdb, 1, 3) & 0x1fffff, cdb[4] == 0 ? 256u : cdb[4]};
        case 10:
            return {get_be32(cdb, 2), get_be16(cdb, 7)};
        case 12:
            return {get_be32(cdb, 2), get_be32(cdb, 6)};
        default:
            break;
    }
    if (row.command == compare_and_write) return {get_be64(cdb, 2), cdb[13]};
    return {get_be64(cdb, 2), get_be32(cdb, 10)};
}

size_t length_field(const CommandRow& row) {
    if (row.command == compare_and_write) return 13;
    switch (row.length) {
        case 6:
            return 4;
        case 10:
            return 7;
        case 12:
            return 6;
        default:
            return 10;
    }
}

}  // namespace storctl::node::scsi
