//   decide ─denied──────────────────────────────────────────► answer
//     │ granted: recorded (pending), one transaction
//     ├─ drivers are the consumer's ────────────────────────► answer
//     └─ drivers.bring_about ─done: recorded (done) ────────► answer
//                            └failed: undone, forgotten ────► answer
//
// A function that could not be undone is not forgotten: its claim stays as one whose release has failed.

#include "daemon/arbiter_claims.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/arbiter_view.hpp"
#include "daemon/crash_point.hpp"

namespace storctl {
namespace {

using usbarb::Change;
using usbarb::Changes;
using usbarb::ClaimId;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::Phase;

void append(Changes& changes, Changes more) {
    for (auto& change : more) changes.push_back(std::move(change));
}

std::string blockers_text(const std::vector<usbarb::Blocker>& blockers) {
    std::string out;
    for (const auto& blocker : blockers) {
        out += fmt::format("; {} by {}: {}", blocker.target, blocker.holder.empty() ? "nobody" : blocker.holder,
                           blocker.reason);
    }
    return out;
}

/// What went while drivers were moved for it, as a sentence; empty: nothing.
std::string lost_meanwhile(const usbarb::Arbiter& arbiter, const std::vector<ClaimId>& fresh) {
    for (const ClaimId id : fresh) {
        const auto claim = arbiter.find_claim(id);
        if (!claim) return "what was claimed was unplugged or released before drivers were off it";
        if (claim->state == ClaimState::lost) {
            return fmt::format("{} was unplugged before drivers were off it", usbarb::to_text(claim->target));
        }
    }
    return "";
}

/// Where a function goes back to, if it is known better now. A function that a claim had moved to vfio-pci before was
/// not there by itself.
std::optional<std::string> former_driver(const ClaimRecord& claim, const ClaimDrivers::Outcome& outcome) {
    if (claim.kind != usbarb::ClaimKind::controller) return std::nullopt;
    const auto former = outcome.former_drivers.find(claim.target.controller);
    if (former == outcome.former_drivers.end()) return std::nullopt;
    const bool first = claim.phase == Phase::pending;
    if (!first && (former->second.empty() || former->second == "vfio-pci")) return std::nullopt;
    return former->second;
}

std::string targets_text(const std::vector<usbarb::Target>& targets) {
    std::vector<std::string> out;
    for (const auto& target : targets) out.push_back(usbarb::to_text(target.socket));
    return join(out, ", ");
}

}  // namespace

struct ClaimMaker::Work {
    usbarb::Request request;
    std::string author;
    Done done;
    Made made;
    std::vector<ClaimId> fresh;    ///< made by this request
    std::vector<ClaimId> retried;  ///< of the earlier ones: those whose drivers are not as they should be
};

void ClaimMaker::claim(const usbarb::Request& request, const std::string& author, Done done) {
    const auto work = std::make_shared<Work>();
    work->request = request;
    work->author = author;
    work->done = std::move(done);
    auto& arbiter = ledger_.arbiter();
    Changes changes;
    auto& decision = work->made.decision = arbiter.claim(request, wall_now(), changes);
    if (!decision.granted()) {
        log::notice("claim of {} for {} by {} refused: {}{}", targets_text(request.targets),
                    escape_unprintable(request.holder), author, decision.why, blockers_text(decision.blockers));
        return work->done(std::move(work->made));
    }
    std::set<ClaimId> added;
    for (const auto& change : changes) {
        if (change.what == Change::What::added && !change.claim.observed) added.insert(change.claim.id);
    }
    for (const ClaimId id : decision.claims) {
        const auto claim = arbiter.find_claim(id);
        if (added.contains(id)) {
            work->fresh.push_back(id);
            if (!request.keep_drivers) append(changes, arbiter.set_phase(id, Phase::pending, ""));
            continue;
        }
        work->made.earlier.push_back(id);
        work->made.warnings.push_back(
            fmt::format("{} was {}'s already (claim {})", usbarb::to_text(claim->target), claim->holder, id));
        if (claim->phase == Phase::failed && !claim->keep_drivers) work->retried.push_back(id);
    }
    if (auto recorded = ledger_.record(changes); !recorded) {
        for (const ClaimId id : work->fresh) {
            append(changes, arbiter.begin_release(id, false));
            append(changes, arbiter.finish_release(id, wall_now()));
        }
        ledger_.note(changes);
        work->made.failure =
            fmt::format("the claim could not be stored, nothing was changed: {}", recorded.error().message());
        return work->done(std::move(work->made));
    }
    crash_point(CrashPoint::claim_recorded);
    for (const ClaimId id : work->fresh) {
        log::notice("{}: granted to {}", summary_of(*arbiter.find_claim(id)), author);
    }
    bring_about(work);
}

void ClaimMaker::bring_about(const std::shared_ptr<Work>& work) {
    std::vector<ClaimId> wanted = work->fresh;
    // work that is under way for an earlier request will tell how that one ends
    std::erase_if(work->retried, [this](ClaimId id) { return drivers_.busy({id}); });
    wanted.insert(wanted.end(), work->retried.begin(), work->retried.end());
    if (work->request.keep_drivers || wanted.empty()) return wait_for_earlier(work);
    drivers_.bring_about(wanted, [this, work](const ClaimDrivers::Outcome& outcome) { finish(work, outcome); });
}

void ClaimMaker::finish(const std::shared_ptr<Work>& work, const ClaimDrivers::Outcome& outcome) {
    crash_point(CrashPoint::claim_actuated);
    auto& arbiter = ledger_.arbiter();
    if (!outcome.done()) {
        std::vector<std::string> reasons;
        for (const auto& [id, message] : outcome.failures) {
            if (std::find(reasons.begin(), reasons.end(), message) == reasons.end()) reasons.push_back(message);
        }
        return undo(*work, join(reasons, "; "), outcome.not_undone);
    }
    if (const std::string lost = lost_meanwhile(arbiter, work->fresh); !lost.empty())
        return give_back(work, outcome, lost);
    Changes changes;
    std::vector<ClaimId> all = work->fresh;
    all.insert(all.end(), work->retried.begin(), work->retried.end());
    for (const ClaimId id : all) {
        const auto claim = arbiter.find_claim(id);
        if (!claim) continue;
        append(changes, arbiter.set_phase(id, Phase::done, "", former_driver(*claim, outcome)));
    }
    ledger_.note(changes);
    wait_for_earlier(work);
}

/// All or nothing: what came through goes back with what did not.
void ClaimMaker::give_back(const std::shared_ptr<Work>& work, const ClaimDrivers::Outcome& made,
                           const std::string& why) {
    std::vector<ClaimId> left;
    for (const ClaimId id : work->fresh) {
        const auto claim = ledger_.arbiter().find_claim(id);
        if (!claim) continue;
        ledger_.note(ledger_.arbiter().set_phase(id, Phase::pending, "", former_driver(*claim, made)));
        left.push_back(id);
    }
    drivers_.take_back(left, [this, work, why](const ClaimDrivers::Outcome& outcome) {
        std::set<ClaimId> not_undone;
        std::string all = why;
        for (const auto& [id, message] : outcome.failures) {
            not_undone.insert(id);
            all += "; drivers are not all back: " + message;
        }
        undo(*work, all, not_undone);
    });
}

/// The drivers are back already, as far as they could be brought back.
void ClaimMaker::undo(Work& work, const std::string& why, const std::set<ClaimId>& not_undone) {
    crash_point(CrashPoint::rollback);
    auto& arbiter = ledger_.arbiter();
    Changes changes;
    for (const ClaimId id : work.fresh) {
        append(changes, arbiter.begin_release(id, false));
        const auto claim = arbiter.find_claim(id);
        if (!claim) continue;
        // with vfio-pci it is nobody else's to use, and whoever releases it tries again
        if (claim->kind == usbarb::ClaimKind::controller && not_undone.contains(id)) {
            append(changes, arbiter.set_phase(id, Phase::failed, why));
        } else {
            append(changes, arbiter.finish_release(id, wall_now()));
        }
    }
    for (const ClaimId id : work.retried) append(changes, arbiter.set_phase(id, Phase::failed, why));
    ledger_.note(changes);
    log::warning("claim of {} for {} by {} undone: {}", targets_text(work.request.targets), work.request.holder,
                 work.author, why);
    work.made.failure = why;
    work.done(std::move(work.made));
}

/// What another request of the same holder is still bringing about is not done before it is.
void ClaimMaker::wait_for_earlier(const std::shared_ptr<Work>& work) {
    drivers_.when_idle(work->made.earlier, [this, work] {
        for (const ClaimId id : work->made.earlier) {
            const auto claim = ledger_.arbiter().find_claim(id);
            if (!claim)
                work->made.failure = "it was given up while an earlier request for it was carried out; try again";
        }
        work->done(std::move(work->made));
    });
}

void ClaimMaker::bring_about_again(const std::vector<ClaimId>& claims) {
    for (const ClaimId id : claims) {
        if (!again_.insert(id).second) continue;
        drivers_.when_idle({id}, [this, id] {
            again_.erase(id);
            bring_one_about_again(id);
        });
    }
}

void ClaimMaker::bring_one_about_again(ClaimId id) {
    auto& arbiter = ledger_.arbiter();
    const auto claim = arbiter.find_claim(id);
    if (!claim || claim->keep_drivers) return;
    // meanwhile
    if (claim->state == ClaimState::releasing || claim->state == ClaimState::lost) return;
    if (const std::string use = host_use_below(arbiter, *claim); !use.empty()) {
        const std::string message = fmt::format("the host uses it: {}; end that and claim it again", use);
        log::warning("{}: {}", summary_of(*claim), message);
        return ledger_.note(arbiter.set_phase(id, Phase::failed, message));
    }
    drivers_.bring_about({id}, [this, id](const ClaimDrivers::Outcome& outcome) {
        const auto failed = outcome.failures.find(id);
        if (failed != outcome.failures.end()) log::warning("claim {} is not in force: {}", id, failed->second);
        const auto now = ledger_.arbiter().find_claim(id);
        if (!now) return;
        ledger_.note(ledger_.arbiter().set_phase(id, outcome.done() ? Phase::done : Phase::failed,
                                                 outcome.done() ? "" : failed->second, former_driver(*now, outcome)));
    });
}

}  // namespace storctl
