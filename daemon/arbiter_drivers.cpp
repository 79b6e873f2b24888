#include "daemon/arbiter_drivers.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace storctl {
namespace {

using usbarb::Action;
using usbarb::ClaimId;
using usbarb::Job;

bool is_there(const usbarb::Arbiter& arbiter, const std::string& devnode) {
    bool there = false;
    arbiter.each_device([&](const usbarb::Arbiter::DeviceView& view) {
        if (view.present && view.facts->devnode() == devnode) there = true;
    });
    arbiter.each_controller([&](const usbarb::Arbiter::ControllerView& view) {
        for (const uint16_t bus : view.facts->buses) {
            if (bus != 0 && devnode == root_hub_node(bus)) there = true;
        }
    });
    return there;
}

/// What ends what this job has done.
Job undoing(const Job& job, const usbarb::Outcome& outcome) {
    if (job.action != Action::bind_vfio) return {.action = Action::attach, .devices = job.devices, .hubs = job.hubs};
    Job out{.action = Action::return_functions, .functions = job.functions};
    for (auto& function : out.functions) {
        const auto former = outcome.former_drivers.find(function.path);
        if (former != outcome.former_drivers.end()) function.former_driver = former->second;
    }
    return out;
}

/// Ports that are held already would be refused to us as to anybody else.
void leave_out_held(Job& job, const HeldHubs& hubs) {
    if (job.action != Action::hold_hub) return;
    for (auto& hub : job.hubs) {
        std::erase_if(hub.ports, [&](uint8_t port) { return hubs.holds_port(hub.devnode, port); });
    }
    std::erase_if(job.hubs, [](const usbarb::HubPorts& hub) { return hub.ports.empty(); });
    if (job.hubs.empty()) job.action = Action::detach;
}

}  // namespace

/// Jobs that run side by side, and what has come of them.
struct ClaimDrivers::Batch {
    struct Entry {
        ClaimJob work;
        usbarb::Outcome outcome;
        std::vector<UniqueFd> held;
    };
    std::vector<Entry> entries;
    size_t running = 0;
};

ClaimDrivers::ClaimDrivers(const usbarb::Arbiter& arbiter, HeldHubs& hubs, Run run, usbarb::KernelPaths paths)
    : arbiter_(arbiter), hubs_(hubs), run_(std::move(run)), paths_(std::move(paths)) {}

void ClaimDrivers::start(std::vector<ClaimJob> jobs, std::function<void(std::shared_ptr<Batch>)> done,
                         std::vector<std::vector<UniqueFd>> in) {
    const auto batch = std::make_shared<Batch>();
    for (auto& work : jobs) batch->entries.push_back({.work = std::move(work), .outcome = {}, .held = {}});
    in.resize(batch->entries.size());
    batch->running = batch->entries.size();
    if (batch->running == 0) return done(batch);
    for (size_t i = 0; i < batch->entries.size(); ++i) {
        run_(batch->entries[i].work.job, std::move(in[i]),
             [batch, i, done](usbarb::Outcome outcome, std::vector<UniqueFd> held) {
                 batch->entries[i].outcome = std::move(outcome);
                 batch->entries[i].held = std::move(held);
                 if (--batch->running == 0) done(batch);
             });
    }
}

void ClaimDrivers::bring_about(const std::vector<ClaimId>& claims, Done done) {
    auto jobs = jobs_to_bring_about(arbiter_, claims, paths_);
    for (auto& work : jobs) leave_out_held(work.job, hubs_);
    std::erase_if(jobs,
                  [](const ClaimJob& work) { return work.job.action == Action::detach && work.job.devices.empty(); });
    begin_work(claims);
    start(std::move(jobs), [this, claims, done = std::move(done)](const std::shared_ptr<Batch>& batch) {
        const auto finish = [this, claims, done](Outcome outcome) {
            done(std::move(outcome));
            end_work(claims);
        };
        const bool all_done = std::all_of(batch->entries.begin(), batch->entries.end(),
                                          [](const auto& entry) { return entry.outcome.done; });
        if (!all_done) return undo(batch, finish);
        Outcome outcome;
        for (auto& entry : batch->entries) {
            outcome.former_drivers.merge(entry.outcome.former_drivers);
            keep(entry.work, std::move(entry.held));
        }
        finish(std::move(outcome));
    });
}

void ClaimDrivers::keep(const ClaimJob& work, std::vector<UniqueFd> held) {
    for (size_t i = 0; i < held.size() && i < work.job.hubs.size(); ++i) {
        // it went while the job ran, and nobody will tell of that again
        if (!is_there(arbiter_, work.job.hubs[i].devnode)) continue;
        hubs_.hold(work.claims.front(), work.job.hubs[i], std::move(held[i]));
    }
}

/// A job that failed has undone itself; those beside it are undone here.
void ClaimDrivers::undo(const std::shared_ptr<Batch>& batch, Done done) {
    Outcome outcome;
    std::vector<ClaimJob> jobs;
    std::vector<std::vector<UniqueFd>> files;
    for (auto& entry : batch->entries) {
        if (entry.outcome.done) {
            jobs.push_back({.claims = entry.work.claims, .job = undoing(entry.work.job, entry.outcome)});
            files.push_back(std::move(entry.held));
            jobs.back().job.hubs.resize(files.back().size());
            continue;
        }
        for (const ClaimId claim : entry.work.claims) outcome.failures[claim] = entry.outcome.message;
    }
    const auto finish = [outcome, done = std::move(done)](const std::shared_ptr<Batch>& undone) mutable {
        for (const auto& entry : undone->entries) {
            if (entry.outcome.done) continue;
            for (const ClaimId claim : entry.work.claims) {
                outcome.failures[claim] = fmt::format("drivers are not all back: {}", entry.outcome.message);
                outcome.not_undone.insert(claim);
            }
        }
        done(std::move(outcome));
    };
    start(std::move(jobs), finish, std::move(files));
}

void ClaimDrivers::take_back(const std::vector<ClaimId>& claims, Done done) {
    auto jobs = jobs_to_take_back(arbiter_, claims);
    auto files = give_back_ports(jobs, claims);
    begin_work(claims);
    const auto finish = [this, claims, done = std::move(done)](const std::shared_ptr<Batch>& batch) {
        for (const ClaimId claim : claims) hubs_.close(claim);
        Outcome outcome;
        for (const auto& entry : batch->entries) {
            for (const ClaimId claim : entry.work.claims) {
                if (entry.outcome.message.empty()) continue;
                (entry.outcome.done ? outcome.notes : outcome.failures)[claim] = entry.outcome.message;
            }
        }
        done(std::move(outcome));
        end_work(claims);
    };
    start(std::move(jobs), finish, std::move(files));
}

/// The held hubs of these claims go along with the jobs that bring their devices back. Gives their files, by job.
std::vector<std::vector<UniqueFd>> ClaimDrivers::give_back_ports(std::vector<ClaimJob>& jobs,
                                                                 const std::vector<ClaimId>& claims) const {
    std::vector<std::vector<UniqueFd>> files(jobs.size());
    for (const ClaimId claim : claims) {
        auto lent = hubs_.lend(claim);
        if (lent.hubs.empty()) continue;
        auto job = std::find_if(jobs.begin(), jobs.end(), [claim](const ClaimJob& one) {
            return one.job.action == Action::attach && one.claims == std::vector<ClaimId>{claim};
        });
        if (job == jobs.end()) {
            jobs.push_back({.claims = {claim}, .job = {.action = Action::attach}});
            job = std::prev(jobs.end());
            files.emplace_back();
        }
        job->job.hubs = std::move(lent.hubs);
        files[static_cast<size_t>(job - jobs.begin())] = std::move(lent.files);
    }
    return files;
}

void ClaimDrivers::run_for(ClaimId claim, usbarb::Job job, std::vector<UniqueFd> in,
                           std::function<void(const usbarb::Outcome&)> done) {
    begin_work({claim});
    const ClaimJob work{.claims = {claim}, .job = job};
    run_(std::move(job), std::move(in),
         [this, work, done = std::move(done)](usbarb::Outcome outcome, std::vector<UniqueFd> held) {
             if (outcome.done) keep(work, std::move(held));
             done(outcome);
             end_work(work.claims);
         });
}

void ClaimDrivers::open_for(ClaimId claim, usbarb::Job job, Actuator::Done done) {
    begin_work({claim});
    run_(std::move(job), {},
         [this, claim, done = std::move(done)](usbarb::Outcome outcome, std::vector<UniqueFd> files) {
             done(std::move(outcome), std::move(files));
             end_work({claim});
         });
}

bool ClaimDrivers::busy(const std::vector<ClaimId>& claims) const {
    return std::any_of(claims.begin(), claims.end(), [this](ClaimId claim) { return working_.contains(claim); });
}

void ClaimDrivers::when_idle(std::vector<ClaimId> claims, std::function<void()> then) {
    if (!busy(claims)) return then();
    waiting_.push_back({.claims = std::move(claims), .then = std::move(then)});
}

void ClaimDrivers::begin_work(const std::vector<ClaimId>& claims) {
    for (const ClaimId claim : claims) ++working_[claim];
}

void ClaimDrivers::end_work(const std::vector<ClaimId>& claims) {
    for (const ClaimId claim : claims) {
        if (--working_[claim] == 0) working_.erase(claim);
    }
    // one may begin work that holds up the others again
    for (size_t i = 0; i < waiting_.size();) {
        if (busy(waiting_[i].claims)) {
            ++i;
            continue;
        }
        const auto then = std::move(waiting_[i].then);
        waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
        then();
        i = 0;
    }
}

}  // namespace storctl
