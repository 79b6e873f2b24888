// Release: which claims are meant, by names of what is there and of what is not there any more.

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

using control::Call;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::Verdict;

namespace {

/// After what there is to say of the drivers.
void name_nodes(std::vector<usbarb::ClaimRecord>& claims, const std::map<ClaimId, std::string>& nodes,
                std::string_view goes) {
    for (auto& claim : claims) {
        const auto node = nodes.find(claim.id);
        if (node == nodes.end()) continue;
        claim.message += fmt::format("{}node '{}' {} with it", claim.message.empty() ? "" : "; ", node->second, goes);
    }
}

}  // namespace

void ArbiterCalls::on_release(Call call) {
    const auto& parameters = call.parameters();
    const bool all = parameters.find("targets") == parameters.end() || parameters.at("targets").is_null();
    if (all && text_parameter(parameters, "holder").empty()) {
        return answer_invalid(call, "holder", "", "give a holder, or what is to be released");
    }
    if (!check_holder_parameter(call)) return;
    if (!all && !wanted_targets(call, parameters.at("targets"))) return;
    release(std::make_shared<Call>(std::move(call)));
}

void ArbiterCalls::release(const SharedCall& call) {
    const auto claims = claims_meant(*call);
    if (!claims) return;
    if (flag_parameter(call->parameters(), "dry_run")) return answer_dry_release(*call, *claims);
    release_when_idle(call, *claims);
}

/// Claims and nodes that are still being brought about, or ended by others, have to come to an end first. The claims
/// are those that were meant when it was asked: what was named may be another's by then.
void ArbiterCalls::release_when_idle(const SharedCall& call, const std::vector<ClaimId>& claims) {
    std::vector<ClaimId> left = claims;
    std::erase_if(left, [this](ClaimId id) { return !parts_.ledger.arbiter().find_claim(id); });
    if (!parts_.drivers.busy(left)) return end_nodes_then_release(call, left);
    if (flag_parameter(call->parameters(), "force")) parts_.nodes().hurry(left);
    parts_.drivers.when_idle(left, [this, call, left] { release_when_idle(call, left); });
}

/// From here on nobody else works on these claims.
void ArbiterCalls::end_nodes_then_release(const SharedCall& call, const std::vector<ClaimId>& claims) {
    parts_.drivers.begin_work(claims);
    const bool force = flag_parameter(call->parameters(), "force");
    parts_.nodes().end(claims, force, [this, call, claims, nodes = nodes_over(claims)](const auto& refusal) {
        if (refusal) {
            answer_open(*call, *refusal);
        } else {
            release_now(call, claims, nodes);
        }
        parts_.drivers.end_work(claims);
    });
}

ArbiterCalls::NodesOver ArbiterCalls::nodes_over(const std::vector<ClaimId>& claims) const {
    NodesOver out;
    for (const ClaimId id : claims) {
        if (auto node = parts_.nodes().over(id)) out.emplace(id, *std::move(node));
    }
    return out;
}

void ArbiterCalls::answer_open(Call& call, const ClaimNodes::Refusal& refusal) const {
    if (refusal.blockers.empty()) return call.error("Failed", {{"message", refusal.message}});
    call.error("Refused", {{"message", refusal.message}, {"blockers", blockers_json(refusal.blockers)}});
}

void ArbiterCalls::release_now(const SharedCall& call, const std::vector<ClaimId>& claims, const NodesOver& nodes) {
    const auto& arbiter = parts_.ledger.arbiter();
    for (const ClaimId id : claims) {
        // one may have ended while its node did
        if (!arbiter.find_claim(id)) continue;
        log::notice("{}: release by {}", summary_of(*arbiter.find_claim(id)), control::describe(call->peer()));
    }
    const bool keep_off = optional_parameter<bool>(call->parameters(), "keep_off").value_or(!settings_.return_drivers);
    parts_.releases.release(claims, keep_off, [call, nodes](ClaimReleases::Released released) {
        if (!released.failure.empty()) return call->error("Failed", {{"message", released.failure}});
        name_nodes(released.claims, nodes, "went");
        call->reply({{"released", claims_json(released.claims)}});
    });
}

void ArbiterCalls::answer_dry_release(Call& call, const std::vector<ClaimId>& claims) const {
    const bool force = flag_parameter(call.parameters(), "force");
    if (const auto refusal = parts_.nodes().refusal(claims); refusal && !force) return answer_open(call, *refusal);
    std::vector<usbarb::ClaimRecord> records;
    for (const ClaimId id : claims) records.push_back(*parts_.ledger.arbiter().find_claim(id));
    name_nodes(records, nodes_over(claims), "goes");
    call.reply({{"released", claims_json(records)}});
}

/// Nothing: an error has been answered, and nothing is released.
std::optional<std::vector<ClaimId>> ArbiterCalls::claims_meant(Call& call) const {
    const auto& parameters = call.parameters();
    const auto& arbiter = parts_.ledger.arbiter();
    const std::string holder = text_parameter(parameters, "holder");
    const auto targets = parameters.find("targets");
    if (targets == parameters.end() || targets->is_null())
        return arbiter.claims_of(holder, text_parameter(parameters, "origin"));
    std::vector<ClaimId> out;
    std::vector<usbarb::Blocker> foreign;
    const auto all = *wanted_targets(call, *targets);
    for (const auto& wanted : all) {
        const auto found = claims_called(wanted, holder);
        if (found.size() > 1) {
            std::vector<std::string> candidates;
            for (const ClaimId id : found)
                candidates.push_back(fmt::format("#{}  {}", id, summary_of(*arbiter.find_claim(id))));
            call.error("Ambiguous", {{"what", wanted.what}, {"candidates", candidates}});
            return std::nullopt;
        }
        if (found.empty()) {
            if (!holder.empty() || wanted.optional) continue;
            call.error("NotFound",
                       {{"what", wanted.what},
                        {"message", fmt::format("'{}': there is no claim of it", escape_unprintable(wanted.what))}});
            return std::nullopt;
        }
        const auto claim = *arbiter.find_claim(found.front());
        if (!holder.empty() && claim.holder != holder) {
            foreign.push_back({.target = usbarb::to_text(claim.target),
                               .description = claim.description,
                               .holder = claim.holder,
                               .since = claim.since,
                               .reason = claim.reason});
        } else if (std::find(out.begin(), out.end(), claim.id) == out.end()) {
            out.push_back(claim.id);
        }
    }
    if (foreign.empty()) return out;
    const std::string message = fmt::format("{} is {}'s, not {}'s: nothing was released", foreign.front().target,
                                            foreign.front().holder, holder);
    call.error("Refused", {{"message", message}, {"blockers", blockers_json(foreign)}});
    return std::nullopt;
}

/// Claims that a name means: of what is there, of what was there, or by the claim's own number. Of several the
/// holder's.
std::vector<ClaimId> ArbiterCalls::claims_called(const WantedTarget& wanted, const std::string& holder) const {
    const auto& arbiter = parts_.ledger.arbiter();
    std::vector<ClaimId> found;
    if (wanted.what.starts_with('#')) {
        const auto id = parse_unsigned(wanted.what.substr(1), "claim");
        const auto claim = id ? arbiter.find_claim(*id) : std::nullopt;
        if (claim && !claim->observed) found.push_back(*id);
        return found;
    }
    const auto resolved = wanted.is_pci() ? arbiter.resolve_pci(wanted.what) : arbiter.resolve_usb(wanted.what);
    if (resolved.verdict == Verdict::granted) found = arbiter.claims_on(resolved.target);
    if (found.empty()) {
        for (const ClaimId id : arbiter.claims_of({})) {
            const auto claim = *arbiter.find_claim(id);
            if (wanted.is_pci() != (claim.kind == ClaimKind::controller)) continue;
            const bool by_identity =
                std::any_of(claim.identities.begin(), claim.identities.end(), [&](const auto& identity) {
                    if (!identity) return false;
                    return wanted.what == fmt::format("{:04x}:{:04x}", identity->vendor_id, identity->product_id) ||
                           (!identity->serial.empty() && wanted.what == identity->serial);
                });
            if (by_identity || wanted.what == usbarb::to_text(claim.target)) found.push_back(id);
        }
    }
    std::vector<ClaimId> own = found;
    std::erase_if(own, [&](ClaimId id) { return arbiter.find_claim(id)->holder != holder; });
    return own.empty() ? found : own;
}

}  // namespace storctl
