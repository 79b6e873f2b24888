#pragma once
// Rules at work: which they are, and the claims that they make when a device is plugged in, once per plug and after
// udev has settled it. Loop thread only.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/arbiter_claims.hpp"
#include "daemon/arbiter_ledger.hpp"
#include "daemon/arbiter_uses.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

class RuleBook {
 public:
    static Result<std::unique_ptr<RuleBook>> open(StateDb& db, EventHub& hub, ClaimLedger& ledger, ClaimMaker& maker,
                                                  UseWatch& uses);

    const std::vector<usbarb::Rule>& rules() const { return rules_; }
    /// `rule` without its id, as `check_rule` took it.
    Result<usbarb::Rule> add(usbarb::Rule rule);
    /// False: there is none.
    Result<bool> remove(uint64_t id);

    /// This plug of a device has had its turn already, before this stord was started.
    void mark_seen(const usbarb::DeviceFacts& device) { seen_.insert(device.devnode()); }
    /// udev has settled it: its rule, unless it had its turn.
    void plugged(const usbarb::DeviceFacts& device);
    void unplugged(const usbarb::DeviceFacts& device);
    /// The controller is the host's again: rules that were refused for devices on it get another turn.
    void again(const std::string& controller);

    /// Sentences for `status`: rules whose claim was refused.
    std::vector<std::string> findings() const;

 private:
    struct Waiting {
        usbarb::Socket socket;
        usbarb::Half half;
    };
    RuleBook(StateDb& db, EventHub& hub, ClaimLedger& ledger, ClaimMaker& maker, UseWatch& uses);
    void apply();
    void apply_to(const std::string& node, const Waiting& place);
    void claimed(const usbarb::Rule& rule, const usbarb::DeviceFacts& device, const ClaimMaker::Made& made);
    void failed(const usbarb::Rule& rule, const usbarb::DeviceFacts& device, const std::string& why);

    StateDb& db_;
    EventHub& hub_;
    ClaimLedger& ledger_;
    ClaimMaker& maker_;
    UseWatch& uses_;
    std::vector<usbarb::Rule> rules_;
    std::set<std::string> seen_;              ///< by node: bus and address are another with each plug
    std::map<std::string, Waiting> waiting_;  ///< by node: for the next look at what is used
    bool looking_ = false;
    std::map<std::string, std::string> failed_;  ///< by node
};

}  // namespace storctl
