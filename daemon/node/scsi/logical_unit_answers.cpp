// Commands that are answered at once.

#include "daemon/node/scsi/inquiry.hpp"
#include "daemon/node/scsi/logical_unit.hpp"
#include "daemon/node/scsi/reports.hpp"

namespace storctl::node::scsi {

Next LogicalUnit::answer(Task& task) {
    switch (task.row_->command) {
        case Command::test_unit_ready:
            return finish(task);
        case Command::mode_select:
            return select_mode(task);
        case Command::start_stop_unit:
            return start_or_stop(task);
        case Command::send_diagnostic:
            return diagnose(task);
        case Command::persistent_reserve_out:
            return reserve_out(task);
        case Command::request_sense:
        case Command::inquiry:
        case Command::mode_sense:
        case Command::read_capacity_10:
        case Command::read_capacity_16:
        case Command::read:
        case Command::write:
        case Command::write_and_verify:
        case Command::verify:
        case Command::pre_fetch:
        case Command::synchronize_cache:
        case Command::write_same:
        case Command::unmap:
        case Command::compare_and_write:
        case Command::get_lba_status:
        case Command::log_sense:
        case Command::persistent_reserve_in:
        case Command::report_luns:
        case Command::report_supported_operation_codes:
        case Command::report_supported_task_management_functions:
            break;
    }
    const Reply reply = reply_of(task);
    if (const auto* sense = std::get_if<Sense>(&reply)) return fail(task, *sense);
    return give(task, std::get<Bytes>(reply));
}

Reply LogicalUnit::reply_of(Task& task) {
    switch (task.row_->command) {
        case Command::request_sense:
            return request_sense(*task.nexus, task.cdb);
        case Command::inquiry:
            return inquiry(identity_, geometry_, limits_, task.nexus->name_.target_port, task.cdb);
        case Command::mode_sense:
            return mode_sense(mode_, geometry_, write_protected(task), task.cdb);
        case Command::read_capacity_10:
            return scsi::read_capacity_10(geometry_);
        case Command::read_capacity_16:
            return scsi::read_capacity_16(geometry_);
        case Command::log_sense:
            return scsi::log_sense(exception_, task.cdb);
        case Command::get_lba_status:
            return scsi::get_lba_status(geometry_, task.cdb);
        case Command::persistent_reserve_in:
            return scsi::persistent_reserve_in(reservations_, task.cdb);
        case Command::report_luns:
            return scsi::report_luns(task.cdb);
        case Command::report_supported_operation_codes:
            return scsi::report_supported_operation_codes(geometry_, limits_, task.cdb);
        case Command::report_supported_task_management_functions:
            return scsi::report_supported_task_management_functions(task.cdb);
        case Command::test_unit_ready:
        case Command::mode_select:
        case Command::start_stop_unit:
        case Command::send_diagnostic:
        case Command::read:
        case Command::write:
        case Command::write_and_verify:
        case Command::verify:
        case Command::pre_fetch:
        case Command::synchronize_cache:
        case Command::write_same:
        case Command::unmap:
        case Command::compare_and_write:
        case Command::persistent_reserve_out:
            break;
    }
    return Sense{.key = SenseKey::hardware_error, .code = AdditionalSense::internal_target_failure};
}

/// A waiting unit attention is reported in the data, with status GOOD.
Bytes LogicalUnit::request_sense(Nexus& nexus, ByteView cdb) {
    const auto format = (cdb[1] & 0x01) != 0 ? SenseFormat::descriptor : SenseFormat::fixed;  // DESC
    if (const auto attention = nexus.attentions_.take()) return encode_sense(*attention, format);
    if (stopped_)
        return encode_sense(
            {.key = SenseKey::not_ready, .code = AdditionalSense::logical_unit_not_ready_initializing_command_required},
            format);
    return encode_sense({.key = SenseKey::no_sense, .code = exception_}, format);
}

Next LogicalUnit::select_mode(Task& task) {
    const uint64_t length = shape(task.cdb).bytes;
    if (task.data.size() < length) return fail(task, illegal_request(AdditionalSense::parameter_list_length_error));
    const auto selected = mode_select(mode_, geometry_, task.cdb, octets(task.data.first(length)));
    if (const auto* sense = std::get_if<Sense>(&selected)) return fail(task, *sense);
    const auto& values = std::get<ModeValues>(selected);
    // What was written while the cache was on is not promised to be on the medium yet.
    if (mode_.write_cache && !values.write_cache && task.phase_ == Task::Phase::idle) {
        fly(task, Task::Phase::selecting);
        return block(task, BlockOperation::flush, 0, 0, nullptr, false);
    }
    if (values != mode_) tell(Attention::mode_parameters_changed, task.nexus);
    mode_ = values;
    return finish(task);
}

Next LogicalUnit::start_or_stop(Task& task) {
    const uint8_t flags = task.cdb[4];
    if ((flags & 0xf0) != 0) return fail(task, invalid_field_in_cdb(4, 7));  // POWER CONDITION
    if ((flags & 0x02) != 0) return fail(task, invalid_field_in_cdb(4, 1));  // LOEJ
    if ((flags & 0x01) != 0) {
        stopped_ = false;
        return finish(task);
    }
    if ((flags & 0x04) != 0) {  // NO_FLUSH
        stopped_ = true;
        return finish(task);
    }
    fly(task, Task::Phase::stopping);
    return block(task, BlockOperation::flush, 0, 0, nullptr, false);
}

/// The default self-test: the disk is a process that answers.
Next LogicalUnit::diagnose(Task& task) {
    if ((task.cdb[1] & 0xe0) != 0) return fail(task, invalid_field_in_cdb(1, 7));  // SELF-TEST CODE
    if (get_be16(task.cdb, 3) != 0) return fail(task, invalid_field_in_cdb(3));
    return finish(task);
}

}  // namespace storctl::node::scsi
