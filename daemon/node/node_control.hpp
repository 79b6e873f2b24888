#pragma once
// What every kind of node shows of itself: its name, held against a second process, and io.storctl.NodeProcess on the
// control socket. What the calls do is the node's. Control thread only.

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "control/server.hpp"
#include "daemon/node/describe.hpp"
#include "daemon/node/spec.hpp"

namespace storctl::node {

class NodeControl {
 public:
    struct Handlers {
        std::function<Description()> describe;
        std::function<nlohmann::json()> stats;  ///< refused_opens and operations
        std::function<Result<void>(const std::string& path)> reopen;
        std::function<void()> refresh;
        /// Openers: it is busy. None: it is ending, and the socket is closed behind the answer.
        std::function<std::vector<Opener>(bool force)> stop;
        /// What is stored now, as io.storctl.NodeProcess.SetReservations says; none: the node has no reservations.
        std::function<Result<void>(scsi::ReservationState, std::optional<std::string> error)> set_reservations = {};
    };

    /// address_in_use: the node has a process already.
    static Result<std::unique_ptr<NodeControl>> claim(EventLoop& loop, const Spec& spec);
    ~NodeControl();
    /// From the first call on the node is complete, so this comes last at its start.
    Result<void> serve(Handlers handlers);
    /// Tells those who watch what `describe` says now.
    void changed();

 private:
    NodeControl(EventLoop& loop, std::string socket_path);
    control::Json description() const;
    void handle_watch(control::Call call);
    void handle_stat(control::Call call);
    void handle_reopen(control::Call call);
    void handle_stop(control::Call call);
    void handle_set_reservations(control::Call call);

    EventLoop& loop_;
    const std::string socket_path_;
    const uint64_t started_ns_;
    UniqueFd name_claim_;
    Handlers handlers_;
    std::unique_ptr<control::Server> server_;
    std::list<control::Call> watchers_;
};

}  // namespace storctl::node
