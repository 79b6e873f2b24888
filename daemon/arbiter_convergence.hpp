#pragma once
// The kernel and the claims of the database brought together after a start: what was under way when stord ended is
// ended one way or the other, what was established is brought about again where the kernel says something else. Loop
// thread only.
//
//   phase pending     never answered: rolled back          state releasing   rolled forward
//                     of a rule, which nobody waits for: moved again
//   phase done        drivers compared, moved again        phase failed      tried again
//   phase none        drivers are the consumer's: nothing to do

#include "daemon/arbiter_claims.hpp"
#include "daemon/arbiter_hubs.hpp"
#include "daemon/arbiter_ledger.hpp"
#include "daemon/arbiter_releases.hpp"

namespace storctl {

/// Begins all of it, once it is known what is there and what is used.
void converge(ClaimLedger& ledger, HeldHubs& hubs, ClaimMaker& maker, ClaimReleases& releases);

}  // namespace storctl
