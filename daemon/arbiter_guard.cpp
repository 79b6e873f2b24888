#include "daemon/arbiter_guard.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"

namespace storctl {
namespace {

using usbarb::Action;
using usbarb::Arbiter;
using usbarb::ClaimId;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::DeviceFacts;

bool in_force(const ClaimRecord& claim) {
    const bool held = claim.state == ClaimState::active || claim.state == ClaimState::provisional;
    return held && !claim.observed && !claim.keep_drivers;
}

bool on_host_driver(const DeviceFacts& device) {
    return std::any_of(device.interfaces.begin(), device.interfaces.end(),
                       [](const auto& entry) { return !entry.driver.empty() && entry.driver != "usbfs"; });
}

}  // namespace

void ClaimGuard::plugged(const DeviceFacts& device) {
    const auto& arbiter = ledger_.arbiter();
    const auto view = arbiter.device_at(device.socket, device.half);
    if (!view || !view->present) return;
    // whoever has the device itself: in a held port it gets no configuration but from here
    const ClaimRecord* const above = arbiter.covering(device.socket);
    if (above != nullptr && in_force(*above)) return plugged_below(device, above->id);
    if (view->claim == nullptr || !in_force(*view->claim)) return;
    const ClaimRecord& claim = *view->claim;
    // work that began before it came or while it went may not have met it
    if (drivers_.busy({claim.id})) return look_again(device, claim.id);
    // what has failed once is tried again when somebody asks for it
    const bool done = claim.phase == usbarb::Phase::done;
    if (claim.kind == usbarb::ClaimKind::device && done && on_host_driver(device)) {
        maker_.bring_about_again({claim.id});
    }
    // the other half of a claimed hub, or the hub's return
    if (claim.kind == usbarb::ClaimKind::hub && device.hub && device.configured) hub_below(device, claim.id);
}

void ClaimGuard::look_again(const DeviceFacts& device, ClaimId once_idle) {
    drivers_.when_idle({once_idle}, [this, socket = device.socket, half = device.half, node = device.devnode()] {
        const auto view = ledger_.arbiter().device_at(socket, half);
        if (!view || !view->present || view->facts->devnode() != node) return;
        const DeviceFacts facts = *view->facts;
        plugged(facts);
    });
}

void ClaimGuard::plugged_below(const DeviceFacts& device, ClaimId hub_claim) {
    if (drivers_.busy({hub_claim})) return look_again(device, hub_claim);
    if (device.hub) return hub_below(device, hub_claim);
    if (!device.configured) {
        return run_once(device, hub_claim, {.action = Action::configure, .devices = {device.syspath}}, {});
    }
    if (on_host_driver(device)) {
        run_once(device, hub_claim, {.action = Action::detach, .devices = {device.syspath}}, {});
    }
}

void ClaimGuard::hub_below(const DeviceFacts& hub, ClaimId hub_claim) {
    const std::string node = hub.devnode();
    if (hub.configured && hub.ports > 0) {
        if (hubs_.holds(node)) return;
        const auto ports = ports_to_hold(hub, ledger_.arbiter().below(hub.socket));
        return run_once(hub, hub_claim, {.action = Action::hold_hub, .hubs = {ports}}, {});
    }
    const std::string above = hub_node_of(hub);
    const uint8_t port = port_of(hub.kernel_name);
    if (tried_.contains({hub_claim, Action::free_port, node})) return;
    auto file = hubs_.give_up_port(above, port);
    if (!file) return;
    std::vector<UniqueFd> in;
    in.push_back(std::move(*file));
    run_once(hub, hub_claim,
             {.action = Action::free_port, .devices = {hub.syspath}, .hubs = {{.devnode = above, .ports = {port}}}},
             std::move(in));
}

void ClaimGuard::unplugged(const DeviceFacts& device) {
    const std::string node = device.devnode();
    std::erase_if(tried_, [&](const Attempt& one) { return one.node == node; });
    if (!device.hub) return;
    hubs_.forget(node);
    const ClaimRecord* const above = ledger_.arbiter().covering(device.socket);
    const std::string parent = hub_node_of(device);
    const uint8_t port = port_of(device.kernel_name);
    if (above == nullptr || !in_force(*above) || !hubs_.holds(parent) || hubs_.holds_port(parent, port)) return;
    drivers_.run_for(above->id, {.action = Action::hold_hub, .hubs = {{.devnode = parent, .ports = {port}}}}, {},
                     [parent](const usbarb::Outcome& outcome) {
                         if (!outcome.done) log::warning("a port of the held hub {}: {}", parent, outcome.message);
                     });
}

void ClaimGuard::run_once(const DeviceFacts& device, ClaimId claim, usbarb::Job job, std::vector<UniqueFd> in) {
    std::erase_if(tried_, [this](const Attempt& one) { return !ledger_.arbiter().find_claim(one.claim); });
    if (!tried_.insert({claim, job.action, device.devnode()}).second) return;
    drivers_.run_for(claim, std::move(job), std::move(in),
                     [this, claim, name = device.kernel_name](const usbarb::Outcome& outcome) {
                         if (outcome.done) return;
                         log::warning("claim {}: {} below its hub: {}", claim, name, outcome.message);
                         ledger_.note(ledger_.arbiter().set_phase(claim, usbarb::Phase::failed, outcome.message));
                     });
}

/// The node of the hub that the device is plugged into, on the same bus.
std::string ClaimGuard::hub_node_of(const DeviceFacts& device) const {
    if (hub_name_of(device.kernel_name).starts_with("usb")) return root_hub_node(device.bus);
    const auto view = ledger_.arbiter().device_at(device.socket.parent(), device.half);
    return view ? view->facts->devnode() : "";
}

}  // namespace storctl
