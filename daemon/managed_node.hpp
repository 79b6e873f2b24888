#pragma once
// One node's life as stord sees it: its process is started or adopted, followed, started again when it dies, stopped.
// The state is io.storctl.Node's. Loop thread only.
//
//   starting --serves--> serving <--Reopen-- backing-lost
//      |                    |  ^                  |
//      | process ends       |  | serves           | process ends
//      v                    v  |                  |
//   (undone by the owner) restarting <------------+       restarting --too often, or refused--> failed
//   any --stop--> stopping --process ended--> gone          failed --slow attempt serves--> serving

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/enum_text.hpp"
#include "base/event_loop.hpp"
#include "control/client.hpp"
#include "daemon/node_link.hpp"
#include "daemon/node_request.hpp"
#include "daemon/node_reservations.hpp"
#include "daemon/process_watch.hpp"
#include "daemon/restart_policy.hpp"
#include "daemon/state_db.hpp"
#include "daemon/supervisor.hpp"

namespace storctl {

enum class NodeState { starting, serving, backing_lost, restarting, failed, stopping };

struct NodeSettings {
    std::chrono::milliseconds start_timeout{30'000};
    std::chrono::milliseconds reply_timeout{5'000};
    uint64_t poll_limit_us = 100;
    RestartLimits restart;
    SgDefault sg = SgDefault::automatic;
    std::string cuse_path = "/dev/cuse";
    std::string host;        ///< this one's, among those that share devices
    std::string machine_id;  ///< this one's, and no other's
};

/// A USB node's device, as far as it is plugged in.
struct UsbStanding {
    std::optional<std::string> devnode;  ///< nothing: it is not there
    std::string trouble;                 ///< why what is plugged in cannot be used; empty: it can, or nothing is
    bool operator==(const UsbStanding&) const = default;
};

/// What all nodes share.
struct NodeEnvironment {
    EventLoop& loop;
    Supervisor& supervisor;
    ReservationStore& reservations;
    NodePaths paths;
    NodeSettings settings;
    /// describe() is another now.
    std::function<void(const std::string& name)> changed;
    /// The record (sizes, backing path) is another now.
    std::function<void(const NodeRecord&)> save;
    /// Where the record's backing is at present; nothing: it is absent.
    std::function<std::optional<std::string>(const NodeRecord&)> locate;
    /// Of a USB node, for what is shown.
    std::function<UsbStanding(const NodeRecord&)> standing = {};
};

class ManagedNode {
 public:
    struct StartFailure {
        bool refused = false;  ///< by arbitration: the backing is held by somebody
        std::string message;
    };
    struct StopFailure {
        enum class Why { busy, unavailable } why = Why::unavailable;
        std::string message;
        std::vector<std::string> openers;
    };
    using Started = std::function<void(std::optional<StartFailure>)>;
    using Stopped = std::function<void(std::optional<StopFailure>)>;

    static Result<std::unique_ptr<ManagedNode>> open(NodeEnvironment& environment, NodeRecord record);

    /// The first start. `done` once, perhaps from inside: it serves, or it was undone (no process is left) and why.
    void create(Started done);
    /// A node of the records, or one that was stopped: a live process is adopted, else one is started that waits for
    /// its backing. `settled` once: an adopted process has described itself, or there was none.
    void resume(std::function<void()> settled);
    /// Ends the process. `done` once, perhaps from inside; after success no process is left and the node may be
    /// destroyed (not from inside).
    void stop(bool force, Stopped done);
    /// A stop that is under way goes on as one by force.
    void hurry();
    /// The parameters of NodeProcess.Stat's answer.
    void stat(std::function<void(Result<nlohmann::json>)> done);
    /// The backing came, went or changed.
    void backing_changed();
    /// A file in the node folder with this node's name appeared.
    void nudge() { link_->nudge(); }

    /// Being created or stopped.
    bool busy() const { return start_done_ != nullptr || stop_done_ != nullptr; }
    bool stopping() const { return stop_done_ != nullptr; }

    const NodeRecord& record() const { return record_; }
    NodeState state() const { return state_; }
    /// Its process; 0: it has none; nothing: it may have one that is not known yet.
    std::optional<pid_t> process() const;
    /// io.storctl.Node's type Node.
    nlohmann::json describe() const;

 private:
    ManagedNode(NodeEnvironment& environment, NodeRecord record);

    void start_process();
    void poll_supervisor();
    void watch_process(pid_t pid);
    Result<void> write_spec() const;
    void keep_reservations();

    void on_connected(pid_t pid);
    void on_description(const nlohmann::json& description);
    void on_lost();
    void on_exit(pid_t pid, const ExitStatus& status);
    void on_deadline();
    /// No process is left: undo, finish or start again, as the state says.
    void process_gone(const ExitStatus& status, std::string reason);
    void restart_later(const std::string& reason, RestartPolicy::Death death);

    void end_start(std::optional<StartFailure> failure);
    void end_stop(std::optional<StopFailure> failure);
    std::chrono::milliseconds stop_limit() const;
    void request_stop();
    void on_stop_reply(const Result<control::Reply>& reply);
    StopFailure not_stopped(const std::string& why) const;
    void end_by_force();

    void save_backing();
    bool is_elsewhere() const;
    void reopen_when_back();
    void reopen();
    void set_state(NodeState state, std::string message);
    void settle();
    std::string last_words() const;
    std::string message_with(const std::string& trouble) const;

    /// The callback runs only while this node is there.
    template <class Callback>
    auto guarded(Callback callback) {
        return [alive = std::weak_ptr<const bool>(alive_), callback = std::move(callback)](auto&&... arguments) {
            if (!alive.expired()) callback(std::forward<decltype(arguments)>(arguments)...);
        };
    }

    NodeEnvironment& environment_;
    NodeRecord record_;
    NodeState state_ = NodeState::starting;
    std::string message_;
    int64_t restarts_ = 0;
    RestartPolicy policy_;
    nlohmann::json description_;  // the process's last; null: none yet
    std::unique_ptr<NodeLink> link_;
    std::unique_ptr<NodeReservations> reservations_;  // of a disk
    std::optional<ProcessWatch> process_;
    std::optional<ProcessWatch> stray_;  // a process of ours that another one made superfluous: only to be reaped
    EventSource restart_timer_;
    EventSource poll_timer_;
    EventSource deadline_;  // of a start or a stop
    EventSource reopen_timer_;
    bool coming_up_ = false;     // started and not connected yet
    bool may_kill_ = false;      // the stop under way may end in SIGKILL
    bool stop_when_up_ = false;  // the stop under way waits until the process can be asked
    uint64_t stop_call_ = 0;     // the last Stop that was sent; answers to earlier ones say nothing any more
    bool reopening_ = false;
    Started start_done_;
    Stopped stop_done_;
    std::optional<StartFailure> start_failure_;  // the process is being ended because of this
    std::function<void()> settled_;
    std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

}  // namespace storctl

namespace storctl {

template <>
struct EnumNames<NodeState> {
    static constexpr auto table = std::to_array<EnumName<NodeState>>({
        {NodeState::starting, "starting"},
        {NodeState::serving, "serving"},
        {NodeState::backing_lost, "backing-lost"},
        {NodeState::restarting, "restarting"},
        {NodeState::failed, "failed"},
        {NodeState::stopping, "stopping"},
    });
};
static_assert(round_trips<NodeState>());

}  // namespace storctl
