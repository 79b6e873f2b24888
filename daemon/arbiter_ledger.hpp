#pragma once
// The arbiter with its memory: what it changes is in the database before anybody is told or anything is done about it.
// Loop thread only.

#include <functional>
#include <string>

#include "base/result.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/state_db.hpp"
#include "usbarb/arbiter.hpp"

namespace storctl {

class ClaimLedger {
 public:
    /// `boot_id`: of the present boot; every claim that is stored is of it.
    ClaimLedger(StateDb& db, EventHub& hub, usbarb::Policy policy, std::string boot_id);

    usbarb::Arbiter& arbiter() { return arbiter_; }
    const usbarb::Arbiter& arbiter() const { return arbiter_; }
    const std::string& boot_id() const { return boot_id_; }

    /// All of them stored in one step, then told. An error: nothing was stored, and nobody was told.
    Result<void> record(const usbarb::Changes& changes);
    /// For what has happened whether it can be stored or not: an error is logged.
    void note(const usbarb::Changes& changes);
    /// Stored claims as the arbiter had them last; those of another boot that do not outlive it are dropped.
    Result<void> restore();

    /// After every change.
    void on_change(std::function<void()> listener) { listener_ = std::move(listener); }

 private:
    static usbarb::Changes summed_up(const usbarb::Changes& changes);
    Result<void> store(const usbarb::Changes& changes);
    void tell(const usbarb::Changes& changes);

    StateDb& db_;
    EventHub& hub_;
    const std::string boot_id_;
    usbarb::Arbiter arbiter_;
    std::function<void()> listener_;
};

}  // namespace storctl
