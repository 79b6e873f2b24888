#pragma once
// Keeps claimed devices off the host's drivers while things come and go: a device that returns, a driver that binds
// itself again, and everything that is plugged in below a held hub. Loop thread only.
//
//   below a held hub comes …   a device   its port is held, so it has no configuration: it gets one, without drivers
//                              a hub      its port is given up so that the hub can work; once it has been enumerated,
//                                         its own ports are held
//                      goes …  a hub      the port that it was in is held again

#include <set>
#include <string>
#include <vector>

#include "daemon/arbiter_claims.hpp"
#include "daemon/arbiter_drivers.hpp"
#include "daemon/arbiter_ledger.hpp"

namespace storctl {

class ClaimGuard {
 public:
    ClaimGuard(ClaimLedger& ledger, ClaimDrivers& drivers, HeldHubs& hubs, ClaimMaker& maker)
        : ledger_(ledger), drivers_(drivers), hubs_(hubs), maker_(maker) {}

    /// After the arbiter has been told.
    void plugged(const usbarb::DeviceFacts& device);
    void unplugged(const usbarb::DeviceFacts& device);

 private:
    struct Attempt {
        usbarb::ClaimId claim = 0;
        usbarb::Action action{};
        std::string node;
        auto operator<=>(const Attempt&) const = default;
    };
    /// `plugged` once nobody works on this claim, if the device is still there then.
    void look_again(const usbarb::DeviceFacts& device, usbarb::ClaimId once_idle);
    void plugged_below(const usbarb::DeviceFacts& device, usbarb::ClaimId hub_claim);
    void hub_below(const usbarb::DeviceFacts& hub, usbarb::ClaimId hub_claim);
    void run_once(const usbarb::DeviceFacts& device, usbarb::ClaimId claim, usbarb::Job job, std::vector<UniqueFd> in);
    std::string hub_node_of(const usbarb::DeviceFacts& device) const;

    ClaimLedger& ledger_;
    ClaimDrivers& drivers_;
    HeldHubs& hubs_;
    ClaimMaker& maker_;
    std::set<Attempt> tried_;  ///< once per plug and claim, also when it failed
};

}  // namespace storctl
