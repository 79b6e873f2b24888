#pragma once
// What clients ask of io.storctl.Arbiter: parameters checked, targets resolved, the answers of claims, releases and
// explanations. Loop thread only.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/server.hpp"
#include "daemon/arbiter_claims.hpp"
#include "daemon/arbiter_ledger.hpp"
#include "daemon/arbiter_releases.hpp"
#include "daemon/arbiter_rules.hpp"
#include "daemon/arbiter_uses.hpp"
#include "daemon/claim_nodes.hpp"

namespace storctl {

struct WantedTarget;

struct ArbiterSettings {
    std::chrono::seconds grace{30};
    std::chrono::seconds provisional_timeout{120};
    bool consoles_are_used = true;
    bool return_drivers = true;
};

/// One device to be claimed for a node that is to be made over it.
struct DeviceClaim {
    std::string what, holder, origin, reason;
    bool dry_run = false;
    /// Asked in the step in which it is decided, of what arbitration grants. `held`: the holder's claim that is there
    /// already. False: it has answered the call.
    std::function<bool(control::Call&, const usbarb::Socket&, const std::optional<usbarb::ClaimRecord>& held)> accept;
};
struct ClaimedDevice {
    usbarb::ClaimRecord claim;
    bool fresh = false;  ///< made by this request
    std::vector<std::string> warnings;
};
/// Nothing: the call has been answered, and nothing was changed.
using DeviceClaimed = std::function<void(std::optional<ClaimedDevice>)>;

class ArbiterCalls {
 public:
    struct Parts {
        ClaimLedger& ledger;
        ClaimDrivers& drivers;
        ClaimMaker& maker;
        ClaimReleases& releases;
        RuleBook& rules;
        UseWatch& uses;
        std::function<Result<void>()> refresh;  ///< reads all controllers and devices again, now
        std::function<ClaimNodes&()> nodes;
    };
    ArbiterCalls(Parts parts, const ArbiterSettings& settings) : parts_(std::move(parts)), settings_(settings) {}

    using SharedCall = std::shared_ptr<control::Call>;

    Result<void> serve(control::Server& server);
    /// As Claim, within a call of another interface; refusals are answered as this one's errors. `done` once, perhaps
    /// while the claim is still being worked on (ClaimDrivers::when_idle).
    void claim_device(const SharedCall& call, DeviceClaim wanted, DeviceClaimed done);
    enum class Drivers { given_back, as_set };  ///< whatever the settings say, or as they say
    /// `done`: what the host's drivers have to say; empty: nothing.
    void release_own(usbarb::ClaimId id, Drivers drivers, std::function<void(std::string)> done);

 private:
    void on_claim(control::Call call);
    void decide(const SharedCall& call);
    void on_confirm(control::Call call);
    void on_release(control::Call call);
    void release(const SharedCall& call);
    void release_when_idle(const SharedCall& call, const std::vector<usbarb::ClaimId>& claims);
    void end_nodes_then_release(const SharedCall& call, const std::vector<usbarb::ClaimId>& claims);
    /// Nodes by the claims that they were over.
    using NodesOver = std::map<usbarb::ClaimId, std::string>;
    NodesOver nodes_over(const std::vector<usbarb::ClaimId>& claims) const;
    void release_now(const SharedCall& call, const std::vector<usbarb::ClaimId>& claims, const NodesOver& nodes);
    void decide_device(const SharedCall& call, const DeviceClaim& wanted, const DeviceClaimed& done);
    bool refuse_open_device(control::Call& call, const usbarb::ClaimRecord& held) const;
    bool refuse_behind_node(control::Call& call, const usbarb::Request& request) const;
    void answer_unknown_use(control::Call& call, const Error& why) const;
    void answer_open(control::Call& call, const ClaimNodes::Refusal& refusal) const;
    void answer_dry_release(control::Call& call, const std::vector<usbarb::ClaimId>& claims) const;
    void on_open_device(control::Call call);
    void open_device(const SharedCall& call);
    std::optional<usbarb::ClaimRecord> claim_to_open(control::Call& call, const usbarb::Target& target) const;
    void give_device(control::Call& call, usbarb::ClaimId id, const usbarb::DeviceFacts& device,
                     std::vector<UniqueFd> files) const;
    void on_explain(control::Call call);
    void explain(const SharedCall& call);
    void on_add_rule(control::Call call);
    void on_remove_rule(control::Call call);

    /// Fresh knowledge for a decision, then `decide`; a decision without it is an error answer.
    void look_then(const SharedCall& call, bool functions, std::function<void()> decide);
    std::optional<std::vector<usbarb::Target>> resolve(control::Call& call,
                                                       const std::vector<WantedTarget>& wanted) const;
    std::optional<std::vector<usbarb::ClaimId>> claims_meant(control::Call& call) const;
    std::vector<usbarb::ClaimId> claims_called(const WantedTarget& wanted, const std::string& holder) const;
    void answer_claim(control::Call& call, const ClaimMaker::Made& made) const;
    void answer_dry_run(control::Call& call, const usbarb::Request& request);
    void answer_denial(control::Call& call, const usbarb::Decision& decision) const;
    usbarb::ClaimRecord sketch(const usbarb::Target& target, const usbarb::Request& request) const;

    Parts parts_;
    const ArbiterSettings& settings_;
};

}  // namespace storctl
