// How much data a CDB moves: allocation lengths, parameter list lengths and blocks, within the limits.

#include <algorithm>

#include "daemon/node/scsi/logical_unit.hpp"
#include "daemon/node/scsi/medium_fields.hpp"

namespace storctl::node::scsi {

namespace {

constexpr uint64_t longest_parameter_list = 64 << 10, longest_answer = 128 << 10;

/// Of commands that do not move blocks: allocation length, or parameter list length.
uint64_t stated_length(const CommandRow& row, ByteView cdb) {
    switch (row.command) {
        case Command::inquiry:
            return get_be16(cdb, 3);
        case Command::request_sense:
            return cdb[4];
        case Command::mode_select:
        case Command::mode_sense:
            return row.length == 6 ? cdb[4] : get_be16(cdb, 7);
        case Command::unmap:
        case Command::log_sense:
        case Command::persistent_reserve_in:
            return get_be16(cdb, 7);
        case Command::persistent_reserve_out:
            return std::min<uint64_t>(get_be32(cdb, 5), longest_parameter_list + 1);
        case Command::read_capacity_10:
            return 8;
        case Command::read_capacity_16:
        case Command::get_lba_status:
            return std::min<uint64_t>(get_be32(cdb, 10), longest_answer);
        case Command::report_luns:
        case Command::report_supported_operation_codes:
        case Command::report_supported_task_management_functions:
            return std::min<uint64_t>(get_be32(cdb, 6), longest_answer);
        case Command::test_unit_ready:
        case Command::start_stop_unit:
        case Command::send_diagnostic:
        case Command::read:
        case Command::write:
        case Command::write_and_verify:
        case Command::verify:
        case Command::pre_fetch:
        case Command::synchronize_cache:
        case Command::write_same:
        case Command::compare_and_write:
            return 0;
    }
    __builtin_unreachable();
}

}  // namespace

Shape LogicalUnit::shape(ByteView cdb) const {
    const CommandRow* row = find_command(cdb, geometry_).row;
    if (row == nullptr || cdb.size() < row->length) return {};
    const uint64_t block = geometry_.block_bytes;
    const auto transfer = [&](Direction direction, uint64_t bytes) {
        return bytes > limits_.transfer_bytes ? Shape{} : Shape{.direction = direction, .bytes = bytes};
    };
    const auto scratch = [&](uint64_t bytes) {
        return std::min<uint64_t>(bytes, limits_.scratch_bytes / block * block);
    };
    const uint8_t check = byte_check(cdb);
    const auto range = block_range(*row, cdb);
    const uint64_t bytes = range.blocks * block;  // at most 32 bits of blocks of 64 KiB
    switch (row->command) {
        case Command::read:
            return transfer(Direction::in, bytes);
        case Command::write:
            return transfer(Direction::out, bytes);
        case Command::write_and_verify: {
            auto out = transfer(Direction::out, bytes);
            out.scratch_bytes = scratch(out.bytes);
            return out;
        }
        case Command::verify: {
            if (check == 2) return {};
            if (check == 0) return {.scratch_bytes = scratch(bytes)};
            auto out = transfer(Direction::out, check == 1 ? bytes : block);
            out.scratch_bytes = out.bytes == 0 ? 0 : scratch(bytes);
            return out;
        }
        case Command::write_same: {
            if (no_data_out(*row, cdb)) return {};
            return {.direction = Direction::out, .bytes = block, .scratch_bytes = scratch(bytes)};
        }
        case Command::compare_and_write:
            if (range.blocks > limits_.compare_blocks) return {};
            return {.direction = Direction::out, .bytes = 2 * bytes, .scratch_bytes = bytes};
        case Command::test_unit_ready:
        case Command::request_sense:
        case Command::inquiry:
        case Command::mode_select:
        case Command::mode_sense:
        case Command::start_stop_unit:
        case Command::send_diagnostic:
        case Command::read_capacity_10:
        case Command::read_capacity_16:
        case Command::pre_fetch:
        case Command::synchronize_cache:
        case Command::unmap:
        case Command::get_lba_status:
        case Command::log_sense:
        case Command::persistent_reserve_in:
        case Command::persistent_reserve_out:
        case Command::report_luns:
        case Command::report_supported_operation_codes:
        case Command::report_supported_task_management_functions:
            break;
    }
    return {.direction = row->direction, .bytes = stated_length(*row, cdb)};
}

}  // namespace storctl::node::scsi
