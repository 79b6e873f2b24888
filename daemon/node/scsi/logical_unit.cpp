#include "daemon/node/scsi/logical_unit.hpp"

#include <algorithm>
#include <cassert>

namespace storctl::node::scsi {

namespace {

/// SAM-5 "Unit attention conditions": these neither wait for nor end one. (REQUEST SENSE reports it in its data.)
bool spares_attentions(const CommandRow* row) {
    return row != nullptr && (row->command == Command::inquiry || row->command == Command::report_luns ||
                              row->command == Command::request_sense);
}

bool changes_medium(Command command) {
    return command == Command::write || command == Command::write_and_verify || command == Command::write_same ||
           command == Command::unmap || command == Command::compare_and_write;
}

/// Only read and write tell how far they came.
bool carried_out(const Operation& operation, int64_t result) {
    if (result < 0) return false;
    const bool moves_data = operation.kind == BlockOperation::read || operation.kind == BlockOperation::write;
    return !moves_data || static_cast<uint64_t>(result) == operation.length;
}

}  // namespace

Result<std::unique_ptr<LogicalUnit>> LogicalUnit::make(UnitConfiguration configuration) {
    TRY(check(configuration.identity, configuration.geometry, configuration.limits));
    TRY(check(configuration.reservations));
    return std::unique_ptr<LogicalUnit>(new LogicalUnit(std::move(configuration)));
}

LogicalUnit::LogicalUnit(UnitConfiguration configuration)
    : identity_(std::move(configuration.identity)),
      geometry_(configuration.geometry),
      limits_(configuration.limits),
      mode_(default_mode_values(geometry_)),
      reservations_(std::move(configuration.reservations)) {}

Result<std::shared_ptr<Nexus>> LogicalUnit::attach(const NexusName& name, NexusOptions options) {
    TRY(check(name));
    if (name.target_port > identity_.target_ports)
        return make_error(std::errc::invalid_argument, "there is no target port " + std::to_string(name.target_port));
    std::erase_if(nexuses_, [](const std::weak_ptr<Nexus>& nexus) { return nexus.expired(); });
    for (const auto& weak : nexuses_) {
        if (auto nexus = weak.lock(); nexus && nexus->name_ == name) return nexus;
    }
    std::shared_ptr<Nexus> nexus(new Nexus(name));
    nexus->standing_ = standing_of(reservations_, name);
    if (options.power_on) nexus->attentions_.establish(Attention::power_on);
    nexuses_.push_back(nexus);
    return nexus;
}

Next LogicalUnit::start(Task& task) {
    assert(task.nexus != nullptr && task.phase_ == Task::Phase::idle);
    task.status = Status::good;
    task.data_in_bytes = 0;
    task.sense.clear();
    task.aborted_ = false;
    task.done_ = 0;

    const auto [row, known] = find_command(task.cdb, geometry_);
    task.row_ = row;
    if (!spares_attentions(row)) {
        if (const auto attention = task.nexus->attentions_.take()) return fail(task, *attention);
    }
    switch (known) {
        case Known::yes:
            break;
        case Known::not_this_service_action:
            return fail(task, invalid_field_in_cdb(1, 4));
        case Known::no:
            return fail(task, illegal_request(AdditionalSense::invalid_command_operation_code));
    }
    if (task.cdb.size() < row->length) return fail(task, invalid_field_in_cdb(task.cdb.size()));
    const size_t control = row->length - 1u;
    if ((task.cdb[control] & 0x04) != 0) return fail(task, invalid_field_in_cdb(control, 2));  // NACA
    if (conflicts(reservations_.type, task.nexus->standing_, access_of(*row, task.cdb)))
        return finish(task, Status::reservation_conflict);
    if (stopped_ && (row->touches_medium || row->command == Command::test_unit_ready))
        return fail(task, {.key = SenseKey::not_ready,
                           .code = AdditionalSense::logical_unit_not_ready_initializing_command_required});
    if (const auto sense = protected_from(task, access_of(*row, task.cdb))) return fail(task, *sense);
    return row->touches_medium ? begin_medium(task) : answer(task);
}

Next LogicalUnit::resume(Task& task, int64_t result) {
    // A stored change has happened, whoever was aborted meanwhile.
    if (task.phase_ == Task::Phase::storing) return stored(task, result);
    if (task.aborted_) return finish(task, Status::task_aborted);
    switch (task.phase_) {
        case Task::Phase::idle:
        case Task::Phase::storing:
            break;
        case Task::Phase::waiting_for_range:
            return first_operation(task);
        case Task::Phase::waiting_to_reserve:
            return reserve_out(task);
        case Task::Phase::draining:
            return drained(task) ? finish(task) : Next::wait;
        case Task::Phase::flushing_first:
        case Task::Phase::transferring:
        case Task::Phase::verifying:
        case Task::Phase::comparing:
        case Task::Phase::writing:
        case Task::Phase::filling:
        case Task::Phase::clearing:
        case Task::Phase::unmapping:
        case Task::Phase::flushing_last:
        case Task::Phase::stopping:
        case Task::Phase::selecting:
            if (!carried_out(task.operation, result)) return operation_failed(task, result);
            return next_operation(task);
    }
    assert(!"a task that is not in flight was resumed");
    __builtin_unreachable();
}

Task* LogicalUnit::take_ready() {
    Task* task = ready_;
    if (task == nullptr) return nullptr;
    ready_ = task->next_ready_;
    if (ready_ == nullptr) last_ready_ = nullptr;
    task->next_ready_ = nullptr;
    task->ready_ = false;
    return task;
}

void LogicalUnit::resize(uint64_t blocks) {
    if (blocks == geometry_.blocks || blocks == 0) return;
    geometry_.blocks = blocks;
    tell(Attention::capacity_changed);
}

void LogicalUnit::change_identity(Identity identity) {
    if (identity == identity_) return;
    identity_ = std::move(identity);
    tell(Attention::inquiry_changed);
}

void LogicalUnit::reset() {
    for (Task* task = in_flight_; task != nullptr; task = task->next_) abort(*task);
    mode_ = default_mode_values(geometry_);
    stopped_ = false;
    tell(Attention::bus_device_reset);
}

void LogicalUnit::tell(Attention attention, const Nexus* but) {
    for (const auto& weak : nexuses_) {
        if (auto nexus = weak.lock(); nexus && nexus.get() != but) nexus->attentions_.establish(attention);
    }
}

bool LogicalUnit::write_protected(const Task& task) const {
    return geometry_.read_only || mode_.software_write_protect || !task.writable;
}

/// Whoever only reads changes neither the medium nor what others meet: modes, reservations, a stop.
std::optional<Sense> LogicalUnit::protected_from(const Task& task, Access access) const {
    const CommandRow& row = *task.row_;
    const bool harmless = row.command == Command::synchronize_cache || row.command == Command::send_diagnostic;
    const bool changes = (access == Access::changes || access == Access::decides) && !harmless;
    if (changes && (!task.writable || (geometry_.read_only && changes_medium(row.command))))
        return Sense{.key = SenseKey::data_protect, .code = AdditionalSense::write_protected};
    if (mode_.software_write_protect && changes_medium(row.command))
        return Sense{.key = SenseKey::data_protect, .code = AdditionalSense::logical_unit_software_write_protected};
    return std::nullopt;
}

void LogicalUnit::fly(Task& task, Task::Phase phase) {
    if (task.phase_ == Task::Phase::idle) {
        task.previous_ = last_in_flight_;
        task.next_ = nullptr;
        (last_in_flight_ != nullptr ? last_in_flight_->next_ : in_flight_) = &task;
        last_in_flight_ = &task;
    }
    task.phase_ = phase;
}

void LogicalUnit::make_ready(Task& task) {
    if (task.ready_) return;
    task.ready_ = true;
    task.next_ready_ = nullptr;
    (last_ready_ != nullptr ? last_ready_->next_ready_ : ready_) = &task;
    last_ready_ = &task;
}

void LogicalUnit::abort(Task& task) {
    task.aborted_ = true;
    // its initiator sends it again, and that must not be overtaken by what the layers still have
    ranges_.make_exclusive(task.hold_);
    if (task.phase_ == Task::Phase::waiting_for_range || task.phase_ == Task::Phase::waiting_to_reserve ||
        task.phase_ == Task::Phase::draining)
        make_ready(task);
}

void LogicalUnit::leave(RangeLocks::Hold& hold) {
    ranges_.release(hold, [this](RangeLocks::Hold& next) {
        if (next.granted != nullptr) return next.granted(next);
        make_ready(*static_cast<Task*>(next.owner));
    });
}

Next LogicalUnit::finish(Task& task, Status status) {
    task.status = status;
    if (status != Status::good && status != Status::condition_met) task.data_in_bytes = 0;
    if (task.phase_ == Task::Phase::idle) return Next::done;
    task.phase_ = Task::Phase::idle;
    (task.previous_ != nullptr ? task.previous_->next_ : in_flight_) = task.next_;
    (task.next_ != nullptr ? task.next_->previous_ : last_in_flight_) = task.previous_;
    leave(task.hold_);
    if (reserving_ == &task) {
        reserving_ = nullptr;
        for (Task* other = in_flight_; other != nullptr; other = other->next_) {
            if (other->phase_ == Task::Phase::waiting_to_reserve) make_ready(*other);
        }
    } else if (reserving_ != nullptr && reserving_->phase_ == Task::Phase::draining && !aborting()) {
        make_ready(*reserving_);
    }
    return Next::done;
}

Next LogicalUnit::fail(Task& task, const Sense& sense) {
    task.sense = encode_sense(sense, mode_.descriptor_sense ? SenseFormat::descriptor : SenseFormat::fixed);
    return finish(task, Status::check_condition);
}

Next LogicalUnit::give(Task& task, const Bytes& data) {
    const size_t bytes = std::min<size_t>({data.size(), task.data.size(), shape(task.cdb).bytes});
    std::copy_n(reinterpret_cast<const std::byte*>(data.data()), bytes, task.data.begin());
    task.data_in_bytes = bytes;
    return finish(task);
}

}  // namespace storctl::node::scsi
