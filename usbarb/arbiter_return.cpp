// Claims whose device goes and comes back, also while nobody looks.

#include <algorithm>
#include <set>

#include "usbarb/arbiter.hpp"

namespace storctl::usbarb {

/// `claim` may be gone after it.
void Arbiter::lose(Claim& claim, WallTime now, Changes& changes) {
    detach(claim);
    ClaimRecord& record = claim.record;
    record.covered = false;
    if (record.state == ClaimState::releasing) {
        // nothing is left to bring back
        changes.push_back({Change::What::removed, record});
        claims_.erase(record.id);
        return;
    }
    record.state = ClaimState::lost;
    record.deadline = now + policy_.grace;
    if (record.provisional_until) record.deadline = std::min(*record.deadline, *record.provisional_until);
    lost_.emplace(record.target, record.id);
    changes.push_back({Change::What::lost, record});
}

/// Whatever was held in a place that is empty now.
void Arbiter::lose_place(Node& node, WallTime now, Changes& changes) {
    node.uses.clear();
    if (const ClaimId id = node.observed; id != 0) {
        changes.push_back({Change::What::removed, get(id).record});
        detach(get(id));
        claims_.erase(id);
    }
    if (node.claim != 0) lose(get(node.claim), now, changes);
}

bool Arbiter::may_return(const Claim& claim, const Node& node) const {
    if (claim.record.follow_socket) return true;
    const auto present = node.identities();
    for (size_t half = 0; half < present.size(); ++half) {
        const auto& wanted = claim.record.identities[half];
        if (wanted && present[half] == wanted) return true;
    }
    return false;
}

/// Takes what the holder has claimed below its hub out of the counters. False, and nothing changed, when anything below
/// is somebody else's.
bool Arbiter::cover_below(Node& hub, const std::string& holder, Changes& changes) {
    std::vector<Claim*> own;
    bool foreign = false;
    Topology::walk(hub, [&](Node& node) {
        if (&node == &hub) return;
        if (node.observed != 0) foreign = true;
        if (node.claim == 0) return;
        Claim& claim = get(node.claim);
        if (claim.record.holder != holder) foreign = true;
        if (!claim.record.covered) own.push_back(&claim);
    });
    if (foreign) return false;
    for (Claim* claim : own) {
        claim->record.covered = true;
        uncount(*claim);
        changes.push_back({Change::What::changed, claim->record});
    }
    return true;
}

/// What a claim that was lost is held up by, now that its target is there again; else it takes what is below it along.
bool Arbiter::can_return(const Claim& claim, Node& node, Changes& changes) {
    const ClaimRecord& record = claim.record;
    if (node.root().claim != 0 || !may_return(claim, node)) return false;
    if (record.kind == ClaimKind::controller) return node.in_use.value() == 0 && node.hub_claim == 0;
    const bool is_hub = node.is_controller() || node.is_hub();
    if (node.slot(record) != 0 || is_hub != (record.kind == ClaimKind::hub)) return false;
    const Claim* const hub = hub_above(node);
    if (hub != nullptr && hub->record.holder != record.holder) return false;
    return !is_hub || cover_below(node, record.holder, changes);
}

void Arbiter::return_lost(Node& node, Changes& changes) {
    std::vector<ClaimId> candidates;
    const auto [first, last] = lost_.equal_range(node.socket);
    for (auto entry = first; entry != last; ++entry) candidates.push_back(entry->second);
    // who had it last is the first to have it again
    std::sort(candidates.begin(), candidates.end(), [this](ClaimId a, ClaimId b) {
        return std::pair(get(a).record.deadline, a) > std::pair(get(b).record.deadline, b);
    });
    for (const ClaimId id : candidates) {
        Claim& claim = get(id);
        if (!can_return(claim, node, changes)) continue;
        ClaimRecord& record = claim.record;
        record.covered = record.kind != ClaimKind::controller && hub_above(node) != nullptr;
        record.state = record.provisional_until ? ClaimState::provisional : ClaimState::active;
        record.deadline = record.provisional_until;
        record.description = node.description();
        if (record.follow_socket) record.identities = {};
        learn_identities(claim, node);
        forget_lost(id);
        attach(claim, node);
        changes.push_back({Change::What::restored, record});
        return;
    }
}

// ---- across restarts

Changes Arbiter::restore(const std::vector<ClaimRecord>& records, WallTime now) {
    Changes changes;
    std::vector<const ClaimRecord*> order;
    for (const auto& record : records) order.push_back(&record);
    // what covers comes before what it covers
    std::stable_sort(order.begin(), order.end(), [](const ClaimRecord* a, const ClaimRecord* b) {
        const auto rank = [](const ClaimRecord* r) {
            return std::pair(r->kind == ClaimKind::controller ? 0
                             : r->kind == ClaimKind::hub      ? 1
                                                              : 2,
                             r->target.ports.size());
        };
        return rank(a) < rank(b);
    });
    for (const ClaimRecord* record : order) {
        next_id_ = std::max(next_id_, record->id + 1);
        auto owned = std::make_unique<Claim>();
        owned->record = *record;
        Claim& claim = *owned;
        claim.record.counted.clear();
        if (claims_.contains(record->id)) continue;
        claims_.emplace(record->id, std::move(owned));
        if (record->state == ClaimState::lost) {
            lost_.emplace(record->target, record->id);
            changes.push_back({Change::What::added, claim.record});
            continue;
        }
        Node* const node = topology_.find(record->target);
        if (node == nullptr || !fits(claim, *node)) {
            lose(claim, now, changes);
            continue;
        }
        claim.record.covered = record->kind != ClaimKind::controller && hub_above(*node) != nullptr;
        if (const ClaimId seen = node->observed; seen != 0) {
            detach(get(seen));
            claims_.erase(seen);
        }
        attach(claim, *node);
        changes.push_back({Change::What::added, claim.record});
    }
    // what came back while nobody looked: when it did is not known, so that its grace period says nothing
    std::set<Socket> waiting;
    for (const auto& [socket, id] : lost_) waiting.insert(socket);
    for (const Socket& socket : waiting) {
        Node* const node = topology_.find(socket);
        const bool there = node != nullptr && (node->controller || node->has_device());
        if (there) return_lost(*node, changes);
    }
    return changes;
}

/// As far as the topology tells: that it is there, and that nobody else has it.
bool Arbiter::fits(const Claim& claim, const Node& node) const {
    const ClaimRecord& record = claim.record;
    if (record.kind == ClaimKind::controller) {
        return node.is_controller() && node.controller && node.claim == 0 && may_return(claim, node);
    }
    if (node.root().claim != 0) return false;
    if (record.kind == ClaimKind::hub && node.is_controller()) return node.controller && node.hub_claim == 0;
    const Claim* const hub = hub_above(node);
    const bool foreign_hub = hub != nullptr && hub->record.holder != record.holder;
    return node.claim == 0 && !foreign_hub && may_return(claim, node);
}

}  // namespace storctl::usbarb
