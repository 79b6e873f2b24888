#include "daemon/node/scsi_unit.hpp"

#include <cerrno>

#include "base/io_ring.hpp"
#include "base/log.hpp"

namespace storctl::node {
namespace {

using scsi::Next;

constexpr size_t most_nexuses = 256;

BlockOp op_of(scsi::BlockOperation kind) {
    switch (kind) {
        case scsi::BlockOperation::read:
            return BlockOp::read;
        case scsi::BlockOperation::write:
            return BlockOp::write;
        case scsi::BlockOperation::flush:
            return BlockOp::flush;
        case scsi::BlockOperation::discard:
            return BlockOp::discard;
        case scsi::BlockOperation::write_zeroes:
            return BlockOp::write_zeroes;
    }
    __builtin_unreachable();
}

}  // namespace

Result<std::shared_ptr<ScsiUnit>> ScsiUnit::make(scsi::UnitConfiguration configuration,
                                                 std::function<void()> on_proposed,
                                                 std::chrono::milliseconds store_patience) {
    std::shared_ptr<ScsiUnit> out(new ScsiUnit(std::move(on_proposed), store_patience));
    out->unit_ = TRY(scsi::LogicalUnit::make(std::move(configuration)));
    out->note_reservations();
    return out;
}

void ScsiUnit::connect(Submit submit) {
    const std::scoped_lock lock(mutex_);
    submit_ = std::move(submit);
}

Result<std::shared_ptr<scsi::Nexus>> ScsiUnit::attach(const std::string& initiator) {
    const std::scoped_lock lock(mutex_);
    if (const auto known = nexuses_.find(initiator); known != nexuses_.end()) return known->second;
    // the ones that nobody has open and that are not registered have nothing to remember but what they were to be told
    if (nexuses_.size() >= most_nexuses) {
        std::erase_if(nexuses_, [](const auto& entry) {
            return entry.second.use_count() == 1 && entry.second->standing() == scsi::Standing::unregistered;
        });
    }
    auto nexus = TRY(unit_->attach({.initiator = initiator}, {.power_on = false}));
    nexuses_.emplace(initiator, nexus);
    return nexus;
}

scsi::Shape ScsiUnit::shape(scsi::ByteView cdb) {
    const std::scoped_lock lock(mutex_);
    return unit_->shape(cdb);
}

// ---- running a command

ScsiUnit::End ScsiUnit::run(const std::shared_ptr<ScsiCommand>& command, Deadline deadline, void*& running) {
    std::unique_lock lock(mutex_);
    command->unit_ = this;
    running = command.get();
    advance(*command, unit_->start(*command));
    advance_ready();
    while (!command->done_ && !command->given_up_) {
        const bool storing = storing_ == command.get();
        const auto until = storing ? std::min(deadline, command->stored_by_) : deadline;
        if (command->changed_.wait_until(lock, until) == std::cv_status::no_timeout) continue;
        if (command->done_ || command->given_up_) break;
        if (std::chrono::steady_clock::now() >= deadline) {
            abandon(*command);
            running = nullptr;
            return End::timed_out;
        }
        if (storing_ == command.get() && std::chrono::steady_clock::now() >= command->stored_by_) {
            log::warning("a reservation is not stored: stord has not answered for {} ms", store_patience_.count());
            not_stored(*command, EBUSY);
        }
    }
    running = nullptr;
    if (command->done_) return End::done;
    abandon(*command);
    return End::given_up;
}

void ScsiUnit::give_up(void* const& running) {
    const std::scoped_lock lock(mutex_);
    if (running == nullptr) return;
    auto& command = *static_cast<ScsiCommand*>(running);
    command.given_up_ = true;
    command.changed_.notify_all();
}

/// Nobody waits for it any more. What the layers have of it keeps it; what waits here ends now.
void ScsiUnit::abandon(ScsiCommand& command) {
    if (storing_ == &command) return not_stored(command, EBUSY);
    unit_->abort(command);
    advance_ready();
}

void ScsiUnit::not_stored(ScsiCommand& command, int error_number) {
    storing_ = nullptr;
    advance(command, unit_->resume(command, -error_number));
    advance_ready();
}

void ScsiUnit::advance(ScsiCommand& command, Next next) {
    for (;;) {
        switch (next) {
            case Next::done:
                command.done_ = true;
                command.changed_.notify_all();
                return note_reservations();
            case Next::wait:
                return;
            case Next::store:
                storing_ = &command;
                command.stored_by_ = std::chrono::steady_clock::now() + store_patience_;
                if (on_proposed_) return on_proposed_();
                storing_ = nullptr;
                next = unit_->resume(command, -EBUSY);
                break;
            case Next::block:
                if (read_in_place(command)) {
                    next = unit_->resume(command, static_cast<int64_t>(command.operation.length));
                } else if (carry_out(command)) {
                    return;
                } else {
                    next = unit_->resume(command, -ENODEV);
                }
                break;
        }
    }
}

/// A command that is done may have been what others waited for.
void ScsiUnit::advance_ready() {
    while (auto* const task = unit_->take_ready()) {
        auto& command = *static_cast<ScsiCommand*>(task);
        advance(command, unit_->resume(command, 0));
    }
}

/// A READ whose data need no copy of ours: they go from the backing to the initiator.
bool ScsiUnit::read_in_place(ScsiCommand& command) {
    const auto& operation = command.operation;
    if (view_ == nullptr || !command.use_view || operation.kind != scsi::BlockOperation::read) return false;
    if (operation.data != command.data.data()) return false;  // to be looked at: into scratch
    const auto bytes = view_->at(operation.offset, operation.length);
    if (bytes.empty()) return false;
    const uint32_t block_bytes = unit_->geometry().block_bytes;
    command.view_blocks_.first = operation.offset / block_bytes;
    command.view_blocks_.end = (operation.offset + operation.length) / block_bytes;
    if (!unit_->enter(command.view_blocks_)) {  // COMPARE AND WRITE waits for these blocks
        unit_->leave(command.view_blocks_);
        return false;
    }
    command.in_place = bytes;
    command.view_ = view_;
    const uint64_t now = monotonic_ns();
    reads_in_place_.begin();
    reads_in_place_.end(0, operation.length, monotonic_ns() - now);
    return true;
}

/// False: it cannot be, and nothing will be heard of it.
bool ScsiUnit::carry_out(ScsiCommand& command) {
    const auto& operation = command.operation;
    BlockRequest& request = command.block_ = {};
    request.op = op_of(operation.kind);
    request.fua = operation.fua;
    request.offset = operation.offset;
    request.length = operation.length;
    request.data = operation.data;
    request.then(&ScsiUnit::block_done, &command);
    command.self_ = command.shared_from_this();
    if (submit_ && submit_(request)) return true;
    command.self_.reset();
    return false;
}

/// On the reactor's thread.
void ScsiUnit::block_done(void* context, BlockRequest&, int64_t result) {
    auto& command = *static_cast<ScsiCommand*>(context);
    ScsiUnit& self = *command.unit_;
    const std::scoped_lock lock(self.mutex_);
    const auto keep = std::move(command.self_);
    self.advance(command, self.unit_->resume(command, result));
    self.advance_ready();
}

void ScsiUnit::given(ScsiCommand& command) {
    if (command.in_place.empty()) return;
    const std::scoped_lock lock(mutex_);
    command.in_place = {};
    unit_->leave(command.view_blocks_);
    advance_ready();
}

void ScsiUnit::stop_storing() {
    const std::scoped_lock lock(mutex_);
    on_proposed_ = nullptr;
    if (storing_ != nullptr) not_stored(*storing_, EBUSY);
}

void ScsiUnit::reset() {
    const std::scoped_lock lock(mutex_);
    unit_->reset();
    advance_ready();
}

// ---- other paths

bool ScsiUnit::refuses(const scsi::Nexus* nexus, bool changes) {
    const std::scoped_lock lock(mutex_);
    return unit_->refuses(nexus == nullptr ? scsi::Standing::unregistered : nexus->standing(),
                          changes ? scsi::Access::changes : scsi::Access::reads);
}

bool ScsiUnit::enter(scsi::RangeLocks::Hold& hold) {
    const std::scoped_lock lock(mutex_);
    return unit_->enter(hold);
}

void ScsiUnit::leave(scsi::RangeLocks::Hold& hold) {
    const std::scoped_lock lock(mutex_);
    unit_->leave(hold);
    advance_ready();
}

// ---- what happens to the disk

void ScsiUnit::resize(uint64_t size_bytes) {
    const std::scoped_lock lock(mutex_);
    unit_->resize(size_bytes / unit_->geometry().block_bytes);
}

void ScsiUnit::set_view(std::shared_ptr<const BackingView> view) {
    const std::scoped_lock lock(mutex_);
    view_ = std::move(view);
}

scsi::Geometry ScsiUnit::geometry() {
    const std::scoped_lock lock(mutex_);
    return unit_->geometry();
}

// ---- reservations

void ScsiUnit::note_reservations() { reserved_ = unit_->reservations().type.has_value(); }

scsi::ReservationState ScsiUnit::reservations() {
    const std::scoped_lock lock(mutex_);
    return unit_->reservations();
}

std::optional<scsi::ReservationState> ScsiUnit::proposed() {
    const std::scoped_lock lock(mutex_);
    if (storing_ == nullptr) return std::nullopt;
    return *storing_->proposed;
}

Result<void> ScsiUnit::settle(scsi::ReservationState state, const std::optional<std::string>& error) {
    TRY(scsi::check(state));
    const std::scoped_lock lock(mutex_);
    ScsiCommand* const command = storing_;
    if (command != nullptr && !error && state == *command->proposed) {
        storing_ = nullptr;
        advance(*command, unit_->resume(*command, 0));
        advance_ready();
        return {};
    }
    if (state.version > unit_->reservations().version) {
        TRY(unit_->adopt(std::move(state)));
        note_reservations();
        if (command == nullptr) return {};
        storing_ = nullptr;
        advance(*command, unit_->resume(*command, -ESTALE));  // decided again; it may have to be stored again
        advance_ready();
        return {};
    }
    if (command == nullptr || !error) return {};
    log::error("a reservation cannot be stored: {}", *error);
    not_stored(*command, EIO);
    return {};
}

}  // namespace storctl::node
