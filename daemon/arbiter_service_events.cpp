// What comes and goes: the arbiter is told first, then claims are guarded, then rules have their turn.

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"
#include "daemon/arbiter_service_parts.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {

using nlohmann::json;
using usbarb::Arbiter;
using usbarb::Change;
using usbarb::Changes;
using usbarb::ClaimId;
using usbarb::DeviceFacts;

namespace {

/// What is there and could not be read stays as it was known.
void keep_unreadable(const Arbiter& arbiter, usbarb::UsbScan& scan) {
    const auto found = [&](const DeviceFacts& known) {
        return std::any_of(scan.devices.begin(), scan.devices.end(), [&](const DeviceFacts& device) {
            return device.socket == known.socket && device.half == known.half;
        });
    };
    for (const auto& path : scan.unreadable) {
        const bool read = std::any_of(scan.controllers.begin(), scan.controllers.end(),
                                      [&](const auto& facts) { return facts.path == path; });
        const auto* known = arbiter.controller(path);
        if (known != nullptr && !read) scan.controllers.push_back(*known);
        arbiter.each_device([&](const Arbiter::DeviceView& view) {
            if (view.present && view.facts->syspath == path && !found(*view.facts)) scan.devices.push_back(*view.facts);
        });
    }
}

}  // namespace

/// A burst of events is stored and told as one change: each that reaches the disk costs milliseconds.
void ArbiterService::Parts::changed(Changes changes) {
    for (auto& change : changes) unsaved.push_back(std::move(change));
}

void ArbiterService::Parts::flush() {
    Changes changes = std::exchange(unsaved, {});
    // other steps may have changed the claims since, and stored that
    std::erase_if(changes, [this](Change& change) {
        if (change.what == Change::What::removed) return false;
        const auto now = ledger.arbiter().find_claim(change.claim.id);
        if (now) change.claim = *now;
        return !now;
    });
    ledger.note(changes);
    std::vector<ClaimId> back;
    for (const auto& change : changes) {
        if (change.what == Change::What::restored) back.push_back(change.claim.id);
    }
    if (started) maker.bring_about_again(back);
}

Result<void> ArbiterService::Parts::refresh() {
    refreshing = true;
    auto done = kernel->refresh();
    refreshing = false;
    return done;
}

std::map<std::string, DeviceFacts> ArbiterService::Parts::present() const {
    std::map<std::string, DeviceFacts> out;
    ledger.arbiter().each_device([&](const Arbiter::DeviceView& view) {
        if (view.present) out.emplace(view.facts->devnode(), *view.facts);
    });
    return out;
}

void ArbiterService::Parts::take(UsbBatch batch) {
    if (batch.full) take_all(std::move(batch.scan));
    for (const auto& event : batch.events) {
        if (const auto* plug = std::get_if<UsbPlugged>(&event)) {
            plugged(*plug);
        } else if (const auto* unplug = std::get_if<UsbUnplugged>(&event)) {
            unplugged(*unplug);
        } else if (const auto* controller = std::get_if<ControllerChanged>(&event)) {
            changed(ledger.arbiter().put_controller(controller->controller));
        } else if (const auto* removed = std::get_if<ControllerRemoved>(&event)) {
            const auto before = present();
            changed(ledger.arbiter().remove_controller(removed->path, wall_now()));
            const auto after = present();
            for (const auto& [node, device] : before) {
                if (!after.contains(node)) gone(device);
            }
        }
    }
    flush();
    if (!started) return;
    releases.topology_changed();
    uses->look_soon();
}

void ArbiterService::Parts::take_all(usbarb::UsbScan scan) {
    keep_unreadable(ledger.arbiter(), scan);
    unsettled = std::move(scan.unsettled);
    const auto before = present();
    changed(ledger.arbiter().replace_all(scan.controllers, scan.devices, wall_now()));
    if (!started) return;
    const auto after = present();
    for (const auto& [node, device] : before) {
        if (!after.contains(node)) gone(device);
    }
    for (const auto& [node, device] : after) {
        if (!before.contains(node)) appeared(device);
        guard.plugged(device);
        // of what udev has not settled its event says when
        if (!refreshing && !unsettled.contains(device.syspath)) rules->plugged(device);
    }
}

void ArbiterService::Parts::plugged(const UsbPlugged& event) {
    const DeviceFacts& device = event.device;
    const auto before = ledger.arbiter().device_at(device.socket, device.half);
    const bool was_there = before && before->present && before->facts->devnode() == device.devnode();
    if (before && before->present && !was_there) {
        const DeviceFacts other = *before->facts;
        unplugged({.socket = other.socket, .half = other.half});
    }
    changed(ledger.arbiter().plug(device, wall_now()));
    if (!was_there) appeared(device);
    guard.plugged(device);
    if (!event.settled) return;
    unsettled.erase(device.syspath);
    rules->plugged(device);
}

void ArbiterService::Parts::unplugged(const UsbUnplugged& event) {
    std::vector<DeviceFacts> below;
    for (const auto* device : ledger.arbiter().below(event.socket)) {
        if (device->half == event.half) below.push_back(*device);
    }
    changed(ledger.arbiter().unplug(event.socket, event.half, wall_now()));
    for (const auto& device : below) gone(device);
}

void ArbiterService::Parts::appeared(const DeviceFacts& device) {
    const auto view = ledger.arbiter().device_at(device.socket, device.half);
    hub.publish(
        {.event = "usb-added",
         .subject = usbarb::to_text(device.socket),
         .summary = fmt::format("{} plugged in: {}", device.kernel_name, escape_unprintable(device.description())),
         .detail = view ? to_json(*view) : json(nullptr)});
}

void ArbiterService::Parts::gone(const DeviceFacts& device) {
    guard.unplugged(device);
    rules->unplugged(device);
    hub.publish(
        {.event = "usb-removed",
         .subject = usbarb::to_text(device.socket),
         .summary = fmt::format("{} unplugged: {}", device.kernel_name, escape_unprintable(device.description())),
         .detail = nullptr});
}

}  // namespace storctl
