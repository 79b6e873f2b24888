#pragma once
// Keeps one node's persistent reservations and the stored ones the same: what the node proposes is stored and answered,
// and what is stored reaches the node. Its specification is written anew before it is told, so that a process that dies
// starts again with no less than what it has granted. Loop thread only.
//
//   idle --a change is proposed--> storing --stored, refused or failed--> telling --answered--> idle
//     \--what the node has is not what is stored-------------------------------^

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "control/client.hpp"
#include "daemon/reservation_store.hpp"

namespace storctl {

class NodeReservations {
 public:
    using State = ReservationStore::State;
    struct Actions {
        std::function<Result<void>()> write_spec;
        /// Calls SetReservations; forgotten when the connection is closed.
        std::function<void(nlohmann::json parameters, std::function<void(const Result<control::Reply>&)> done)> set;
        /// `state()` is another now.
        std::function<void()> changed;
    };

    NodeReservations(ReservationStore& store, const std::string& node, std::string device, Actions actions);
    NodeReservations(const NodeReservations&) = delete;
    NodeReservations& operator=(const NodeReservations&) = delete;

    /// A Description came; reservations that cannot be read are an error of the node's and change nothing.
    void described(const nlohmann::json& description);
    /// The process, or the connection to it, is gone.
    void disconnected();
    /// As stored; else as the node has them.
    State state() const;

 private:
    enum class Phase { idle, storing, telling };
    void synchronize();
    void propose(const State& proposed);
    /// The store has lost what the node has.
    void restore(const State& in_force);
    void answer(const std::optional<std::string>& error);
    void write_spec();
    void store_changed();

    ReservationStore& store_;
    const std::string node_, device_;
    const Actions actions_;
    Phase phase_ = Phase::idle;
    bool again_ = false;                        // something came while it was not idle
    uint64_t connection_ = 0;                   // answers to calls of an earlier one say nothing
    std::optional<State> in_force_, proposed_;  // as last described
    std::optional<State> written_;              // to the specification
    ReservationStore::Watch watch_;
    std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
};

/// "write-exclusive for alpha:vm:web1, 2 registered"; of io.storctl.Node's type Reservations.
std::string reservations_summary(const nlohmann::json& reservations);

}  // namespace storctl
