#include "daemon/arbiter_convergence.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "daemon/arbiter_jobs.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {
namespace {

using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::Phase;

bool needs_drivers_moved(const ClaimLedger& ledger, const HeldHubs& hubs, const ClaimRecord& claim) {
    const auto held = hubs.claims();
    const bool ports_are_free =
        claim.kind == ClaimKind::hub && std::find(held.begin(), held.end(), claim.id) == held.end();
    return claim.phase == Phase::failed || claim.phase == Phase::pending || ports_are_free ||
           differs(ledger.arbiter(), claim);
}

}  // namespace

void converge(ClaimLedger& ledger, HeldHubs& hubs, ClaimMaker& maker, ClaimReleases& releases) {
    std::vector<ClaimId> given_up, changed;
    for (const auto& claim : ledger.arbiter().claims()) {
        if (claim.observed) continue;
        if (claim.state == ClaimState::releasing) {
            log::notice("{}: its release is carried on", summary_of(claim));
            given_up.push_back(claim.id);
        } else if (claim.phase == Phase::pending && !claim.origin.starts_with("rule:")) {
            log::notice("{}: rolled back, its request was never answered", summary_of(claim));
            given_up.push_back(claim.id);
        } else if (claim.state != ClaimState::lost && !claim.keep_drivers && needs_drivers_moved(ledger, hubs, claim)) {
            log::notice("{}: drivers are not as it wants them, moving them again", summary_of(claim));
            changed.push_back(claim.id);
        }
    }
    // kept by the service manager for claims that were released meanwhile
    for (const ClaimId id : hubs.claims()) {
        if (!ledger.arbiter().find_claim(id)) hubs.close(id);
    }
    for (const ClaimId id : given_up) releases.carry_on({id});
    maker.bring_about_again(changed);
}

}  // namespace storctl
