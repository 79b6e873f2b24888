#pragma once
// What the arbiter asks of the mediated nodes that live with claims: a claim does not end before its node has. Loop
// thread only.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "usbarb/claim.hpp"

namespace storctl {

class ClaimNodes {
 public:
    struct Refusal {
        std::string message;
        std::vector<usbarb::Blocker> blockers;  ///< who has one open; none: it could not be stopped
    };
    using Ended = std::function<void(std::optional<Refusal>)>;

    virtual ~ClaimNodes() = default;
    /// The node over what is claimed; nothing: there is none.
    virtual std::optional<std::string> over(usbarb::ClaimId claim) const = 0;
    /// The node over the device in this socket, also one that is being made.
    virtual std::optional<std::string> at(const usbarb::Socket& socket) const = 0;
    /// What `end` without force would say at present.
    virtual std::optional<Refusal> refusal(const std::vector<usbarb::ClaimId>& claims) const = 0;
    /// The nodes over these claims are stopped and forgotten; a refusal leaves all of them as they were. By force none
    /// is given. `done` once, perhaps from inside.
    virtual void end(const std::vector<usbarb::ClaimId>& claims, bool force, Ended done) = 0;
    /// Whoever is ending one of them now goes on by force: somebody who means force waits for it.
    virtual void hurry(const std::vector<usbarb::ClaimId>& claims) = 0;
};

/// Before there are any.
class NoClaimNodes final : public ClaimNodes {
 public:
    std::optional<std::string> over(usbarb::ClaimId) const override { return std::nullopt; }
    std::optional<std::string> at(const usbarb::Socket&) const override { return std::nullopt; }
    std::optional<Refusal> refusal(const std::vector<usbarb::ClaimId>&) const override { return std::nullopt; }
    void end(const std::vector<usbarb::ClaimId>&, bool, Ended done) override { done(std::nullopt); }
    void hurry(const std::vector<usbarb::ClaimId>&) override {}
};

}  // namespace storctl
