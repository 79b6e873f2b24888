// Commands that touch the medium. Each checks its CDB against table, limits and capacity, enters its range of blocks,
// and then is a chain of operations: `first_operation` begins it, `next_operation` goes on with it after each.
//
//   READ                flush if FUA, read
//   WRITE               write
//   VERIFY              read of a piece into scratch, compare, and again
//   WRITE AND VERIFY    write with FUA, then as VERIFY
//   COMPARE AND WRITE   read into scratch, compare, write
//   WRITE SAME          zeroes or discard, flush if there is no cache; or writes of scratch
//   UNMAP               discard of each descriptor
//   SYNCHRONIZE CACHE   flush

#include <algorithm>
#include <cassert>
#include <cstring>

#include "daemon/node/scsi/logical_unit.hpp"
#include "daemon/node/scsi/medium_errors.hpp"
#include "daemon/node/scsi/medium_fields.hpp"
#include "daemon/node/scsi/reports.hpp"

namespace storctl::node::scsi {

namespace {

/// First byte where they differ, else `bytes`.
size_t first_difference(const std::byte* a, const std::byte* b, size_t bytes) {
    if (std::memcmp(a, b, bytes) == 0) return bytes;
    return static_cast<size_t>(std::mismatch(a, a + bytes, b).first - a);
}

bool all_zero(std::span<const std::byte> bytes) {
    return bytes.empty() ||
           (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

struct UnmapList {
    ByteView descriptors;  // whole ones

    size_t count() const { return descriptors.size() / 16; }
    BlockRange at(size_t index) const {
        return {get_be64(descriptors, 16 * index), get_be32(descriptors, 16 * index + 8)};
    }
};

/// `parameters` has at least its header.
UnmapList unmap_list(ByteView parameters) {
    const size_t stated = get_be16(parameters, 2);
    const size_t bytes = std::min(stated, parameters.size() - 8) / 16 * 16;
    return {parameters.subspan(8, bytes)};
}

}  // namespace

Next LogicalUnit::begin_medium(Task& task) {
    const auto command = task.row_->command;
    if (command == Command::unmap) return begin_unmap(task);
    if (command == Command::get_lba_status) return answer(task);
    task.range_ = block_range(*task.row_, task.cdb);
    if (auto sense = check_medium(task)) return fail(task, *sense);
    // GOOD, not CONDITION MET: nothing is kept for later
    if (command == Command::pre_fetch) return finish(task);
    if (command == Command::synchronize_cache) return flush_last(task);
    if (task.range_.blocks == 0) return finish(task);
    assert(task.scratch.size() >= shape(task.cdb).scratch_bytes);
    const bool exclusive =
        command == Command::compare_and_write || (command == Command::write_and_verify && byte_check(task.cdb) == 1);
    return enter_range(task, task.range_.lba, task.range_.blocks, exclusive);
}

Next LogicalUnit::begin_unmap(Task& task) {
    const uint64_t length = shape(task.cdb).bytes;
    const auto wrong_length = illegal_request(AdditionalSense::parameter_list_length_error);
    if ((task.cdb[1] & 0x01) != 0) return fail(task, invalid_field_in_cdb(1, 0));  // ANCHOR
    if (length == 0) return finish(task);
    if (length < 8 || task.data.size() < length) return fail(task, wrong_length);
    const auto list = unmap_list(octets(task.data.first(length)));
    if (list.count() > limits_.unmap_descriptors) return fail(task, invalid_field_in_parameter_list(2));
    uint64_t total = 0, first = UINT64_MAX, end = 0;
    for (size_t i = 0; i < list.count(); ++i) {
        const auto [lba, blocks] = list.at(i);
        if (lba > geometry_.blocks || blocks > geometry_.blocks - lba) return fail(task, lba_out_of_range(lba));
        if (blocks == 0) continue;
        total += blocks;
        if (total > limits_.unmap_blocks) return fail(task, invalid_field_in_parameter_list(8 + 16 * i + 8));
        first = std::min(first, lba);
        end = std::max(end, lba + blocks);
    }
    if (total == 0) return finish(task);
    return enter_range(task, first, end - first, false);
}

Next LogicalUnit::enter_range(Task& task, uint64_t first, uint64_t blocks, bool exclusive) {
    fly(task, Task::Phase::waiting_for_range);
    task.hold_.first = first;
    task.hold_.end = first + blocks;
    task.hold_.exclusive = exclusive;
    task.hold_.spares_tasks = false;
    task.hold_.owner = &task;
    return ranges_.acquire(task.hold_) ? first_operation(task) : Next::wait;
}

Next LogicalUnit::first_operation(Task& task) {
    switch (task.row_->command) {
        case Command::read:
            if (!force_unit_access(*task.row_, task.cdb)) return read_or_write(task);
            task.phase_ = Task::Phase::flushing_first;
            return block(task, BlockOperation::flush, 0, 0, nullptr, false);
        case Command::write:
        case Command::write_and_verify:
            return read_or_write(task);
        case Command::verify:
            return verify_piece(task);
        case Command::compare_and_write:
            task.phase_ = Task::Phase::comparing;
            return block(task, BlockOperation::read, 0, medium_bytes(task), task.scratch.data(), false);
        case Command::write_same:
            return begin_write_same(task);
        case Command::unmap:
            task.range_.lba = 0;
            return unmap_piece(task);
        case Command::pre_fetch:
        case Command::synchronize_cache:
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
            break;
    }
    return fail(task, {.key = SenseKey::hardware_error, .code = AdditionalSense::internal_target_failure});
}

/// The operation before has done all of its bytes.
Next LogicalUnit::next_operation(Task& task) {
    switch (task.phase_) {
        case Task::Phase::flushing_first:
            return read_or_write(task);
        case Task::Phase::transferring:
            if (task.row_->command == Command::read) task.data_in_bytes = task.operation.length;
            return task.row_->command == Command::write_and_verify ? verify_piece(task) : finish(task);
        case Task::Phase::verifying:
            return verified_piece(task);
        case Task::Phase::comparing:
            return compared(task);
        case Task::Phase::filling:
            task.done_ += task.operation.length;
            return task.done_ < medium_bytes(task) ? fill_piece(task) : finish(task);
        case Task::Phase::clearing:
            return mode_.write_cache ? finish(task) : flush_last(task);
        case Task::Phase::unmapping:
            return unmap_piece(task);
        case Task::Phase::stopping:
            stopped_ = true;
            return finish(task);
        case Task::Phase::selecting:
            return select_mode(task);
        case Task::Phase::writing:
        case Task::Phase::flushing_last:
            return finish(task);
        case Task::Phase::idle:
        case Task::Phase::waiting_for_range:
        case Task::Phase::waiting_to_reserve:
        case Task::Phase::storing:
        case Task::Phase::draining:
            break;
    }
    return fail(task, {.key = SenseKey::hardware_error, .code = AdditionalSense::internal_target_failure});
}

Next LogicalUnit::operation_failed(Task& task, int64_t result) {
    const bool unsupported = result == -EOPNOTSUPP;
    if (unsupported && task.phase_ == Task::Phase::unmapping)
        return unmap_piece(task);  // SBC-4: may leave blocks mapped
    if (unsupported && task.phase_ == Task::Phase::clearing && task.operation.kind == BlockOperation::discard)
        return block(task, BlockOperation::write_zeroes, 0, medium_bytes(task), nullptr, false);
    const auto failure = failure_of(result, task.operation.kind, task.operation.offset / geometry_.block_bytes);
    if (const auto* status = std::get_if<Status>(&failure)) return finish(task, *status);
    return fail(task, std::get<Sense>(failure));
}

Next LogicalUnit::read_or_write(Task& task) {
    task.phase_ = Task::Phase::transferring;
    if (task.row_->command == Command::read) {
        // What the initiator has no room for is not read.
        const uint64_t bytes = std::min<uint64_t>(medium_bytes(task), task.data.size());
        if (bytes == 0) return finish(task);
        return block(task, BlockOperation::read, 0, bytes, task.data.data(), false);
    }
    const bool durable = task.row_->command == Command::write_and_verify || force_unit_access(*task.row_, task.cdb) ||
                         !mode_.write_cache;
    return block(task, BlockOperation::write, 0, medium_bytes(task), task.data.data(), durable);
}

uint64_t LogicalUnit::scratch_piece(const Task& task) const {
    const uint64_t room = task.scratch.size() / geometry_.block_bytes * geometry_.block_bytes;
    return std::min(medium_bytes(task) - task.done_, room);
}

Next LogicalUnit::verify_piece(Task& task) {
    task.phase_ = Task::Phase::verifying;
    return block(task, BlockOperation::read, task.done_, scratch_piece(task), task.scratch.data(), false);
}

Next LogicalUnit::verified_piece(Task& task) {
    const size_t bytes = task.operation.length, block_bytes = geometry_.block_bytes;
    const uint8_t check = byte_check(task.cdb);
    size_t same = bytes;
    if (check == 1) same = first_difference(task.scratch.data(), task.data.data() + task.done_, bytes);
    if (check == 3) {
        for (size_t at = 0; at < bytes && same == bytes; at += block_bytes) {
            const size_t in_block = first_difference(task.scratch.data() + at, task.data.data(), block_bytes);
            if (in_block < block_bytes) same = at + in_block;
        }
    }
    if (same < bytes)
        return fail(task, {.key = SenseKey::miscompare,
                           .code = AdditionalSense::miscompare_during_verify_operation,
                           .information = task.range_.lba + (task.done_ + same) / block_bytes});
    task.done_ += bytes;
    return task.done_ < medium_bytes(task) ? verify_piece(task) : finish(task);
}

/// COMPARE AND WRITE: the blocks are in scratch. The data to write go there too, where they are aligned for the
/// backend.
Next LogicalUnit::compared(Task& task) {
    const uint64_t bytes = medium_bytes(task);
    const size_t same = first_difference(task.scratch.data(), task.data.data(), bytes);
    if (same < bytes)
        return fail(task, {.key = SenseKey::miscompare,
                           .code = AdditionalSense::miscompare_during_verify_operation,
                           .information = same});  // SBC-4: offset in the data-out buffer
    std::memcpy(task.scratch.data(), task.data.data() + bytes, bytes);
    task.phase_ = Task::Phase::writing;
    return block(task, BlockOperation::write, 0, bytes, task.scratch.data(),
                 force_unit_access(*task.row_, task.cdb) || !mode_.write_cache);
}

Next LogicalUnit::begin_write_same(Task& task) {
    const size_t block_bytes = geometry_.block_bytes;
    if (no_data_out(*task.row_, task.cdb) || all_zero(task.data.first(block_bytes))) {
        task.phase_ = Task::Phase::clearing;
        return block(task, unmaps(task.cdb) ? BlockOperation::discard : BlockOperation::write_zeroes, 0,
                     medium_bytes(task), nullptr, false);
    }
    const uint64_t bytes = scratch_piece(task);
    for (uint64_t at = 0; at < bytes; at += block_bytes)
        std::memcpy(task.scratch.data() + at, task.data.data(), block_bytes);
    return fill_piece(task);
}

Next LogicalUnit::fill_piece(Task& task) {
    task.phase_ = Task::Phase::filling;
    return block(task, BlockOperation::write, task.done_, scratch_piece(task), task.scratch.data(), !mode_.write_cache);
}

/// `done_` counts descriptors.
Next LogicalUnit::unmap_piece(Task& task) {
    task.phase_ = Task::Phase::unmapping;
    const auto list = unmap_list(octets(task.data.first(shape(task.cdb).bytes)));
    while (task.done_ < list.count()) {
        const auto [lba, blocks] = list.at(task.done_++);
        if (blocks == 0) continue;
        return block(task, BlockOperation::discard, lba * geometry_.block_bytes,
                     uint64_t{blocks} * geometry_.block_bytes, nullptr, false);
    }
    return finish(task);
}

Next LogicalUnit::flush_last(Task& task) {
    fly(task, Task::Phase::flushing_last);
    return block(task, BlockOperation::flush, 0, 0, nullptr, false);
}

/// `first_byte` counts from the command's first block; a flush is of everything. The disk may have become smaller since
/// the command began.
Next LogicalUnit::block(Task& task, BlockOperation kind, uint64_t first_byte, uint64_t length, std::byte* data,
                        bool durable) {
    const uint64_t base = kind == BlockOperation::flush ? 0 : task.range_.lba * geometry_.block_bytes;
    if (base + first_byte + length > geometry_.blocks * geometry_.block_bytes)
        return fail(task, lba_out_of_range(geometry_.blocks));
    task.operation = {.kind = kind, .fua = durable, .offset = base + first_byte, .length = length, .data = data};
    return Next::block;
}

}  // namespace storctl::node::scsi
