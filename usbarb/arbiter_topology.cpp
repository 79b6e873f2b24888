// What comes and goes: controllers, devices, rescans. Each call may come twice, late, or in any order among siblings.

#include <algorithm>
#include <set>

#include "usbarb/arbiter.hpp"

namespace storctl::usbarb {
namespace {

void append(Changes& changes, Changes more) {
    for (auto& change : more) changes.push_back(std::move(change));
}

}  // namespace

std::vector<Node*> Arbiter::all_nodes() const {
    std::vector<Node*> nodes;
    topology_.each_controller(
        [&](Node& controller) { Topology::walk(controller, [&](Node& node) { nodes.push_back(&node); }); });
    return nodes;
}

Changes Arbiter::put_controller(const ControllerFacts& facts) {
    Changes changes;
    Socket socket;
    socket.controller = facts.path;
    Node& node = topology_.make(socket);
    const bool first = !node.controller.has_value();
    node.controller = facts;
    if (first) return_lost(node, changes);
    return changes;
}

Changes Arbiter::remove_controller(const std::string& path, WallTime now) {
    Changes changes;
    Node* const node = topology_.controller(path);
    if (node == nullptr) return changes;
    if (node->claim != 0) lose(get(node->claim), now, changes);
    for (const Half half : {Half::usb2, Half::usb3}) unplug_below(*node, half, now, changes);
    if (node->hub_claim != 0) lose(get(node->hub_claim), now, changes);
    // units: disks and interfaces that lay directly on the function
    Topology::walk(*node, [&](Node& below) {
        if (!below.socket.unit.empty()) lose_place(below, now, changes);
    });
    node->controller.reset();
    topology_.sweep(*node);
    return changes;
}

Changes Arbiter::plug(const DeviceFacts& facts, WallTime now) {
    Changes changes;
    const size_t half = static_cast<size_t>(facts.half);
    if (Node* const there = topology_.find(facts.socket); there != nullptr && there->devices[half]) {
        const auto& before = *there->devices[half];
        const bool same_plug = before.facts.identity == facts.identity && before.facts.bus == facts.bus &&
                               before.facts.address == facts.address && before.facts.hub == facts.hub;
        // another device, or the same one enumerated again: its going was not seen
        if (before.present && !same_plug) changes = unplug(facts.socket, facts.half, now);
    }
    Node& node = topology_.make(facts.socket);
    const bool first = !node.devices[half] || !node.devices[half]->present;
    node.devices[half] = Node::Plugged{.facts = facts};
    if (first) return_lost(node, changes);
    if (node.claim != 0) learn_identities(get(node.claim), node);
    return changes;
}

/// The devices of one half in this place and below. Below a claimed controller they stay known, as absent.
void Arbiter::unplug_below(Node& from, Half half, WallTime now, Changes& changes) {
    const size_t index = static_cast<size_t>(half);
    const bool keep = from.root().claim != 0;
    Topology::walk(from, [&](Node& node) {
        auto& there = node.devices[index];
        if (!there) return;
        if (keep) {
            there->present = false;
        } else {
            there.reset();
        }
        if (!node.has_device()) lose_place(node, now, changes);
    });
}

Changes Arbiter::unplug(const Socket& socket, Half half, WallTime now) {
    Changes changes;
    Node* const node = topology_.find(socket);
    if (node == nullptr || socket.is_root()) return changes;
    unplug_below(*node, half, now, changes);
    topology_.sweep(*node);
    return changes;
}

Changes Arbiter::forget_absent(const std::string& path) {
    Changes changes;
    Node* const controller = topology_.controller(path);
    if (controller == nullptr) return changes;
    Topology::walk(*controller, [](Node& node) {
        for (auto& there : node.devices) {
            if (there && !there->present) there.reset();
        }
    });
    topology_.sweep(*controller);
    return changes;
}

Changes Arbiter::replace_all(const std::vector<ControllerFacts>& controllers, const std::vector<DeviceFacts>& present,
                             WallTime now) {
    Changes changes;
    std::set<std::string> paths;
    for (const auto& facts : controllers) {
        paths.insert(facts.path);
        append(changes, put_controller(facts));
    }
    std::vector<std::string> gone;
    topology_.each_controller([&](Node& node) {
        if (node.controller && !paths.contains(node.socket.controller)) gone.push_back(node.socket.controller);
    });
    for (const auto& path : gone) append(changes, remove_controller(path, now));

    std::set<std::pair<Socket, Half>> there;
    for (const auto& facts : present) there.emplace(facts.socket, facts.half);
    std::vector<std::pair<Socket, Half>> missing;
    for (const Node* node : all_nodes()) {
        for (const Half half : {Half::usb2, Half::usb3}) {
            const auto& plugged = node->devices[static_cast<size_t>(half)];
            if (plugged && plugged->present && !there.contains({node->socket, half})) {
                missing.emplace_back(node->socket, half);
            }
        }
    }
    for (const auto& [socket, half] : missing) append(changes, unplug(socket, half, now));
    std::vector<const DeviceFacts*> order;
    for (const auto& facts : present) order.push_back(&facts);
    std::stable_sort(order.begin(), order.end(), [](const DeviceFacts* a, const DeviceFacts* b) {
        return a->socket.ports.size() < b->socket.ports.size();
    });
    for (const DeviceFacts* facts : order) append(changes, plug(*facts, now));
    return changes;
}

}  // namespace storctl::usbarb
