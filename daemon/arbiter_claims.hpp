#pragma once
// Claims being made: decided and recorded in one step of the loop, then brought about, or all of it undone. Loop thread
// only.

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/arbiter_drivers.hpp"
#include "daemon/arbiter_ledger.hpp"

namespace storctl {

class ClaimMaker {
 public:
    struct Made {
        usbarb::Decision decision;
        std::string failure;  ///< of a granted request that the kernel did not carry out, or that could not be stored
        std::vector<usbarb::ClaimId> earlier;  ///< of the decision's claims: held before
        std::vector<std::string> warnings;
    };
    using Done = std::function<void(Made)>;

    ClaimMaker(ClaimLedger& ledger, ClaimDrivers& drivers) : ledger_(ledger), drivers_(drivers) {}

    /// The decision is made inside this call, on what the arbiter knows now. `done` comes once drivers are as the
    /// claims want them, or with the reason and everything as before; perhaps from inside. `author`: for the log.
    void claim(const usbarb::Request& request, const std::string& author, Done done);

    /// Established claims whose drivers are not (or no longer) as they should be: each by itself; what fails is shown
    /// as the claim's phase. Those that are being worked on have their turn after that.
    void bring_about_again(const std::vector<usbarb::ClaimId>& claims);

 private:
    struct Work;
    void bring_about(const std::shared_ptr<Work>& work);
    void finish(const std::shared_ptr<Work>& work, const ClaimDrivers::Outcome& outcome);
    void give_back(const std::shared_ptr<Work>& work, const ClaimDrivers::Outcome& made, const std::string& why);
    void undo(Work& work, const std::string& why, const std::set<usbarb::ClaimId>& not_undone);
    void wait_for_earlier(const std::shared_ptr<Work>& work);
    void bring_one_about_again(usbarb::ClaimId id);

    ClaimLedger& ledger_;
    ClaimDrivers& drivers_;
    std::set<usbarb::ClaimId> again_;  ///< wait for their turn
};

}  // namespace storctl
