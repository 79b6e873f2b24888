#include "daemon/arbiter_releases.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/arbiter_view.hpp"
#include "daemon/crash_point.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using usbarb::Change;
using usbarb::Changes;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::Phase;

// a hub chain five deep takes about two seconds; a device that was pulled meanwhile never comes
constexpr std::chrono::seconds longest_enumeration{5};

void append(Changes& changes, Changes more) {
    for (auto& change : more) changes.push_back(std::move(change));
}

bool contains(const std::vector<ClaimId>& ids, ClaimId id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

ClaimReleases::ClaimReleases(EventLoop& loop, ClaimLedger& ledger, ClaimDrivers& drivers, Hooks hooks)
    : loop_(loop), ledger_(ledger), drivers_(drivers), hooks_(std::move(hooks)) {}

void ClaimReleases::release(const std::vector<ClaimId>& claims, bool keep_off, Done done) {
    auto& arbiter = ledger_.arbiter();
    Changes changes;
    Released released;
    std::vector<ClaimId> open;
    for (const ClaimId id : claims) {
        const auto before = arbiter.find_claim(id);
        if (!before) continue;
        append(changes, arbiter.begin_release(id, keep_off));
        if (arbiter.find_claim(id)) {
            open.push_back(id);
        } else {
            released.claims.push_back(*before);
        }
    }
    // a release that cannot be stored goes on: what comes back with the next stord is a claim that can be released
    // again
    ledger_.note(changes);
    crash_point(CrashPoint::release_recorded);
    if (open.empty()) return done(std::move(released));
    drivers_.begin_work(open);
    hooks_.nodes().end(open, true, [this, open, released = std::move(released), done = std::move(done)](const auto&) {
        take_back(open, released, done);
        drivers_.end_work(open);
    });
}

void ClaimReleases::take_back(const std::vector<ClaimId>& claims, Released released, Done done) {
    forget_nodes(claims);
    drivers_.take_back(claims, [this, claims, released = std::move(released),
                                done = std::move(done)](const ClaimDrivers::Outcome& outcome) {
        crash_point(CrashPoint::release_actuated);
        finish(claims, outcome, released, done);
    });
}

/// A node that has just ended is not the host's use of the device, whatever the last look saw.
void ClaimReleases::forget_nodes(const std::vector<ClaimId>& claims) {
    auto& arbiter = ledger_.arbiter();
    for (const ClaimId id : claims) {
        const auto claim = arbiter.find_claim(id);
        if (!claim || claim->kind != ClaimKind::device) continue;
        for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
            const auto view = arbiter.device_at(claim->target, half);
            if (!view) continue;
            auto uses = *view->uses;
            if (std::erase_if(uses, [](const usbarb::Use& use) { return use.is_node_over_device(); }) == 0) continue;
            ledger_.note(arbiter.set_uses(claim->target, std::move(uses), wall_now()));
        }
    }
}

void ClaimReleases::carry_on(const std::vector<ClaimId>& claims) {
    drivers_.when_idle(claims, [this, claims] {
        release(claims, false, [](const Released& released) {
            if (!released.failure.empty()) log::warning("a release could not be finished: {}", released.failure);
        });
    });
}

void ClaimReleases::finish(const std::vector<ClaimId>& claims, const ClaimDrivers::Outcome& outcome, Released released,
                           const Done& done) {
    auto& arbiter = ledger_.arbiter();
    Changes changes;
    std::vector<std::string> controllers;
    std::vector<std::string> failures;
    bool wait = false;  // drivers that nobody here moved come back in their consumer's time
    for (const ClaimId id : claims) {
        const auto failed = outcome.failures.find(id);
        if (failed != outcome.failures.end()) {
            append(changes, arbiter.set_phase(id, Phase::failed, failed->second));
            log::warning("release of claim {}: {}", id, failed->second);
        }
        const auto note = outcome.notes.find(id);
        if (const auto one = arbiter.find_claim(id); one && note != outcome.notes.end()) {
            append(changes, arbiter.set_phase(id, one->phase, note->second));
            log::warning("release of claim {}: {}", id, note->second);
        }
        const auto claim = arbiter.find_claim(id);
        if (!claim) continue;
        // a function that is still on vfio-pci is nobody else's to use; a device without its driver is
        if (claim->kind == ClaimKind::controller && failed != outcome.failures.end()) {
            if (std::find(failures.begin(), failures.end(), failed->second) == failures.end())
                failures.push_back(failed->second);
            continue;
        }
        released.claims.push_back(*claim);
        if (claim->kind == ClaimKind::controller) {
            controllers.push_back(claim->target.controller);
            if (!claim->keep_drivers) wait = true;
        }
        append(changes, arbiter.finish_release(id, wall_now()));
        log::notice("{}: released", summary_of(*claim));
    }
    released.failure = join(failures, "; ");
    ledger_.note(changes);
    std::vector<ClaimId> uncovered;
    for (const auto& change : changes) {
        if (change.what == Change::What::changed && !change.claim.observed && !contains(claims, change.claim.id)) {
            uncovered.push_back(change.claim.id);
        }
    }
    if (!uncovered.empty()) hooks_.uncovered(uncovered);
    if (controllers.empty()) return done(std::move(released));
    if (!wait) {
        wait_for_devices(std::move(controllers), [] {});
        return done(std::move(released));
    }
    wait_for_devices(std::move(controllers), [released = std::move(released), done] { done(released); });
}

void ClaimReleases::wait_for_devices(std::vector<std::string> controllers, std::function<void()> done) {
    // what the events of the return are about to say anyway
    if (auto known = hooks_.refresh(); !known) log::warning("{}", known.error().message());
    enumerations_.push_back({.controllers = std::move(controllers), .done = std::move(done), .timer = {}});
    const auto which = std::prev(enumerations_.end());
    if (all_back(which->controllers)) return end(which);
    auto timer = loop_.add_timer(longest_enumeration, priority::node_timers, [this, which] { end(which); });
    if (!timer) return end(which);
    which->timer = std::move(*timer);
}

bool ClaimReleases::all_back(const std::vector<std::string>& controllers) const {
    const auto& arbiter = ledger_.arbiter();
    bool back = true;
    arbiter.each_device([&](const usbarb::Arbiter::DeviceView& view) {
        const std::string& path = view.facts->socket.controller;
        if (view.present || std::find(controllers.begin(), controllers.end(), path) == controllers.end()) return;
        // without a host's driver it has no bus: nothing will come back
        const auto* controller = arbiter.controller(path);
        const bool on_host = controller != nullptr && !controller->driver.empty() && controller->driver != "vfio-pci";
        if (on_host) back = false;
    });
    return back;
}

void ClaimReleases::topology_changed() {
    for (auto which = enumerations_.begin(); which != enumerations_.end();) {
        const auto next = std::next(which);
        if (all_back(which->controllers)) end(which);
        which = next;
    }
}

void ClaimReleases::end(std::list<Enumeration>::iterator which) {
    const Enumeration over = std::move(*which);
    enumerations_.erase(which);
    for (const auto& path : over.controllers) ledger_.note(ledger_.arbiter().forget_absent(path));
    over.done();
    hooks_.returned(over.controllers);
}

}  // namespace storctl
