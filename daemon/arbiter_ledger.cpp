#include "daemon/arbiter_ledger.hpp"

#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {
namespace {

using usbarb::Change;
using usbarb::Changes;
using usbarb::ClaimRecord;

const char* event_of(Change::What what) {
    switch (what) {
        case Change::What::added:
            return "claim-added";
        case Change::What::changed:
            return "claim-changed";
        case Change::What::lost:
            return "claim-lost";
        case Change::What::restored:
            return "claim-restored";
        case Change::What::removed:
            return "claim-removed";
    }
    return "?";
}

/// A virtual machine or a process does not outlive the boot; what was given to it by hand is meant for the next one,
/// too.
bool outlives_boot(const ClaimRecord& claim) { return claim.origin != "libvirt" && !claim.holder.starts_with("proc:"); }

}  // namespace

ClaimLedger::ClaimLedger(StateDb& db, EventHub& hub, usbarb::Policy policy, std::string boot_id)
    : db_(db), hub_(hub), boot_id_(std::move(boot_id)), arbiter_(policy) {}

/// One change per claim, with the claim as it is now: what was added and changed at once is told as added, what was
/// added and removed not at all.
Changes ClaimLedger::summed_up(const Changes& changes) {
    std::map<usbarb::ClaimId, std::optional<Change>> sums;
    std::vector<usbarb::ClaimId> order;
    for (const auto& change : changes) {
        const auto [entry, first] = sums.emplace(change.claim.id, change);
        if (first) order.push_back(change.claim.id);
        auto& sum = entry->second;
        if (first || !sum) continue;
        const bool was_added = sum->what == Change::What::added;
        sum->claim = change.claim;
        if (change.what == Change::What::removed && was_added) {
            sum.reset();
        } else if (change.what == Change::What::removed || (change.what != Change::What::changed && !was_added)) {
            sum->what = change.what;
        }
    }
    Changes out;
    for (const auto id : order) {
        if (sums.at(id)) out.push_back(std::move(*sums.at(id)));
    }
    return out;
}

Result<void> ClaimLedger::store(const Changes& changes) {
    std::vector<ClaimRecord> put;
    std::vector<usbarb::ClaimId> removed;
    for (const auto& change : changes) {
        if (change.claim.observed) continue;
        if (change.what == Change::What::removed) {
            removed.push_back(change.claim.id);
        } else {
            put.push_back(change.claim);
            put.back().boot_id = boot_id_;
        }
    }
    return db_.change_claims(put, removed);
}

void ClaimLedger::tell(const Changes& changes) {
    for (const auto& change : changes) {
        const std::string summary = summary_of(change.claim);
        log::info("{}: {}", event_of(change.what), summary);
        hub_.publish({.event = event_of(change.what),
                      .subject = usbarb::to_text(change.claim.target),
                      .summary = summary,
                      .detail = to_json(change.claim)});
    }
    if (!changes.empty() && listener_) listener_();
}

Result<void> ClaimLedger::record(const Changes& changes) {
    const Changes sum = summed_up(changes);
    TRY(store(sum));
    tell(sum);
    return {};
}

void ClaimLedger::note(const Changes& changes) {
    const Changes sum = summed_up(changes);
    if (auto stored = store(sum); !stored) log::error("{}", stored.error().message());
    tell(sum);
}

Result<void> ClaimLedger::restore() {
    auto records = TRY(db_.claims());
    std::vector<usbarb::ClaimId> dropped;
    std::vector<ClaimRecord> kept;
    for (auto& claim : records) {
        arbiter_.spend_numbers(claim.id);
        if (claim.boot_id != boot_id_ && !outlives_boot(claim)) {
            log::notice("{}: it ended with the boot in which it was made", summary_of(claim));
            dropped.push_back(claim.id);
            continue;
        }
        claim.boot_id = boot_id_;
        kept.push_back(std::move(claim));
    }
    TRY(db_.change_claims({}, dropped));
    // a node may be stored longer than its claim: the number is not another's until it is gone
    const auto nodes = TRY(db_.nodes());
    for (const auto& node : nodes) {
        if (node.usb) arbiter_.spend_numbers(node.usb->claim);
    }
    return record(arbiter_.restore(kept, wall_now()));
}

}  // namespace storctl
