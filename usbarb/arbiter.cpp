// Claims from their first second to their last. How a claim is decided is in usbarb/gate.cpp; what comes and goes is in
// usbarb/arbiter_topology.cpp, and what that does to claims in usbarb/arbiter_return.cpp.
//
// A claim that is attached to a node fills that node's slot and, unless it is covered or a controller's, holds a lease
// on the counters of everything above. A lost claim is attached to nothing and counts nothing; `lost_` finds it by
// socket.

#include "usbarb/arbiter.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace storctl::usbarb {
namespace {

constexpr ClaimId first_observed_id = ClaimId{1} << 62;

Half counting_half(const Node& node) {
    if (!node.is_controller()) return node.devices[0] && node.devices[0]->present ? Half::usb2 : Half::usb3;
    return !node.controller || node.controller->buses[0] != 0 ? Half::usb2 : Half::usb3;
}

bool counts(const ClaimRecord& record) {
    return record.kind != ClaimKind::controller && !record.covered && record.state != ClaimState::lost;
}

/// The host's own use comes first: it says more than who holds the node.
std::string holder_of(const std::vector<Use>& uses) {
    int pid = 0;
    for (const Use& use : uses) {
        const bool foreign = use.kind == UseKind::usbfs || use.kind == UseKind::open;
        if (!foreign) return "host";
        if (pid == 0) pid = use.pid;
    }
    return fmt::format("proc:{}", pid);
}

std::string text_of(const std::vector<Use>& uses) {
    std::string text;
    for (const Use& use : uses) text += (text.empty() ? "" : ", ") + use.text;
    return text;
}

}  // namespace

Arbiter::Arbiter(Policy policy) : policy_(policy), next_observed_id_(first_observed_id) {}
Arbiter::~Arbiter() = default;

// ---- counting

/// From the nearest hub up to the controller. The bus is not a node of its own; `count` adds it.
std::vector<Node*> Arbiter::counted_by(const Node& node) const {
    std::vector<Node*> out;
    if (node.is_controller()) return {const_cast<Node*>(&node)};
    for (Node* above = node.above; above != nullptr; above = above->above) out.push_back(above);
    return out;
}

void Arbiter::count(Claim& claim) {
    if (claim.node == nullptr || !counts(claim.record)) return uncount(claim);
    std::vector<Counter*> counters;
    for (Node* node : counted_by(*claim.node)) counters.push_back(&node->in_use);
    const bool on_a_bus = claim.record.target.unit.empty();
    if (on_a_bus) counters.push_back(&claim.node->root().bus_in_use[static_cast<size_t>(claim.half)]);
    claim.lease = UseLease::acquire(std::move(counters));
    claim.record.counted = counted_names(claim);
}

void Arbiter::uncount(Claim& claim) {
    claim.lease.release();
    claim.record.counted.clear();
}

std::vector<std::string> Arbiter::counted_names(const Claim& claim) const {
    std::vector<std::string> names;
    for (const Node* node : counted_by(*claim.node)) {
        if (!node->is_controller()) names.push_back(to_text(node->socket));
    }
    const std::string& controller = claim.record.target.controller;
    if (claim.record.target.unit.empty()) names.push_back(fmt::format("{} {}", controller, to_text(claim.half)));
    names.push_back(controller);
    return names;
}

/// What is in the place now is what was claimed, as far as that was not known: the other half of a hub.
void Arbiter::learn_identities(Claim& claim, const Node& node) {
    const auto present = node.identities();
    for (size_t half = 0; half < present.size(); ++half) {
        if (!claim.record.identities[half]) claim.record.identities[half] = present[half];
    }
}

void Arbiter::attach(Claim& claim, Node& node) {
    claim.node = &node;
    claim.half = counting_half(node);
    node.slot(claim.record) = claim.record.id;
    count(claim);
}

void Arbiter::detach(Claim& claim) {
    uncount(claim);
    if (claim.node == nullptr) return;
    claim.node->slot(claim.record) = 0;
    claim.node = nullptr;
}

Arbiter::Claim& Arbiter::hold(Node& node, const Target& target, const Request& request, bool covered, WallTime now) {
    auto claim = std::make_unique<Claim>();
    claim->record = {.id = next_id_++,
                     .kind = target.kind,
                     .target = target.socket,
                     .holder = request.holder,
                     .state = request.provisional_until ? ClaimState::provisional : ClaimState::active,
                     .since = now,
                     .deadline = request.provisional_until,
                     .provisional_until = request.provisional_until,
                     .covered = covered,
                     .origin = request.origin,
                     .reason = request.reason,
                     .identities = node.identities(),
                     .description = node.description(),
                     .follow_socket = request.follow_socket,
                     .keep_drivers = request.keep_drivers,
                     .former_driver = target.kind == ClaimKind::controller ? node.controller->driver : ""};
    Claim& out = *claim;
    claims_.emplace(out.record.id, std::move(claim));
    attach(out, node);
    return out;
}

void Arbiter::forget_lost(ClaimId id) {
    const auto [first, last] = lost_.equal_range(get(id).record.target);
    const auto lost = std::find_if(first, last, [id](const auto& entry) { return entry.second == id; });
    if (lost != last) lost_.erase(lost);
}

void Arbiter::erase(ClaimId id) {
    const auto found = claims_.find(id);
    if (found == claims_.end()) return;
    Node* const node = found->second->node;
    detach(*found->second);
    forget_lost(id);
    claims_.erase(found);
    topology_.prune(node);
}

// ---- the holder's side

Changes Arbiter::confirm(std::string_view holder, std::string_view origin) {
    Changes changes;
    for (const ClaimId id : claims_of(holder, origin)) {
        ClaimRecord& record = get(id).record;
        if (!record.provisional_until) continue;
        record.provisional_until.reset();
        if (record.state == ClaimState::provisional) {
            record.state = ClaimState::active;
            record.deadline.reset();
        }
        changes.push_back({Change::What::changed, record});
    }
    return changes;
}

Changes Arbiter::begin_release(ClaimId id, bool keep_off) {
    const auto found = claims_.find(id);
    if (found == claims_.end() || found->second->record.observed) return {};
    ClaimRecord& record = found->second->record;
    if (record.state == ClaimState::lost) {
        Changes changes{{Change::What::removed, record}};
        erase(id);
        return changes;
    }
    record.state = ClaimState::releasing;
    record.deadline.reset();
    record.provisional_until.reset();
    record.keep_off = record.keep_off || keep_off;
    return {{Change::What::changed, record}};
}

Changes Arbiter::finish_release(ClaimId id, WallTime now) {
    const auto found = claims_.find(id);
    if (found == claims_.end() || found->second->record.state != ClaimState::releasing) return {};
    Changes changes{{Change::What::removed, found->second->record}};
    const Socket target = found->second->record.target;
    const ClaimKind kind = found->second->record.kind;
    erase(id);
    Node* const node = topology_.find(target);
    if (node == nullptr) return changes;
    if (kind == ClaimKind::hub) {
        // what it covered stands on its own from now on
        Topology::walk(*node, [&](Node& below) {
            if (below.claim == 0 || &below == node) return;
            Claim& claim = get(below.claim);
            if (!claim.record.covered || hub_above(below) != nullptr) return;
            claim.record.covered = false;
            count(claim);
            changes.push_back({Change::What::changed, claim.record});
        });
    }
    observe_below(*node, now, changes);
    return changes;
}

Changes Arbiter::set_phase(ClaimId id, Phase phase, std::string message, std::optional<std::string> former_driver) {
    const auto found = claims_.find(id);
    if (found == claims_.end()) return {};
    ClaimRecord& record = found->second->record;
    const bool driver_known = former_driver && *former_driver != record.former_driver;
    if (record.phase == phase && record.message == message && !driver_known) return {};
    record.phase = phase;
    record.message = std::move(message);
    if (former_driver) record.former_driver = std::move(*former_driver);
    return {{Change::What::changed, record}};
}

Changes Arbiter::set_boot(ClaimId id, std::string boot_id) {
    const auto found = claims_.find(id);
    if (found == claims_.end() || found->second->record.boot_id == boot_id) return {};
    found->second->record.boot_id = std::move(boot_id);
    return {{Change::What::changed, found->second->record}};
}

Changes Arbiter::expire(WallTime now) {
    std::vector<ClaimId> over;
    for (const auto& [id, claim] : claims_) {
        const auto& record = claim->record;
        if (!record.observed && record.deadline && *record.deadline <= now) over.push_back(id);
    }
    Changes changes;
    for (const ClaimId id : over) {
        for (auto& change : begin_release(id, false)) changes.push_back(std::move(change));
    }
    return changes;
}

std::optional<WallTime> Arbiter::next_deadline() const {
    std::optional<WallTime> next;
    for (const auto& [id, claim] : claims_) {
        const auto& deadline = claim->record.deadline;
        if (deadline && (!next || *deadline < *next)) next = deadline;
    }
    return next;
}

// ---- what is observed

/// Makes the observed claim of one place what its uses say. A claim that somebody asked for stands instead of it.
void Arbiter::observe(Node& node, WallTime now, Changes& changes) {
    const bool held = node.claim != 0 || node.root().claim != 0 || hub_above(node) != nullptr;
    const bool wanted = !node.uses.empty() && !held && !node.is_controller() && !node.is_hub();
    if (!wanted) {
        if (node.observed == 0) return;
        Claim& claim = get(node.observed);
        changes.push_back({Change::What::removed, claim.record});
        const ClaimId id = claim.record.id;
        detach(claim);
        claims_.erase(id);
        return;
    }
    const std::string holder = holder_of(node.uses);
    const std::string reason = text_of(node.uses);
    if (node.observed != 0) {
        ClaimRecord& record = get(node.observed).record;
        if (record.holder == holder && record.reason == reason) return;
        if (record.holder != holder) record.since = now;
        record.holder = holder;
        record.reason = reason;
        changes.push_back({Change::What::changed, record});
        return;
    }
    auto claim = std::make_unique<Claim>();
    claim->record = {.id = next_observed_id_++,
                     .kind = ClaimKind::device,
                     .target = node.socket,
                     .holder = holder,
                     .since = now,
                     .observed = true,
                     .origin = "observed",
                     .reason = reason,
                     .identities = node.identities(),
                     .description = node.description()};
    Claim& made = *claim;
    claims_.emplace(made.record.id, std::move(claim));
    attach(made, node);
    changes.push_back({Change::What::added, made.record});
}

void Arbiter::observe_below(Node& node, WallTime now, Changes& changes) {
    Topology::walk(node, [&](Node& below) { observe(below, now, changes); });
}

Changes Arbiter::set_uses(const Socket& socket, std::vector<Use> uses, WallTime now) {
    Changes changes;
    Node* node = topology_.find(socket);
    if (!socket.unit.empty() && !uses.empty() && node == nullptr) node = &topology_.make(socket);
    if (node == nullptr) return changes;
    const bool empty_socket = socket.unit.empty() && !node->has_device();
    if (empty_socket) return changes;
    node->uses = std::move(uses);
    observe(*node, now, changes);
    topology_.prune(node);
    return changes;
}

Changes Arbiter::replace_uses(const std::map<Socket, std::vector<Use>>& uses, WallTime now) {
    Changes changes;
    std::vector<Socket> idle;
    for (const Node* node : all_nodes()) {
        if (!node->uses.empty() && !uses.contains(node->socket)) idle.push_back(node->socket);
    }
    for (const Socket& socket : idle) {
        for (auto& change : set_uses(socket, {}, now)) changes.push_back(std::move(change));
    }
    for (const auto& [socket, of_socket] : uses) {
        for (auto& change : set_uses(socket, of_socket, now)) changes.push_back(std::move(change));
    }
    return changes;
}

}  // namespace storctl::usbarb
