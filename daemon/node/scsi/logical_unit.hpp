#pragma once
// The emulated disk: takes commands (SPC-5, SBC-4), answers what it knows, and asks for operations on blocks and for
// the storing of reservations where it does not. Pure: no file, no clock, no thread of its own; one thread calls it.
//
//   shape(cdb)  what to bring     start(task) ─┬─ done ──────────────────────────── answer the initiator
//                                              ├─ block: carry out task.operation ─┐
//                                              ├─ store: keep task.proposed ───────┤ resume(task, result): again one of
//                                              └─ wait: until take_ready names it ─┘ the four
//
// Any number of tasks may be in flight. After a task is done, every task that take_ready names is resumed with 0.

#include <memory>
#include <optional>
#include <vector>

#include "daemon/node/scsi/identity.hpp"
#include "daemon/node/scsi/mode_pages.hpp"
#include "daemon/node/scsi/nexus.hpp"
#include "daemon/node/scsi/task.hpp"

namespace storctl::node::scsi {

struct UnitConfiguration {
    Identity identity;
    Geometry geometry;
    Limits limits;
    ReservationState reservations;  ///< as stored; after a loss of power, what is left of it
};

class LogicalUnit {
 public:
    static Result<std::unique_ptr<LogicalUnit>> make(UnitConfiguration configuration);

    /// Whoever attaches under a name that is attached already is the same nexus (and `options` stay as they are). It
    /// must live as long as its tasks, and not longer than the unit.
    Result<std::shared_ptr<Nexus>> attach(const NexusName& name, NexusOptions options = {});

    /// All zero for a CDB that will be refused for it; never more than the limits allow, for answers and lists 128 KiB.
    Shape shape(ByteView cdb) const;

    Next start(Task& task);
    Next resume(Task& task, int64_t result);
    /// A task that waited and may go on: resume it with 0.
    Task* take_ready();
    /// Nobody waits for the task any more: it ends with TASK ABORTED once what is in flight of it has ended.
    void abort(Task& task);

    /// I/O on another path to the disk enters its blocks, so that COMPARE AND WRITE is atomic against it too. False: it
    /// waits until `hold.granted` is called. Left once done.
    bool enter(RangeLocks::Hold& hold) { return ranges_.acquire(hold); }
    void leave(RangeLocks::Hold& hold);

    // What happens to the disk from outside. Unit attentions tell every nexus.
    void resize(uint64_t blocks);
    void change_identity(Identity identity);
    /// LOGICAL UNIT RESET: everything in flight ends with TASK ABORTED as soon as it is resumed; mode pages are back at
    /// their defaults; reservations stay.
    void reset();
    /// Informational exception for LOG SENSE and REQUEST SENSE; no_additional_sense_information ends it.
    void set_exception(AdditionalSense exception) { exception_ = exception; }
    /// The reservations were changed by another host. Also before a store is resumed with -ESTALE, which makes the
    /// command be decided again.
    Result<void> adopt(ReservationState state);

    const ReservationState& reservations() const { return reservations_; }
    const Geometry& geometry() const { return geometry_; }
    const ModeValues& mode() const { return mode_; }
    /// Whether I/O on another path to the disk, of somebody who stands like that, runs into a reservation.
    bool refuses(Standing standing, Access access) const { return conflicts(reservations_.type, standing, access); }

 private:
    explicit LogicalUnit(UnitConfiguration configuration);

    // answers (logical_unit_answers.cpp)
    Next answer(Task& task);
    Reply reply_of(Task& task);
    Bytes request_sense(Nexus& nexus, ByteView cdb);
    Next select_mode(Task& task);
    Next start_or_stop(Task& task);
    Next diagnose(Task& task);

    // the medium (logical_unit_medium.cpp)
    Next begin_medium(Task& task);
    std::optional<Sense> check_medium(const Task& task) const;
    std::optional<Sense> check_flags(const Task& task) const;
    std::optional<Sense> check_length(const Task& task) const;
    Next begin_unmap(Task& task);
    Next enter_range(Task& task, uint64_t first, uint64_t blocks, bool exclusive);
    Next first_operation(Task& task);
    Next next_operation(Task& task);
    Next operation_failed(Task& task, int64_t result);
    Next read_or_write(Task& task);
    Next verify_piece(Task& task);
    Next verified_piece(Task& task);
    Next compared(Task& task);
    Next begin_write_same(Task& task);
    Next fill_piece(Task& task);
    Next unmap_piece(Task& task);
    Next flush_last(Task& task);
    Next block(Task& task, BlockOperation kind, uint64_t first_byte, uint64_t length, std::byte* data, bool fua);
    uint64_t medium_bytes(const Task& task) const { return task.range_.blocks * geometry_.block_bytes; }
    uint64_t scratch_piece(const Task& task) const;

    // reservations (logical_unit_reservations.cpp)
    Next reserve_out(Task& task);
    Next stored(Task& task, int64_t result);
    void commit(ReservationState state, const std::vector<ReservationChange::Notice>& notices);
    Next abort_others(Task& task);
    bool aborting() const;
    bool drained(const Task& task) const;

    // ends
    Next finish(Task& task, Status status = Status::good);
    Next fail(Task& task, const Sense& sense);
    Next give(Task& task, const Bytes& data);
    void fly(Task& task, Task::Phase phase);
    void make_ready(Task& task);
    void tell(Attention attention, const Nexus* but = nullptr);
    bool write_protected(const Task& task) const;
    std::optional<Sense> protected_from(const Task& task, Access access) const;

    Identity identity_;
    Geometry geometry_;
    const Limits limits_;
    ModeValues mode_;
    bool stopped_ = false;
    AdditionalSense exception_ = AdditionalSense::no_additional_sense_information;
    ReservationState reservations_;
    std::vector<std::weak_ptr<Nexus>> nexuses_;
    RangeLocks ranges_;
    Task* in_flight_ = nullptr;  // newest last
    Task* last_in_flight_ = nullptr;
    Task* ready_ = nullptr;
    Task* last_ready_ = nullptr;
    Task* reserving_ = nullptr;  // the PERSISTENT RESERVE OUT that is being stored or waits for what it aborted
};

}  // namespace storctl::node::scsi
