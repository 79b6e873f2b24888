#pragma once
// What clients ask of io.storctl.Arbiter: parameters checked, targets resolved, the answers of claims, releases and
// explanations. Loop thread only.

#include <chrono>
#include <functional>
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

namespace storctl {

struct WantedTarget;

struct ArbiterSettings {
    std::chrono::seconds grace{30};
    std::chrono::seconds provisional_timeout{120};
    bool consoles_are_used = true;
    bool return_drivers = true;
};

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
    };
    ArbiterCalls(Parts parts, const ArbiterSettings& settings) : parts_(std::move(parts)), settings_(settings) {}

    Result<void> serve(control::Server& server);

 private:
    using SharedCall = std::shared_ptr<control::Call>;

    void on_claim(control::Call call);
    void decide(const SharedCall& call);
    void on_confirm(control::Call call);
    void on_release(control::Call call);
    void release(const SharedCall& call);
    void answer_dry_release(control::Call& call, const std::vector<usbarb::ClaimId>& claims) const;
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
