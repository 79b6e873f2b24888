// PERSISTENT RESERVE OUT: one at a time is decided, stored and made known; commands that come meanwhile see the state
// from before, others of its kind wait. PREEMPT AND ABORT is answered when the commands that it aborted have ended.

#include <algorithm>
#include <cerrno>

#include "daemon/node/scsi/logical_unit.hpp"

namespace storctl::node::scsi {

Next LogicalUnit::reserve_out(Task& task) {
    if (reserving_ != nullptr && reserving_ != &task) {
        fly(task, Task::Phase::waiting_to_reserve);
        return Next::wait;
    }
    const uint64_t length = get_be32(task.cdb, 5);
    if (length > shape(task.cdb).bytes || task.data.size() < length)
        return fail(task, illegal_request(AdditionalSense::parameter_list_length_error));
    auto outcome =
        persistent_reserve_out(reservations_, task.nexus->name_,
                               {.registrations = limits_.registrations, .target_ports = identity_.target_ports},
                               task.cdb, octets(task.data.first(length)));
    if (const auto* sense = std::get_if<Sense>(&outcome)) return fail(task, *sense);
    if (const auto* status = std::get_if<Status>(&outcome)) return finish(task, *status);
    task.change_ = std::get<ReservationChange>(std::move(outcome));
    if (task.change_.state.version == reservations_.version) return finish(task);
    fly(task, Task::Phase::storing);
    reserving_ = &task;
    task.proposed = &task.change_.state;
    return Next::store;
}

Next LogicalUnit::stored(Task& task, int64_t result) {
    task.proposed = nullptr;
    if (result == -ESTALE && !task.aborted_) return reserve_out(task);
    if (result == -ESTALE) return finish(task, Status::task_aborted);
    if (result == -EBUSY) return finish(task, Status::busy);
    if (result < 0)
        return fail(task, {.key = SenseKey::hardware_error, .code = AdditionalSense::internal_target_failure});
    commit(std::move(task.change_.state), task.change_.notices);
    if (task.aborted_) return finish(task, Status::task_aborted);
    return abort_others(task);
}

void LogicalUnit::commit(ReservationState state, const std::vector<ReservationChange::Notice>& notices) {
    reservations_ = std::move(state);
    for (const auto& weak : nexuses_) {
        const auto nexus = weak.lock();
        if (!nexus) continue;
        nexus->standing_ = standing_of(reservations_, nexus->name_);
        for (const auto& notice : notices) {
            if (notice.nexus == nexus->name_) nexus->attentions_.establish(notice.attention);
        }
    }
}

Next LogicalUnit::abort_others(Task& task) {
    const auto& aborted = task.change_.aborted;
    if (aborted.empty()) return finish(task);
    task.phase_ = Task::Phase::draining;
    for (Task* other = in_flight_; other != nullptr; other = other->next_) {
        if (other != &task && std::find(aborted.begin(), aborted.end(), other->nexus->name_) != aborted.end())
            abort(*other);
    }
    // also what they have under way on other paths, where nothing is once these are shut out from the whole disk
    task.hold_.first = 0;
    task.hold_.end = UINT64_MAX;
    task.hold_.exclusive = task.hold_.spares_tasks = true;
    task.hold_.owner = &task;
    ranges_.acquire(task.hold_);
    return drained(task) ? finish(task) : Next::wait;
}

bool LogicalUnit::drained(const Task& task) const { return RangeLocks::is_granted(task.hold_) && !aborting(); }

/// Something in flight is still to end because it was aborted.
bool LogicalUnit::aborting() const {
    for (const Task* task = in_flight_; task != nullptr; task = task->next_) {
        if (task != reserving_ && task->aborted_) return true;
    }
    return false;
}

Result<void> LogicalUnit::adopt(ReservationState state) {
    TRY(check(state));
    const auto notices = notices_between(reservations_, state);
    commit(std::move(state), notices);
    return {};
}

}  // namespace storctl::node::scsi
