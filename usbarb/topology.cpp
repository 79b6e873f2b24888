#include "usbarb/topology.hpp"

#include <algorithm>

namespace storctl::usbarb {
namespace {

/// The steps from the controller down to the socket.
std::vector<Hop> hops_of(const Socket& socket) {
    std::vector<Hop> hops;
    hops.reserve(socket.ports.size() + 1);
    for (const uint8_t port : socket.ports) {
        hops.push_back({.usb3_only = hops.empty() && socket.usb3_only, .port = port, .unit = {}});
    }
    if (!socket.unit.empty()) hops.push_back({.usb3_only = false, .port = 0, .unit = socket.unit});
    return hops;
}

Socket step_down(const Socket& from, const Hop& hop) {
    Socket socket = from;
    if (hop.unit.empty()) {
        socket.usb3_only = socket.usb3_only || hop.usb3_only;
        socket.ports.push_back(hop.port);
    } else {
        socket.unit = hop.unit;
    }
    return socket;
}

Hop last_hop(const Socket& socket) {
    if (!socket.unit.empty()) return {.usb3_only = false, .port = 0, .unit = socket.unit};
    return {.usb3_only = socket.ports.size() == 1 && socket.usb3_only, .port = socket.ports.back(), .unit = {}};
}

bool is_kept(const Node& node) {
    const bool plugged = node.devices[0].has_value() || node.devices[1].has_value();
    const bool held = node.claim != 0 || node.hub_claim != 0 || node.observed != 0 || node.in_use.value() != 0;
    return plugged || held || node.controller.has_value() || !node.below.empty();
}

}  // namespace

Node& Node::root() {
    Node* node = this;
    while (node->above != nullptr) node = node->above;
    return *node;
}

bool Node::has_device() const {
    return std::any_of(devices.begin(), devices.end(), [](const auto& half) { return half && half->present; });
}

const DeviceFacts* Node::device() const {
    for (const auto& half : devices) {
        if (half && half->present) return &half->facts;
    }
    for (const auto& half : devices) {
        if (half) return &half->facts;
    }
    return nullptr;
}

bool Node::is_hub() const {
    return std::any_of(devices.begin(), devices.end(), [](const auto& half) { return half && half->facts.hub; });
}

std::string Node::description() const {
    if (is_controller()) return controller ? controller->description() : "";
    if (!socket.unit.empty()) return socket.unit;
    const DeviceFacts* facts = device();
    return facts != nullptr ? facts->description() : "";
}

std::array<std::optional<Identity>, 2> Node::identities() const {
    std::array<std::optional<Identity>, 2> out;
    if (controller) out[0] = {.vendor_id = controller->vendor_id, .product_id = controller->device_id, .serial = {}};
    for (size_t half = 0; half < out.size(); ++half) {
        if (devices[half] && devices[half]->present) out[half] = devices[half]->facts.identity;
    }
    return out;
}

ClaimId& Node::slot(const ClaimRecord& record) {
    if (record.observed) return observed;
    return is_controller() && record.kind == ClaimKind::hub ? hub_claim : claim;
}

Node* Topology::controller(const std::string& path) const {
    const auto found = controllers_.find(path);
    return found == controllers_.end() ? nullptr : found->second.get();
}

Node* Topology::find(const Socket& socket) const {
    Node* node = controller(socket.controller);
    for (const Hop& hop : hops_of(socket)) {
        if (node == nullptr) return nullptr;
        const auto found = node->below.find(hop);
        node = found == node->below.end() ? nullptr : found->second.get();
    }
    return node;
}

Node& Topology::make(const Socket& socket) {
    auto& top = controllers_[socket.controller];
    if (!top) {
        top = std::make_unique<Node>();
        top->socket.controller = socket.controller;
    }
    Node* node = top.get();
    for (const Hop& hop : hops_of(socket)) {
        auto& below = node->below[hop];
        if (!below) {
            below = std::make_unique<Node>();
            below->above = node;
            below->socket = step_down(node->socket, hop);
        }
        node = below.get();
    }
    return *node;
}

void Topology::prune(Node* node) {
    while (node != nullptr && !is_kept(*node)) {
        Node* const above = node->above;
        if (above != nullptr) {
            above->below.erase(last_hop(node->socket));
        } else {
            controllers_.erase(std::string(node->socket.controller));
        }
        node = above;
    }
}

void Topology::sweep(Node& node) {
    const auto empty_below = [](const auto& self, Node& at) -> void {
        std::erase_if(at.below, [&](const auto& entry) {
            self(self, *entry.second);
            return !is_kept(*entry.second);
        });
    };
    empty_below(empty_below, node);
    prune(&node);
}

void Topology::each_controller(const std::function<void(Node&)>& visit) const {
    for (const auto& [path, node] : controllers_) visit(*node);
}

void Topology::walk(Node& from, const std::function<void(Node&)>& visit) {
    visit(from);
    for (const auto& [hop, node] : from.below) walk(*node, visit);
}

}  // namespace storctl::usbarb
