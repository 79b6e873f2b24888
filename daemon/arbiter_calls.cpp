#include "daemon/arbiter_calls.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/text.hpp"
#include "control/interfaces.hpp"
#include "control/peer.hpp"
#include "daemon/arbiter_parameters.hpp"
#include "daemon/arbiter_view.hpp"
#include "daemon/author.hpp"

namespace storctl {
namespace {

using control::Call;
using nlohmann::json;
using usbarb::Arbiter;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::Request;
using usbarb::Target;
using usbarb::Verdict;

constexpr std::string_view any_machine = "vm:?";

/// In full, since the call may be another interface's.
std::string own_error(std::string_view name) { return fmt::format("io.storctl.Arbiter.{}", name); }

}  // namespace

Result<void> ArbiterCalls::serve(control::Server& server) {
    using control::Access;
    std::vector<control::Method> methods;
    methods.push_back(
        {"Inventory", Access::read, [this](Call call) { call.reply(inventory_json(parts_.ledger.arbiter())); }});
    methods.push_back({"Claims", Access::read, [this](Call call) {
                           call.reply({{"claims", claims_json(parts_.ledger.arbiter().claims())}});
                       }});
    methods.push_back({"Claim", Access::change, [this](Call call) { on_claim(std::move(call)); }});
    methods.push_back({"Confirm", Access::change, [this](Call call) { on_confirm(std::move(call)); }});
    methods.push_back({"Release", Access::change, [this](Call call) { on_release(std::move(call)); }});
    methods.push_back({"OpenDevice", Access::change, [this](Call call) { on_open_device(std::move(call)); }});
    methods.push_back({"Explain", Access::read, [this](Call call) { on_explain(std::move(call)); }});
    methods.push_back({"ListRules", Access::read, [this](Call call) {
                           json rules = json::array();
                           for (const auto& rule : parts_.rules.rules()) rules.push_back(to_json(rule));
                           call.reply({{"rules", std::move(rules)}});
                       }});
    methods.push_back({"AddRule", Access::change, [this](Call call) { on_add_rule(std::move(call)); }});
    methods.push_back({"RemoveRule", Access::change, [this](Call call) { on_remove_rule(std::move(call)); }});
    return server.add_interface(control::io_storctl_arbiter, std::move(methods));
}

// ---- what is meant

std::optional<std::vector<Target>> ArbiterCalls::resolve(Call& call, const std::vector<WantedTarget>& wanted) const {
    const Arbiter& arbiter = parts_.ledger.arbiter();
    std::vector<Target> out;
    for (const auto& one : wanted) {
        auto found = one.is_pci() ? arbiter.resolve_pci(one.what) : arbiter.resolve_usb(one.what);
        switch (found.verdict) {
            case Verdict::granted:
                break;
            case Verdict::not_found:
                if (one.optional) continue;
                call.error(own_error("NotFound"), {{"what", one.what}, {"message", found.why}});
                return std::nullopt;
            case Verdict::ambiguous:
                call.error(own_error("Ambiguous"), {{"what", one.what}, {"candidates", found.candidates}});
                return std::nullopt;
            case Verdict::denied:
            case Verdict::invalid:
                answer_invalid(call, "what", one.what, found.why);
                return std::nullopt;
        }
        if (std::find(out.begin(), out.end(), found.target) == out.end()) out.push_back(std::move(found.target));
    }
    return out;
}

/// A function is asked again, since nobody tells of a driver that was bound by hand a moment ago.
void ArbiterCalls::look_then(const SharedCall& call, bool functions, std::function<void()> decide) {
    parts_.uses.look([this, call, functions, decide = std::move(decide)](const Result<void>& looked) {
        auto known = looked;
        if (known && functions) known = parts_.refresh();
        if (known) return decide();
        answer_unknown_use(*call, known.error());
    });
}

void ArbiterCalls::answer_unknown_use(Call& call, const Error& why) const {
    call.error(
        "Failed",
        {{"message", fmt::format("nothing was changed: what this host uses cannot be found out: {}", why.message())}});
}

// ---- Claim

void ArbiterCalls::on_claim(Call call) {
    const auto& parameters = call.parameters();
    const auto wanted = wanted_targets(call, parameters.at("targets"));
    if (!wanted) return;
    if (!check_claim_texts(call)) return;
    const bool functions =
        std::any_of(wanted->begin(), wanted->end(), [](const WantedTarget& one) { return one.is_pci(); });
    const auto shared = std::make_shared<Call>(std::move(call));
    look_then(shared, functions, [this, shared] { decide(shared); });
}

/// From here to the recorded claim nothing else runs: of two requests for one thing exactly one finds it free.
void ArbiterCalls::decide(const SharedCall& call) {
    const auto& parameters = call->parameters();
    auto targets = resolve(*call, *wanted_targets(*call, parameters.at("targets")));
    if (!targets) return;
    Request request{.holder = parameters.at("holder"),
                    .keep_drivers = flag_parameter(parameters, "keep_drivers"),
                    .adopt = flag_parameter(parameters, "adopt"),
                    .origin = optional_parameter<std::string>(parameters, "origin").value_or("admin"),
                    .reason = text_parameter(parameters, "reason")};
    for (const auto& target : *targets) {
        const bool with_group = target.kind == ClaimKind::controller && flag_parameter(parameters, "group");
        for (auto& one : with_group ? parts_.ledger.arbiter().with_group(target) : std::vector<Target>{target}) {
            const bool new_one =
                std::find(request.targets.begin(), request.targets.end(), one) == request.targets.end();
            if (new_one) request.targets.push_back(std::move(one));
        }
    }
    if (flag_parameter(parameters, "provisional"))
        request.provisional_until = wall_now() + settings_.provisional_timeout;
    if (request.targets.empty()) {
        return call->reply({{"claims", json::array()}, {"earlier", json::array()}, {"warnings", json::array()}});
    }
    if (request.keep_drivers && !request.adopt && refuse_behind_node(*call, request)) return;
    if (flag_parameter(parameters, "dry_run")) return answer_dry_run(*call, request);
    parts_.maker.claim(request, control::describe(call->peer()),
                       [this, call, holder = request.holder](const ClaimMaker::Made& made) {
                           if (!call->alive())
                               log::notice("the client that claimed for {} is gone; what was decided stands",
                                           escape_unprintable(holder));
                           answer_claim(*call, made);
                       });
}

void ArbiterCalls::answer_denial(Call& call, const usbarb::Decision& decision) const {
    switch (decision.verdict) {
        case Verdict::granted:
            return;
        case Verdict::denied:
            return call.error(own_error("Refused"),
                              {{"message", decision.why}, {"blockers", blockers_json(decision.blockers)}});
        case Verdict::not_found:
            return call.error(own_error("NotFound"), {{"what", decision.what}, {"message", decision.why}});
        case Verdict::ambiguous:
            return call.error(own_error("Ambiguous"), {{"what", decision.what}, {"candidates", decision.candidates}});
        case Verdict::invalid:
            return answer_invalid(call, "holder", decision.what, decision.why);
    }
}

void ArbiterCalls::answer_claim(Call& call, const ClaimMaker::Made& made) const {
    if (!made.decision.granted()) return answer_denial(call, made.decision);
    if (!made.failure.empty()) return call.error("Failed", {{"message", made.failure}});
    json claims = json::array();
    for (const ClaimId id : made.decision.claims) {
        if (const auto claim = parts_.ledger.arbiter().find_claim(id)) claims.push_back(to_json(*claim));
    }
    call.reply({{"claims", std::move(claims)}, {"earlier", made.earlier}, {"warnings", made.warnings}});
}

void ArbiterCalls::answer_dry_run(Call& call, const Request& request) {
    const auto decision = parts_.ledger.arbiter().explain(request);
    if (!decision.granted()) return answer_denial(call, decision);
    json claims = json::array(), earlier = json::array();
    for (const auto& target : request.targets) {
        claims.push_back(to_json(sketch(target, request)));
        for (const ClaimId id : parts_.ledger.arbiter().claims_on(target)) {
            if (parts_.ledger.arbiter().find_claim(id)->holder == request.holder) earlier.push_back(id);
        }
    }
    call.reply({{"claims", std::move(claims)}, {"earlier", std::move(earlier)}, {"warnings", json::array()}});
}

/// Who moves drivers itself would do so under a node over what it has already. True: refused.
bool ArbiterCalls::refuse_behind_node(Call& call, const Request& request) const {
    const Arbiter& arbiter = parts_.ledger.arbiter();
    for (const auto& target : request.targets) {
        const auto node = parts_.nodes().at(target.socket);
        if (!node || target.kind != ClaimKind::device) continue;
        for (const auto id : arbiter.claims_on(target)) {
            const auto claim = *arbiter.find_claim(id);
            if (claim.holder != request.holder) continue;
            const auto message =
                fmt::format("{} is behind node '{}': use that, or remove it first", summary_of(claim), *node);
            const usbarb::Blocker blocker{.target = usbarb::to_text(claim.target),
                                          .description = claim.description,
                                          .holder = claim.holder,
                                          .since = claim.since,
                                          .reason = fmt::format("behind node '{}'", *node)};
            call.error("Refused", {{"message", message}, {"blockers", blockers_json({blocker})}});
            return true;
        }
    }
    return false;
}

/// The claim as it would be, without an id.
ClaimRecord ArbiterCalls::sketch(const Target& target, const Request& request) const {
    ClaimRecord out{.kind = target.kind,
                    .target = target.socket,
                    .holder = request.holder,
                    .state = request.provisional_until ? usbarb::ClaimState::provisional : usbarb::ClaimState::active,
                    .since = wall_now(),
                    .deadline = request.provisional_until,
                    .observed = true,
                    .origin = request.origin,
                    .reason = request.reason,
                    .keep_drivers = request.keep_drivers};
    const Arbiter& arbiter = parts_.ledger.arbiter();
    for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
        const auto view = arbiter.device_at(target.socket, half);
        if (view && out.description.empty()) out.description = view->facts->description();
    }
    const auto* controller = arbiter.controller(target.socket.controller);
    if (target.socket.is_root() && controller != nullptr) out.description = controller->description();
    return out;
}

void ArbiterCalls::on_confirm(Call call) {
    const std::string holder = call.parameters().at("holder");
    const std::string origin = text_parameter(call.parameters(), "origin");
    auto& arbiter = parts_.ledger.arbiter();
    const auto changes = arbiter.confirm(holder, origin);
    if (auto recorded = parts_.ledger.record(changes); !recorded) {
        return call.error("Failed", {{"message", recorded.error().message()}});
    }
    json claims = json::array();
    for (const ClaimId id : arbiter.claims_of(holder, origin)) claims.push_back(to_json(*arbiter.find_claim(id)));
    call.reply({{"claims", std::move(claims)}});
}

// ---- Explain

void ArbiterCalls::on_explain(Call call) {
    json targets = json::array();
    targets.push_back(call.parameters().at("target"));
    const auto wanted = wanted_targets(call, targets);
    if (!wanted) return;
    if (!check_holder_parameter(call)) return;
    const auto shared = std::make_shared<Call>(std::move(call));
    // anybody may ask: an enumeration is not theirs to cause
    look_then(shared, false, [this, shared] { explain(shared); });
}

void ArbiterCalls::explain(const SharedCall& call) {
    json targets = json::array();
    targets.push_back(call->parameters().at("target"));
    const auto found = resolve(*call, *wanted_targets(*call, targets));
    if (!found) return;
    if (found->empty()) return call->error("NotFound", {{"what", targets[0].at("what")}});
    auto& arbiter = parts_.ledger.arbiter();
    const Target& target = found->front();
    Request request{.targets = {target}, .holder = text_parameter(call->parameters(), "holder")};
    if (request.holder.empty()) request.holder = any_machine;
    const auto decision = arbiter.explain(request);
    if (decision.verdict == Verdict::not_found || decision.verdict == Verdict::invalid)
        return answer_denial(*call, decision);
    json claims = json::array();
    const auto* covering = arbiter.covering(target.socket);
    for (const auto& claim : arbiter.claims()) {
        const bool within = target.kind != ClaimKind::device && claim.target.is_below(target.socket);
        const bool above = covering != nullptr && covering->id == claim.id;
        const bool passed = claim.kind == ClaimKind::controller && claim.target.controller == target.socket.controller;
        if (claim.target == target.socket || within || above || passed) claims.push_back(to_json(claim));
    }
    const ClaimRecord shown = sketch(target, request);
    call->reply({{"granted", decision.granted()},
                 {"why", decision.granted()
                             ? fmt::format("{} can be claimed: nothing is in the way", usbarb::to_text(target.socket))
                             : decision.why},
                 {"kind", to_text(target.kind)},
                 {"target", usbarb::to_text(target.socket)},
                 {"description", to_json(shown).at("description")},
                 {"blockers", blockers_json(decision.blockers)},
                 {"claims", std::move(claims)}});
}

// ---- rules

void ArbiterCalls::on_add_rule(Call call) {
    auto wanted = wanted_rule(call);
    if (!wanted) return;
    usbarb::Rule rule = std::move(*wanted);
    rule.created = wall_now();
    rule.created_by = author_of(call.peer());
    const auto added = parts_.rules.add(std::move(rule));
    if (!added) return call.error("Failed", {{"message", added.error().message()}});
    log::notice("rule {} for {} added by {}", added->id, escape_unprintable(added->holder),
                control::describe(call.peer()));
    call.reply({{"rule", to_json(*added)}});
}

void ArbiterCalls::on_remove_rule(Call call) {
    const int64_t id = call.parameters().at("id");
    const auto removed = parts_.rules.remove(static_cast<uint64_t>(id));
    if (!removed) return call.error("Failed", {{"message", removed.error().message()}});
    if (!*removed) return call.error("RuleNotFound", {{"id", id}});
    log::notice("rule {} removed by {}", id, control::describe(call.peer()));
    call.reply(json::object());
}

}  // namespace storctl
