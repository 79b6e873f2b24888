#pragma once
// Brings drivers to what claims say and back again, and knows which claims are being worked on. Loop thread only.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "daemon/actuator.hpp"
#include "daemon/arbiter_hubs.hpp"
#include "daemon/arbiter_jobs.hpp"
#include "usbarb/arbiter.hpp"

namespace storctl {

class ClaimDrivers {
 public:
    struct Outcome {
        std::map<usbarb::ClaimId, std::string> failures;    ///< a claim that is not named had no trouble
        std::set<usbarb::ClaimId> not_undone;               ///< of the failures: drivers are not as they were before
        std::map<usbarb::ClaimId, std::string> notes;       ///< of what was taken back all the same
        std::map<std::string, std::string> former_drivers;  ///< by function
        bool done() const { return failures.empty(); }
    };
    using Done = std::function<void(Outcome)>;
    /// Actuator::run.
    using Run = std::function<void(usbarb::Job, std::vector<UniqueFd>, Actuator::Done)>;

    ClaimDrivers(const usbarb::Arbiter& arbiter, HeldHubs& hubs, Run run, usbarb::KernelPaths paths);

    /// Drivers off what these claims say. All or nothing: after a failure what was done is undone, and what could not
    /// be is in the message. Where nothing is to be done, `done` comes from inside.
    void bring_about(const std::vector<usbarb::ClaimId>& claims, Done done);
    /// Drivers back, each claim by itself as far as it goes. `done` as above.
    void take_back(const std::vector<usbarb::ClaimId>& claims, Done done);
    /// One more job on behalf of a claim; hubs that it opens are held for the claim.
    void run_for(usbarb::ClaimId claim, usbarb::Job job, std::vector<UniqueFd> in,
                 std::function<void(const usbarb::Outcome&)> done);

    /// A job on behalf of a claim that opens something: the files are the callback's. `done` never from inside.
    void open_for(usbarb::ClaimId claim, usbarb::Job job, Actuator::Done done);

    /// A claim is worked on from the call until its `done` has returned.
    bool busy(const std::vector<usbarb::ClaimId>& claims) const;
    /// For work that is not the drivers': nobody else works on the claims until as many calls of `end_work`, which let
    /// those run that wait.
    void begin_work(const std::vector<usbarb::ClaimId>& claims);
    void end_work(const std::vector<usbarb::ClaimId>& claims);
    /// Once none of them is worked on; from inside when that is so now.
    void when_idle(std::vector<usbarb::ClaimId> claims, std::function<void()> then);

 private:
    struct Batch;
    struct Waiting {
        std::vector<usbarb::ClaimId> claims;
        std::function<void()> then;
    };
    /// `in`: files that jobs need, by job; what is missing is none.
    void start(std::vector<ClaimJob> jobs, std::function<void(std::shared_ptr<Batch>)> done,
               std::vector<std::vector<UniqueFd>> in = {});
    std::vector<std::vector<UniqueFd>> give_back_ports(std::vector<ClaimJob>& jobs,
                                                       const std::vector<usbarb::ClaimId>& claims) const;
    void keep(const ClaimJob& work, std::vector<UniqueFd> held);
    void undo(const std::shared_ptr<Batch>& batch, Done done);

    const usbarb::Arbiter& arbiter_;
    HeldHubs& hubs_;
    Run run_;
    usbarb::KernelPaths paths_;
    std::map<usbarb::ClaimId, int> working_;
    std::vector<Waiting> waiting_;
};

}  // namespace storctl
