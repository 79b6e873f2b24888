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

/// One place: a controller (with its root hub), or a socket. It lives while something is in it, below it or counted on
/// it.
struct Node {
    Node* above = nullptr;  ///< null: a controller
    Socket socket;
    Counter in_use;         ///< claims below it
    ClaimId claim = 0;      ///< of a controller: the function's claim
    ClaimId hub_claim = 0;  ///< of a controller: a claim of its root hub
    ClaimId observed = 0;
    struct Plugged {
        DeviceFacts facts;
        bool present = true;
    };
    std::array<std::optional<Plugged>, 2> devices;  ///< by Half
    std::vector<Use> uses;
    // of a controller
    std::optional<ControllerFacts> controller;
    std::array<Counter, 2> bus_in_use;  ///< by Half
    std::map<Socket, std::unique_ptr<Node>> sub;

    bool has_device() const;
    bool is_hub() const;
};

class Topology {
 public:
    Node* find(const Socket& socket) const;
    /// With every place above it.
    Node& make(const Socket& socket);
    /// Forgets the place, and those above it, as far as nothing keeps them.
    void prune(Node* node);
    Node* controller(const std::string& path) const;
    void each_controller(const std::function<void(Node&)>& visit) const;
    /// `from` and all below it, each before what is below it.
    static void walk(Node& from, const std::function<void(Node&)>& visit);

 private:
    std::map<std::string, std::unique_ptr<Node>> controllers_;
};

}  // namespace storctl::usbarb
