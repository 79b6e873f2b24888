// What is wrong with the CDB of a command that touches the medium: flags first, then the range of blocks, then lengths.

#include "daemon/node/scsi/logical_unit.hpp"
#include "daemon/node/scsi/medium_fields.hpp"

namespace storctl::node::scsi {

std::optional<Sense> LogicalUnit::check_flags(const Task& task) const {
    const auto& cdb = task.cdb;
    const bool protects = task.row_->length != 6;
    switch (task.row_->command) {
        case Command::read:
        case Command::write:
        case Command::compare_and_write:
            break;
        case Command::write_and_verify:
            if (byte_check(cdb) >= 2) return invalid_field_in_cdb(1, 2);
            break;
        case Command::verify:
            if (byte_check(cdb) == 2) return invalid_field_in_cdb(1, 2);
            break;
        case Command::write_same:
            if ((cdb[1] & 0x10) != 0) return invalid_field_in_cdb(1, 4);  // ANCHOR
            if (unmaps(cdb) && !geometry_.thin) return invalid_field_in_cdb(1, 3);
            if ((cdb[1] & 0x06) != 0) return invalid_field_in_cdb(1, (cdb[1] & 0x04) != 0 ? 2 : 1);  // PBDATA, LBDATA
            break;
        case Command::pre_fetch:
        case Command::synchronize_cache:
        case Command::unmap:
        case Command::get_lba_status:
        case Command::test_unit_ready:
        case Command::request_sense:
        case Command::inquiry:
        case Command::mode_select:
        case Command::mode_sense:
        case Command::start_stop_unit:
        case Command::send_diagnostic:
        case Command::read_capacity_10:
        case Command::read_capacity_16:
        case Command::log_sense:
        case Command::persistent_reserve_in:
        case Command::persistent_reserve_out:
        case Command::report_luns:
        case Command::report_supported_operation_codes:
        case Command::report_supported_task_management_functions:
            return std::nullopt;
    }
    // RDPROTECT, WRPROTECT, VRPROTECT: the medium has no protection information
    if (protects && (cdb[1] & 0xe0) != 0) return invalid_field_in_cdb(1, 7);
    return std::nullopt;
}

std::optional<Sense> LogicalUnit::check_length(const Task& task) const {
    const uint64_t blocks = task.range_.blocks;
    const auto too_long = invalid_field_in_cdb(length_field(*task.row_));
    const auto command = task.row_->command;
    if (command == Command::compare_and_write && blocks > limits_.compare_blocks) return too_long;
    // WSNZ, MAXIMUM WRITE SAME LENGTH
    if (command == Command::write_same && (blocks == 0 || blocks > limits_.write_same_blocks)) return too_long;
    const bool transfers = command == Command::read || command == Command::write ||
                           command == Command::write_and_verify ||
                           (command == Command::verify && byte_check(task.cdb) == 1);
    if (transfers && medium_bytes(task) > limits_.transfer_bytes) return too_long;
    const auto wanted = shape(task.cdb);
    if (wanted.direction == Direction::out && task.data.size() < wanted.bytes)
        return too_long;  // less came than the CDB says
    return std::nullopt;
}

std::optional<Sense> LogicalUnit::check_medium(const Task& task) const {
    if (auto sense = check_flags(task)) return sense;
    const auto& [lba, blocks] = task.range_;
    if (lba >= geometry_.blocks) return lba_out_of_range(lba);
    if (blocks > geometry_.blocks - lba) return lba_out_of_range(geometry_.blocks);
    return check_length(task);
}

}  // namespace storctl::node::scsi
