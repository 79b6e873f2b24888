// Looking: what is there, who has it, and the counters twice: as they are kept and as they should be.

#include <fmt/format.h>

#include "usbarb/arbiter.hpp"

namespace storctl::usbarb {

std::vector<ClaimRecord> Arbiter::claims() const {
    std::vector<ClaimRecord> out;
    out.reserve(claims_.size());
    for (const auto& [id, claim] : claims_) out.push_back(claim->record);
    return out;
}

std::optional<ClaimRecord> Arbiter::find_claim(ClaimId id) const {
    const auto found = claims_.find(id);
    return found == claims_.end() ? std::nullopt : std::optional(found->second->record);
}

std::vector<ClaimId> Arbiter::claims_of(std::string_view holder, std::string_view origin) const {
    std::vector<ClaimId> out;
    for (const auto& [id, claim] : claims_) {
        const ClaimRecord& record = claim->record;
        const bool asked = (holder.empty() || record.holder == holder) && (origin.empty() || record.origin == origin);
        if (asked && !record.observed) out.push_back(id);
    }
    return out;
}

std::vector<ClaimId> Arbiter::claims_on(const Target& target) const {
    std::vector<ClaimId> out;
    for (const auto& [id, claim] : claims_) {
        const ClaimRecord& record = claim->record;
        if (!record.observed && record.kind == target.kind && record.target == target.socket) out.push_back(id);
    }
    return out;
}

void Arbiter::each_controller(const std::function<void(const ControllerView&)>& visit) const {
    topology_.each_controller([&](Node& node) {
        if (!node.controller) return;
        ControllerView view{.facts = &*node.controller,
                            .in_use = node.in_use.value(),
                            .bus_in_use = {node.bus_in_use[0].value(), node.bus_in_use[1].value()},
                            .claim = node.claim == 0 ? nullptr : &get(node.claim).record,
                            .root_claim = node.hub_claim == 0 ? nullptr : &get(node.hub_claim).record,
                            .uses = {}};
        for (const auto& [hop, below] : node.below) {
            if (!hop.unit.empty() && !below->uses.empty()) view.uses.emplace(hop.unit, &below->uses);
        }
        visit(view);
    });
}

Arbiter::DeviceView Arbiter::view_of(const Node& node, Half half) const {
    const Node::Plugged& there = *node.devices[static_cast<size_t>(half)];
    const Claim* const hub = hub_above(node);
    const ClaimId own = node.claim != 0 ? node.claim : node.observed;
    const ClaimRecord* const above = hub == nullptr ? nullptr : &hub->record;
    return {.facts = &there.facts,
            .present = there.present,
            .in_use = node.in_use.value(),
            .claim = own != 0 ? &get(own).record : above,
            .uses = &node.uses};
}

void Arbiter::each_device(const std::function<void(const DeviceView&)>& visit) const {
    for (const Node* node : all_nodes()) {
        for (const Half half : {Half::usb2, Half::usb3}) {
            if (node->devices[static_cast<size_t>(half)]) visit(view_of(*node, half));
        }
    }
}

std::optional<Arbiter::DeviceView> Arbiter::device_at(const Socket& socket, Half half) const {
    const Node* const node = topology_.find(socket);
    if (node == nullptr || !node->devices[static_cast<size_t>(half)]) return std::nullopt;
    return view_of(*node, half);
}

std::vector<const DeviceFacts*> Arbiter::below(const Socket& hub) const {
    std::vector<const DeviceFacts*> out;
    Node* const from = topology_.find(hub);
    if (from == nullptr) return out;
    Topology::walk(*from, [&](Node& node) {
        for (const auto& there : node.devices) {
            if (there && there->present) out.push_back(&there->facts);
        }
    });
    return out;
}

const ClaimRecord* Arbiter::covering(const Socket& socket) const {
    // a socket in which nothing is has no place of its own: the nearest above it has
    Socket at = socket;
    while (true) {
        if (const Node* const node = topology_.find(at); node != nullptr) {
            if (at != socket) {
                const ClaimId own = node->is_controller() ? node->hub_claim : node->claim;
                if (own != 0) return &get(own).record;
            }
            const Claim* const hub = hub_above(*node);
            return hub == nullptr ? nullptr : &hub->record;
        }
        if (at.is_root()) return nullptr;
        at = at.parent();
    }
}

const ControllerFacts* Arbiter::controller(const std::string& path) const {
    const Node* const node = topology_.controller(path);
    return node != nullptr && node->controller ? &*node->controller : nullptr;
}

std::map<std::string, uint32_t> Arbiter::counters() const {
    std::map<std::string, uint32_t> out;
    for (const Node* node : all_nodes()) {
        const std::string name = to_text(node->socket);
        if (node->in_use.value() != 0) out[name] = node->in_use.value();
        for (const Half half : {Half::usb2, Half::usb3}) {
            const uint32_t on_bus = node->bus_in_use[static_cast<size_t>(half)].value();
            if (on_bus != 0) out[fmt::format("{} {}", name, to_text(half))] = on_bus;
        }
    }
    return out;
}

/// Knows nothing of nodes, leases or slots: sockets and claims only.
std::map<std::string, uint32_t> Arbiter::recount() const {
    std::map<std::string, uint32_t> out;
    for (const auto& [id, claim] : claims_) {
        const ClaimRecord& record = claim->record;
        const bool counts = record.kind != ClaimKind::controller && !record.covered && claim->node != nullptr;
        if (!counts) continue;
        Socket at = record.target;
        while (!at.is_root()) {
            at = at.parent();
            ++out[to_text(at)];
        }
        if (record.target.is_root()) ++out[to_text(at)];
        if (record.target.unit.empty()) ++out[fmt::format("{} {}", at.controller, to_text(claim->half))];
    }
    return out;
}

}  // namespace storctl::usbarb
