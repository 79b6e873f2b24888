#pragma once
// One command in flight. The front end owns it and its memory, fills the first part, and reads the second when the
// logical unit says `done`. Not copied, not moved while the logical unit has it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/node/scsi/commands.hpp"
#include "daemon/node/scsi/range_locks.hpp"
#include "daemon/node/scsi/reservation_commands.hpp"

namespace storctl::node::scsi {

class Nexus;

/// What is to happen next with a task.
enum class Next : uint8_t {
    done,   ///< status, sense and data_in_bytes are there
    block,  ///< carry out `operation`, then resume with the bytes done or a negative errno
    store,  ///< store `proposed`, then resume with 0 or a negative errno
    wait,   ///< nothing: LogicalUnit::take_ready will name the task
};

enum class BlockOperation : uint8_t { read, write, flush, discard, write_zeroes };

/// In bytes, inside the disk. `data`: `length` bytes in the task's data or scratch, for read and write, else null.
struct Operation {
    BlockOperation kind = BlockOperation::read;
    bool fua = false;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::byte* data = nullptr;
};

/// How a command of that CDB is to be started.
struct Shape {
    Direction direction = Direction::none;
    uint64_t bytes = 0;          ///< data-out that the command needs, or room that its data-in can use
    uint64_t scratch_bytes = 0;  ///< memory that it needs besides
};

struct Task {
    // Filled by the front end. All memory stays in place and unchanged by others until `done`.
    Nexus* nexus = nullptr;
    ByteView cdb;
    std::span<std::byte> data;     ///< data-out as it came, or room for data-in; may be shorter than its Shape
    std::span<std::byte> scratch;  ///< at least Shape::scratch_bytes
    bool writable = true;          ///< else what it wants to change, reservations too, is answered WRITE PROTECTED

    // Filled by the logical unit.
    Operation operation;
    const ReservationState* proposed = nullptr;
    Status status = Status::good;
    uint64_t data_in_bytes = 0;  ///< from the beginning of `data`
    Bytes sense;                 ///< empty unless CHECK CONDITION

    Task() = default;
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;

 private:
    friend class LogicalUnit;

    enum class Phase : uint8_t {
        idle,
        waiting_for_range,
        flushing_first,  // READ with FUA
        transferring,
        verifying,  // reads of scratch
        comparing,  // COMPARE AND WRITE: the read
        writing,    // COMPARE AND WRITE: the write
        filling,    // WRITE SAME with a pattern
        clearing,   // WRITE SAME: discard or zeroes
        unmapping,
        flushing_last,
        stopping,
        selecting,  // MODE SELECT: the cache goes off
        waiting_to_reserve,
        storing,
        draining,  // PREEMPT AND ABORT: the others' commands
    };

    const CommandRow* row_ = nullptr;
    Phase phase_ = Phase::idle;
    bool aborted_ = false;
    bool ready_ = false;
    BlockRange range_;   // in blocks
    uint64_t done_ = 0;  // of it, in bytes; UNMAP: descriptors
    ReservationChange change_;
    RangeLocks::Hold hold_;
    Task* previous_ = nullptr;  // in flight
    Task* next_ = nullptr;
    Task* next_ready_ = nullptr;
};

}  // namespace storctl::node::scsi
