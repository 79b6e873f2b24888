// The gate: one judgement per target, and requests that are granted whole or leave no trace.
//
// clang-format off
//              already its own?   something above held?   something below?      beside it
//   device     the claim it has   foreign hub: denied     its uses: denied      -
//                                 own hub: covered
//                                 controller: denied
//   hub        the claim it has   as device               any claim: denied     -
//   controller the claim it has   -                       any claim, any use:   what is in its IOMMU group and
//                                                         denied                its companions, if it stays: denied
// clang-format on

#include <algorithm>

#include <fmt/format.h>

#include "usbarb/arbiter.hpp"
#include "usbarb/rules.hpp"

namespace storctl::usbarb {
namespace {

std::string named(const Node& node) {
    const std::string description = node.description();
    const std::string place = to_text(node.socket);
    return description.empty() ? place : fmt::format("{} ({})", place, description);
}

std::string named(const ClaimRecord& record) {
    const std::string place = to_text(record.target);
    return record.description.empty() ? place : fmt::format("{} ({})", place, record.description);
}

/// How its holder is brought to give it up. What libvirt claimed is in a running machine: releasing the claim would not
/// take it out of there.
std::string way_out(const ClaimRecord& record) {
    if (record.origin == "libvirt") return fmt::format("shut {} down or detach it there first", record.holder);
    return fmt::format("release it first (storctl {} release {})", record.kind == ClaimKind::controller ? "pci" : "usb",
                       to_text(record.target));
}

bool has_host_driver(const NeighbourFacts& neighbour) {
    // vfio tolerates functions without a driver, bridges, and those on a stub (Documentation/driver-api/vfio.rst)
    return !neighbour.bridge && !neighbour.driver.empty() && neighbour.driver != "vfio-pci" &&
           neighbour.driver != "pci-stub";
}

bool wants(const Request& request, const std::string& function) {
    return std::any_of(request.targets.begin(), request.targets.end(), [&](const Target& target) {
        return target.kind == ClaimKind::controller && target.socket.controller == function;
    });
}

}  // namespace

Blocker Arbiter::blocker_of(const Claim& claim) const {
    const ClaimRecord& record = claim.record;
    std::string reason = record.reason;
    if (reason.empty()) {
        reason = fmt::format("{} claim, {}", to_text(record.kind),
                             record.state == ClaimState::active ? "held" : to_text(record.state));
    }
    return {.target = to_text(record.target),
            .description = record.description,
            .holder = record.holder,
            .since = record.since,
            .reason = std::move(reason)};
}

/// Also below an own hub, where uses make no claim: the host may have mounted a disk there before its drivers were kept
/// off. What the host does with its drivers stands in the way of whoever wants them off, in its own name, too.
bool Arbiter::is_used_by_other(const Node& node, const Request& request) const {
    const bool hosts = std::any_of(node.uses.begin(), node.uses.end(), [](const Use& use) {
        return use.kind != UseKind::usbfs && use.kind != UseKind::open;
    });
    if (hosts && !(request.keep_drivers && request.holder == "host")) return true;
    return node.observed != 0 && get(node.observed).record.holder != request.holder;
}

/// One for each use: an administrator ends them one by one.
std::vector<Blocker> Arbiter::observed_blockers(const Node& node) const {
    std::vector<Blocker> out;
    const auto since = node.observed != 0 ? std::optional(get(node.observed).record.since) : std::nullopt;
    for (const Use& use : node.uses) {
        const bool foreign = use.kind == UseKind::usbfs || use.kind == UseKind::open;
        out.push_back({.target = to_text(node.socket),
                       .description = node.description(),
                       .holder = foreign ? fmt::format("proc:{}", use.pid) : "host",
                       .since = since,
                       .reason = use.text});
    }
    return out;
}

const Arbiter::Claim* Arbiter::hub_above(const Node& node) const {
    for (const Node* above = node.above; above != nullptr; above = above->above) {
        const ClaimId id = above->is_controller() ? above->hub_claim : above->claim;
        if (id != 0) return &get(id);
    }
    return nullptr;
}

Arbiter::Judgement Arbiter::judge(const Target& target, const Request& request) const {
    const Node* const node = topology_.find(target.socket);
    const bool of_controller = target.socket.is_root();
    // what was seen last behind a claimed controller is refused because of that, not unknown
    const bool seen_last = node != nullptr && node->device() != nullptr && node->root().claim != 0;
    const bool there =
        node != nullptr && (of_controller ? node->controller.has_value() : node->has_device() || seen_last);
    if (!there) {
        return {.granted = false, .missing = true, .why = fmt::format("{} is not there", to_text(target.socket))};
    }
    const bool held_as_function = target.kind == ClaimKind::controller || !of_controller;
    const ClaimId held = held_as_function ? node->claim : node->hub_claim;
    if (held == 0) return judge_place(*node, target, request);
    const Claim& claim = get(held);
    const bool own = claim.record.holder == request.holder;
    if (own && claim.record.state != ClaimState::releasing) return {.existing = held};
    Judgement judgement{.granted = false, .blockers = {blocker_of(claim)}};
    const bool stuck = claim.record.phase == Phase::failed;
    judgement.why =
        own && stuck
            ? fmt::format("{} could not be released ({}): end that and release it again (storctl {} release {})",
                          named(*node), claim.record.message, target.kind == ClaimKind::controller ? "pci" : "usb",
                          to_text(target.socket))
        : own ? fmt::format("{} is being released by {}: wait for its end", named(*node), request.holder)
              : fmt::format("{} is held by {} since {}: {}", named(*node), claim.record.holder,
                            format_time(claim.record.since), way_out(claim.record));
    return judgement;
}

/// A place that nobody has claimed itself.
Arbiter::Judgement Arbiter::judge_place(const Node& node, const Target& target, const Request& request) const {
    Judgement judgement;
    const auto deny = [&](std::string why) {
        // the first reason is the one to begin with; the blockers list all
        if (judgement.why.empty()) judgement.why = std::move(why);
        judgement.granted = false;
    };
    if (target.kind == ClaimKind::controller) {
        judge_function(node, request, judgement);
        return judgement;
    }
    const Node& root = node.root();
    if (root.claim != 0) {
        const ClaimRecord& passed = get(root.claim).record;
        deny(fmt::format("{} is behind {}, which is passed through to {}: {}", named(node), root.socket.controller,
                         passed.holder, way_out(passed)));
        judgement.blockers.push_back(blocker_of(get(root.claim)));
        return judgement;
    }
    if (const Claim* const hub = hub_above(node); hub != nullptr) {
        judgement.covered = hub->record.holder == request.holder;
        if (!judgement.covered) {
            deny(fmt::format("{} is below the hub {}, which is {}'s: {}", named(node), named(hub->record),
                             hub->record.holder, way_out(hub->record)));
            judgement.blockers.push_back(blocker_of(*hub));
        }
    }
    if (!request.adopt && is_used_by_other(node, request)) {
        std::vector<std::string> reasons;
        for (auto& blocker : observed_blockers(node)) {
            reasons.push_back(blocker.reason);
            judgement.blockers.push_back(std::move(blocker));
        }
        deny(fmt::format("{} is in use here: {}", named(node), fmt::join(reasons, ", ")));
    }
    if (target.kind == ClaimKind::hub) judge_below(node, request, judgement);
    return judgement;
}

/// Everything claimed or used below stands in the way, also what the same holder has.
void Arbiter::judge_below(const Node& node, const Request& request, Judgement& judgement) const {
    if (node.in_use.value() == 0 && node.hub_claim == 0) return;
    std::vector<Blocker> found;
    Topology::walk(const_cast<Node&>(node), [&](Node& below) {
        if (below.hub_claim != 0) found.push_back(blocker_of(get(below.hub_claim)));
        if (&below == &node) return;
        if (below.claim != 0 && !get(below.claim).record.covered) found.push_back(blocker_of(get(below.claim)));
        if (below.observed == 0 || request.adopt) return;
        for (auto& blocker : observed_blockers(below)) found.push_back(std::move(blocker));
    });
    if (found.empty()) return;
    judgement.granted = false;
    if (judgement.why.empty()) {
        const Blocker& first = found.front();
        judgement.why = fmt::format("{} cannot be had while anything below it is in use: {} by {} ({}){}", named(node),
                                    first.target, first.holder, first.reason,
                                    found.size() > 1 ? fmt::format(" and {} more", found.size() - 1) : "");
    }
    for (auto& blocker : found) judgement.blockers.push_back(std::move(blocker));
}

void Arbiter::judge_function(const Node& node, const Request& request, Judgement& judgement) const {
    const auto deny = [&](std::string why) {
        if (judgement.why.empty()) judgement.why = std::move(why);
        judgement.granted = false;
    };
    const ControllerFacts& facts = *node.controller;
    if (!facts.pci) deny(fmt::format("{} is not a PCI function: only its devices and hubs can be claimed", facts.path));
    if (facts.bridge)
        deny(fmt::format("{} is a PCI bridge: what is behind it can be claimed, not the bridge", facts.path));
    judge_below(node, request, judgement);
    if (request.adopt || !facts.pci || facts.bridge) return;
    if (!facts.iommu_group) {
        judgement.blockers.push_back(
            {.target = facts.path, .description = facts.description(), .reason = "no IOMMU group: the IOMMU is off"});
        deny(
            fmt::format("{} has no IOMMU group: switch the IOMMU on in the firmware and on the kernel's command line "
                        "(intel_iommu=on, amd_iommu=on)",
                        facts.path));
    }
    const auto check = [&](const NeighbourFacts& neighbour, std::string_view what) {
        const Node* const other = topology_.controller(neighbour.path);
        const ClaimId held = other == nullptr ? 0 : other->claim;
        const bool own = held != 0 && get(held).record.holder == request.holder;
        if (own || wants(request, neighbour.path)) return;
        if (held != 0) {
            judgement.blockers.push_back(blocker_of(get(held)));
            deny(fmt::format("{} and {} are {}, and that is {}'s", facts.path, neighbour.path, what,
                             get(held).record.holder));
        } else if (has_host_driver(neighbour)) {
            judgement.blockers.push_back({.target = neighbour.path,
                                          .description = other == nullptr ? "" : other->description(),
                                          .reason = fmt::format("{}, driver {}", what, neighbour.driver)});
            deny(
                fmt::format("{} and {} are {} and go only together: claim both (storctl pci claim --group {} --for {})",
                            facts.path, neighbour.path, what, facts.path, request.holder));
        }
    };
    for (const auto& neighbour : facts.group) check(neighbour, "in the same IOMMU group");
    for (const auto& neighbour : facts.companions) check(neighbour, "companions on the same sockets");
}

Decision Arbiter::explain(const Request& request) {
    Changes none;
    return attempt(request, WallTime{}, false, none);
}

Decision Arbiter::claim(const Request& request, WallTime now, Changes& changes) {
    return attempt(request, now, true, changes);
}

/// Holds one target after the other, so that each is judged against those before it; unless all are granted and wanted,
/// everything held on the way is given back.
Decision Arbiter::attempt(const Request& request, WallTime now, bool keep, Changes& changes) {
    Decision decision;
    if (auto checked = check_holder(request.holder); !checked) {
        return {.verdict = Verdict::invalid, .why = checked.error().context, .what = request.holder};
    }
    const ClaimId first_new = next_id_;
    std::vector<ClaimId> made;
    for (const Target& target : request.targets) {
        Judgement judgement = judge(target, request);
        if (!judgement.granted) {
            if (decision.granted()) {
                decision.verdict = judgement.missing ? Verdict::not_found : Verdict::denied;
                decision.why = std::move(judgement.why);
                decision.what = to_text(target.socket);
            }
            for (auto& blocker : judgement.blockers) {
                if (std::find(decision.blockers.begin(), decision.blockers.end(), blocker) == decision.blockers.end())
                    decision.blockers.push_back(std::move(blocker));
            }
            continue;
        }
        if (judgement.existing == 0) {
            Node& node = *topology_.find(target.socket);
            judgement.existing = hold(node, target, request, judgement.covered, now).record.id;
            made.push_back(judgement.existing);
        }
        decision.claims.push_back(judgement.existing);
    }
    if (!keep || !decision.granted()) {
        std::for_each(made.rbegin(), made.rend(), [this](ClaimId id) { erase(id); });
        next_id_ = first_new;
        std::erase_if(decision.claims, [first_new](ClaimId id) { return id >= first_new; });
        if (!decision.granted()) decision.claims.clear();
        return decision;
    }
    settle(request, made, decision.claims, now, changes);
    return decision;
}

/// What a granted request changes besides its own claims.
void Arbiter::settle(const Request& request, const std::vector<ClaimId>& made, const std::vector<ClaimId>& all,
                     WallTime now, Changes& changes) {
    for (const ClaimId id : made) {
        Claim& claim = get(id);
        observe_below(*claim.node, now, changes);
        // whatever its holder had lost here is superseded
        std::vector<ClaimId> superseded;
        const auto [first, last] = lost_.equal_range(claim.record.target);
        for (auto entry = first; entry != last; ++entry) {
            if (get(entry->second).record.holder == request.holder) superseded.push_back(entry->second);
        }
        for (const ClaimId old : superseded) {
            changes.push_back({Change::What::removed, get(old).record});
            erase(old);
        }
        changes.push_back({Change::What::added, claim.record});
    }
    for (const ClaimId id : all) {
        ClaimRecord& record = get(id).record;
        if (!record.provisional_until || record.provisional_until == request.provisional_until) continue;
        if (request.provisional_until) {
            // asked for once more while it is being prepared: it takes that long again
            record.provisional_until = record.deadline = request.provisional_until;
            changes.push_back({Change::What::changed, record});
            continue;
        }
        record.provisional_until.reset();
        record.deadline.reset();
        record.state = ClaimState::active;
        changes.push_back({Change::What::changed, record});
    }
}

}  // namespace storctl::usbarb
