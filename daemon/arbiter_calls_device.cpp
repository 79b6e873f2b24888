// One device claimed for a mediated node: as Claim does it, within the call of another interface.

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/text.hpp"
#include "control/peer.hpp"
#include "daemon/arbiter_calls.hpp"
#include "daemon/arbiter_parameters.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {

using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::Request;
using usbarb::Target;

void ArbiterCalls::claim_device(const SharedCall& call, DeviceClaim wanted, DeviceClaimed done) {
    const auto shared = std::make_shared<DeviceClaim>(std::move(wanted));
    parts_.uses.look([this, call, shared, done = std::move(done)](const Result<void>& looked) {
        if (looked) return decide_device(call, *shared, done);
        answer_unknown_use(*call, looked.error());
        done(std::nullopt);
    });
}

/// Like `decide`: nothing else runs between this look at what is there and the recorded claim.
void ArbiterCalls::decide_device(const SharedCall& call, const DeviceClaim& wanted, const DeviceClaimed& done) {
    const auto targets = resolve(*call, {{.bus = "usb", .what = wanted.what}});
    if (!targets) return done(std::nullopt);
    const Target& target = targets->front();
    if (target.kind != ClaimKind::device) {
        answer_invalid(*call, "target", wanted.what,
                       fmt::format("{} is a hub: a node takes one device", usbarb::to_text(target.socket)));
        return done(std::nullopt);
    }
    auto& arbiter = parts_.ledger.arbiter();
    std::optional<ClaimRecord> held;
    for (const ClaimId id : arbiter.claims_on(target)) {
        const auto claim = arbiter.find_claim(id);
        if (claim->holder == wanted.holder && claim->state != usbarb::ClaimState::lost) held = claim;
    }
    const Request request{
        .targets = {target}, .holder = wanted.holder, .origin = wanted.origin, .reason = wanted.reason};
    const auto decision = arbiter.explain(request);
    if (!decision.granted()) {
        log::notice("a node over {} for {} by {} refused: {}", usbarb::to_text(target.socket),
                    escape_unprintable(wanted.holder), control::describe(call->peer()), decision.why);
        answer_denial(*call, decision);
        return done(std::nullopt);
    }
    if (!wanted.accept(*call, target.socket, held)) return done(std::nullopt);
    if (held && refuse_open_device(*call, *held)) return done(std::nullopt);
    if (wanted.dry_run) {
        const auto shown = held ? *held : sketch(target, request);
        return done(ClaimedDevice{.claim = shown, .fresh = !held, .warnings = {}});
    }
    parts_.maker.claim(request, control::describe(call->peer()),
                       [this, call, done, fresh = !held](const ClaimMaker::Made& made) {
                           if (!made.decision.granted() || !made.failure.empty()) {
                               answer_claim(*call, made);
                               return done(std::nullopt);
                           }
                           const auto claim = parts_.ledger.arbiter().find_claim(made.decision.claims.front());
                           if (!claim) {
                               call->error("Failed", {{"message", "the device was unplugged or released meanwhile"}});
                               return done(std::nullopt);
                           }
                           done(ClaimedDevice{.claim = *claim, .fresh = fresh, .warnings = made.warnings});
                       });
}

/// With a claim of its own a holder's programs may have the device open past any node, which would be in their way and
/// they in its. True: refused.
bool ArbiterCalls::refuse_open_device(control::Call& call, const ClaimRecord& held) const {
    std::vector<usbarb::Blocker> blockers;
    std::vector<std::string> reasons;
    for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
        const auto view = parts_.ledger.arbiter().device_at(held.target, half);
        if (!view || !view->present) continue;
        for (const auto& use : *view->uses) {
            if (use.kind != usbarb::UseKind::usbfs && use.kind != usbarb::UseKind::open) continue;
            if (std::find(reasons.begin(), reasons.end(), use.text) != reasons.end()) continue;
            reasons.push_back(use.text);
            blockers.push_back({.target = usbarb::to_text(held.target),
                                .description = held.description,
                                .holder = use.pid == 0 ? "" : fmt::format("proc:{}", use.pid),
                                .since = std::nullopt,
                                .reason = use.text});
        }
    }
    if (blockers.empty()) return false;
    call.error("io.storctl.Arbiter.Refused",
               {{"message", fmt::format("{} is open past any node ({}): end that first", usbarb::to_text(held.target),
                                        join(reasons, ", "))},
                {"blockers", blockers_json(blockers)}});
    return true;
}

/// What a node made, ended with it. What is taken back because it failed leaves no trace, and so no device without its
/// drivers.
void ArbiterCalls::release_own(ClaimId id, Drivers drivers, std::function<void(std::string)> done) {
    parts_.drivers.when_idle({id}, [this, id, drivers, done = std::move(done)] {
        const bool keep_off = drivers == Drivers::as_set && !settings_.return_drivers;
        parts_.releases.release({id}, keep_off, [done](const ClaimReleases::Released& released) {
            std::string said = released.failure;
            for (const auto& claim : released.claims) {
                if (claim.phase != usbarb::Phase::failed) continue;
                said += (said.empty() ? "" : "; ") + claim.message;
            }
            if (!said.empty()) log::warning("a node's claim: {}", said);
            done(std::move(said));
        });
    });
}

}  // namespace storctl
