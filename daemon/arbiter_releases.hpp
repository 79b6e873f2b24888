#pragma once
// Claims being ended: recorded, drivers given back, forgotten; after a function's return the wait until its devices are
// back. Loop thread only.

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "daemon/arbiter_drivers.hpp"
#include "daemon/arbiter_ledger.hpp"
#include "daemon/claim_nodes.hpp"

namespace storctl {

class ClaimReleases {
 public:
    struct Released {
        std::vector<usbarb::ClaimRecord> claims;  ///< as they were at their end, with what their drivers had to say
        std::string failure;                      ///< a function could not be given back: its claim stays, releasing
    };
    using Done = std::function<void(Released)>;
    struct Hooks {
        /// Reads all controllers and devices again, now.
        std::function<Result<void>()> refresh;
        /// What a hub's claim covered stands on its own now.
        std::function<void(const std::vector<usbarb::ClaimId>&)> uncovered;
        /// The controllers are the host's again, their devices enumerated.
        std::function<void(const std::vector<std::string>&)> returned;
        /// The mediated nodes, asked at each release.
        std::function<ClaimNodes&()> nodes;
    };

    ClaimReleases(EventLoop& loop, ClaimLedger& ledger, ClaimDrivers& drivers, Hooks hooks);

    /// Of claims that nobody else is working on. Nodes over them end first, by force: who may refuse that has been
    /// asked. `done` perhaps from inside.
    void release(const std::vector<usbarb::ClaimId>& claims, bool keep_off, Done done);
    /// Claims whose release has begun already (a deadline, a crash): the rest of it.
    void carry_on(const std::vector<usbarb::ClaimId>& claims);
    /// A device or controller came or went.
    void topology_changed();

 private:
    struct Enumeration {
        std::vector<std::string> controllers;
        std::function<void()> done;
        EventSource timer;
    };
    void take_back(const std::vector<usbarb::ClaimId>& claims, Released released, Done done);
    void forget_nodes(const std::vector<usbarb::ClaimId>& claims);
    void finish(const std::vector<usbarb::ClaimId>& claims, const ClaimDrivers::Outcome& outcome, Released released,
                const Done& done);
    void wait_for_devices(std::vector<std::string> controllers, std::function<void()> done);
    bool all_back(const std::vector<std::string>& controllers) const;
    void end(std::list<Enumeration>::iterator which);

    EventLoop& loop_;
    ClaimLedger& ledger_;
    ClaimDrivers& drivers_;
    Hooks hooks_;
    std::list<Enumeration> enumerations_;
};

}  // namespace storctl
