#pragma once
// The node's disk as SCSI sees it, for any thread: the logical unit behind a mutex. Its operations are carried out by
// the node's layers, its reservations are handed to whoever stores them. I/O on other paths to the disk asks here
// whether a reservation lets it through, and enters its blocks here.
//
// The mutex is held for steps of the logical unit only, never for I/O or a copy.

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/node/backing_view.hpp"
#include "daemon/node/block.hpp"
#include "daemon/node/scsi/logical_unit.hpp"
#include "daemon/node/stats.hpp"

namespace storctl::node {

class ScsiUnit;

/// One command: the task's first part is filled by whoever runs it. Nobody else touches it until `run` has returned,
/// and its memory (data, scratch) goes with it: the node's layers may have it longer than its initiator waits.
struct ScsiCommand : scsi::Task, std::enable_shared_from_this<ScsiCommand> {
    /// Data that lie in the backing itself, in place of `data`.
    std::span<const std::byte> in_place;
    bool use_view = true;
    std::shared_ptr<scsi::Nexus> opener;  ///< whose task it is
    std::shared_ptr<void> left_behind;    ///< goes with it
    std::shared_ptr<void> memory;         ///< what `data` and `scratch` point into
    std::array<uint8_t, scsi::longest_cdb> cdb_bytes;

    void take_cdb(scsi::ByteView bytes) {
        std::copy(bytes.begin(), bytes.end(), cdb_bytes.begin());
        cdb = {cdb_bytes.data(), bytes.size()};
    }

 private:
    friend class ScsiUnit;
    BlockRequest block_;
    ScsiUnit* unit_ = nullptr;
    std::shared_ptr<ScsiCommand> self_;  // while the layers have it
    std::shared_ptr<const BackingView> view_;
    scsi::RangeLocks::Hold view_blocks_;  // until `in_place` has been given to the initiator
    std::condition_variable changed_;
    std::chrono::steady_clock::time_point stored_by_;
    bool done_ = false;
    bool given_up_ = false;
};

class ScsiUnit {
 public:
    using Deadline = std::chrono::steady_clock::time_point;
    /// Has the request carried out on the reactor's thread, later, where its continuation runs. False: there is no
    /// reactor any more, and it will not run.
    using Submit = std::function<bool(BlockRequest&)>;
    enum class End : uint8_t { done, timed_out, given_up };

    /// `on_proposed`: reservations wait to be stored; called with the mutex held, on any thread. `store_patience`: how
    /// long; then the command ends with BUSY.
    static Result<std::shared_ptr<ScsiUnit>> make(scsi::UnitConfiguration configuration,
                                                  std::function<void()> on_proposed,
                                                  std::chrono::milliseconds store_patience = std::chrono::seconds(10));

    /// Before the first command. The last one ends with the reactor.
    void connect(Submit submit);
    /// Commands may come from now on: I/O on other paths has to enter its blocks. Before any I/O.
    void expect_commands() { commands_expected_ = true; }
    bool commands_expected() const { return commands_expected_; }

    /// The same name is the same nexus; it is remembered while it is open, and for a while after.
    Result<std::shared_ptr<scsi::Nexus>> attach(const std::string& initiator);
    scsi::Shape shape(scsi::ByteView cdb);

    /// Until the command has ended, or nobody waits for it any more. `running` names it for `give_up` meanwhile.
    End run(const std::shared_ptr<ScsiCommand>& command, Deadline deadline, void*& running);
    void give_up(void* const& running);
    /// `in_place` was given to the initiator, or is not wanted. May be called for any command that has ended.
    void given(ScsiCommand& command);
    /// Nothing is proposed any more: whoever stores is going. What waits to be stored ends with BUSY.
    void stop_storing();
    void reset();

    // I/O on other paths.
    /// False most of the time: nothing is reserved.
    bool reserved() const { return reserved_.load(std::memory_order_relaxed); }
    /// Null: somebody who has no part in reservations.
    bool refuses(const scsi::Nexus* nexus, bool changes);
    bool enter(scsi::RangeLocks::Hold& hold);
    void leave(scsi::RangeLocks::Hold& hold);

    // What happens to the disk.
    void resize(uint64_t size_bytes);
    void set_view(std::shared_ptr<const BackingView> view);
    scsi::Geometry geometry();

    // Reservations.
    scsi::ReservationState reservations();
    std::optional<scsi::ReservationState> proposed();
    /// What the store says now; see SetReservations of io.storctl.NodeProcess.
    Result<void> settle(scsi::ReservationState state, const std::optional<std::string>& error);

    /// Reads that took no operation of the layers.
    const OperationStats& reads_in_place() const { return reads_in_place_; }

 private:
    ScsiUnit(std::function<void()> on_proposed, std::chrono::milliseconds store_patience)
        : store_patience_(store_patience), on_proposed_(std::move(on_proposed)) {}
    void advance(ScsiCommand& command, scsi::Next next);
    void advance_ready();
    bool carry_out(ScsiCommand& command);
    bool read_in_place(ScsiCommand& command);
    static void block_done(void* context, BlockRequest& request, int64_t result);
    void not_stored(ScsiCommand& command, int error_number);
    void abandon(ScsiCommand& command);
    void note_reservations();

    const std::chrono::milliseconds store_patience_;
    std::atomic<bool> reserved_{false};
    bool commands_expected_ = false;

    std::mutex mutex_;  // guards what follows
    std::function<void()> on_proposed_;
    std::unique_ptr<scsi::LogicalUnit> unit_;
    Submit submit_;
    std::map<std::string, std::shared_ptr<scsi::Nexus>> nexuses_;
    std::shared_ptr<const BackingView> view_;
    ScsiCommand* storing_ = nullptr;
    OperationStats reads_in_place_;
};

}  // namespace storctl::node
