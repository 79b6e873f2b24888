#pragma once
// The tree of controllers, hubs and sockets with what is plugged into them. One thread.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "usbarb/claim.hpp"
#include "usbarb/counter.hpp"
#include "usbarb/facts.hpp"

namespace storctl::usbarb {

/// One step down the tree.
struct Hop {
    bool usb3_only = false;
    uint8_t port = 0;
    std::string unit;
    auto operator<=>(const Hop&) const = default;
};

/// One place: a controller (with its root hub), or a socket. It lives while something is in it, below it or held on it.
struct Node {
    Node* above = nullptr;  ///< null: a controller
    Socket socket;
    Counter in_use;         ///< claims below it
    ClaimId claim = 0;      ///< on it; of a controller: the function's
    ClaimId hub_claim = 0;  ///< of a controller: its root hub's
    ClaimId observed = 0;
    struct Plugged {
        DeviceFacts facts;
        bool present = true;  ///< false: seen last before the controller was passed through
    };
    std::array<std::optional<Plugged>, 2> devices;  ///< by Half
    std::vector<Use> uses;
    std::map<Hop, std::unique_ptr<Node>> below;
    // of a controller
    std::optional<ControllerFacts> controller;
    std::array<Counter, 2> bus_in_use;  ///< by Half

    Node() = default;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    bool is_controller() const { return above == nullptr; }
    Node& root();
    const Node& root() const { return const_cast<Node*>(this)->root(); }
    /// Something is plugged in now.
    bool has_device() const;
    /// What is plugged in (or was seen last); the USB 2 half if there are two.
    const DeviceFacts* device() const;
    bool is_hub() const;
    std::string description() const;
    /// What makes the devices in it, or the controller, the same ones again.
    std::array<std::optional<Identity>, 2> identities() const;
    /// Where a claim of this kind is kept: on it, on its root hub, or as observed.
    ClaimId& slot(const ClaimRecord& record);
};

class Topology {
 public:
    Node* find(const Socket& socket) const;
    /// With every place above it.
    Node& make(const Socket& socket);
    /// Forgets the place, and those above it, as far as nothing keeps them.
    void prune(Node* node);
    /// The same for everything below it first.
    void sweep(Node& node);
    Node* controller(const std::string& path) const;
    void each_controller(const std::function<void(Node&)>& visit) const;
    /// `from` and all below it, each before what is below it.
    static void walk(Node& from, const std::function<void(Node&)>& visit);

 private:
    std::map<std::string, std::unique_ptr<Node>> controllers_;
};

}  // namespace storctl::usbarb
