#include "daemon/arbiter_jobs.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl {
namespace {

using usbarb::Action;
using usbarb::Arbiter;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::DeviceFacts;
using usbarb::Half;
using usbarb::Socket;

constexpr std::string_view vfio_driver = "vfio-pci";

/// Drivers of what is below are kept off by a hub's claim already.
bool covered_by_drivers(const Arbiter& arbiter, const ClaimRecord& claim) {
    const ClaimRecord* above = arbiter.covering(claim.target);
    return above != nullptr && above->id != claim.id && !above->keep_drivers;
}

/// What is plugged into this socket itself: both halves.
std::vector<const DeviceFacts*> devices_at(const Arbiter& arbiter, const Socket& socket) {
    std::vector<const DeviceFacts*> out;
    for (const auto& [half, name] : EnumNames<Half>::table) {
        const auto view = arbiter.device_at(socket, half);
        if (view && view->present) out.push_back(view->facts);
    }
    return out;
}

/// `below` of the arbiter says "in the socket and below".
std::vector<const DeviceFacts*> all_of(const Arbiter& arbiter, const ClaimRecord& claim) {
    return claim.kind == ClaimKind::device ? devices_at(arbiter, claim.target) : arbiter.below(claim.target);
}

/// As the kernel shows a bus' own hub.
std::optional<DeviceFacts> root_hub(const usbarb::ControllerFacts& controller, Half half,
                                    const usbarb::KernelPaths& paths) {
    const uint16_t bus = controller.buses[static_cast<size_t>(half)];
    if (bus == 0) return std::nullopt;
    DeviceFacts out{.socket = {.controller = controller.path}, .half = half, .bus = bus, .address = 1, .hub = true};
    out.kernel_name = fmt::format("usb{}", bus);
    const auto ports = parse_unsigned(
        read_attribute(fmt::format("{}/bus/usb/devices/{}/maxchild", paths.sys, out.kernel_name)), "ports");
    if (!ports || *ports == 0 || *ports > UINT8_MAX) return std::nullopt;
    out.ports = static_cast<uint8_t>(*ports);
    return out;
}

ClaimJob hold_hub(const Arbiter& arbiter, const ClaimRecord& claim, const usbarb::KernelPaths& paths) {
    ClaimJob out{.claims = {claim.id}, .job = {.action = Action::hold_hub}};
    const auto below = arbiter.below(claim.target);
    const auto* controller = claim.target.is_root() ? arbiter.controller(claim.target.controller) : nullptr;
    for (const auto& [half, name] : EnumNames<Half>::table) {
        const auto root = controller != nullptr ? root_hub(*controller, half, paths) : std::nullopt;
        if (root) out.job.hubs.push_back(ports_to_hold(*root, below));
    }
    for (const auto* device : below) {
        if (device->hub) {
            out.job.hubs.push_back(ports_to_hold(*device, below));
        } else {
            out.job.devices.push_back(device->syspath);
        }
    }
    return out;
}

bool wants_drivers(const Arbiter& arbiter, const ClaimRecord& claim) {
    return !claim.keep_drivers && !claim.observed && claim.state != usbarb::ClaimState::lost &&
           !covered_by_drivers(arbiter, claim);
}

/// Another claim than this keeps the host's drivers off the device.
bool kept_off_by_another(const std::vector<ClaimRecord>& all, const DeviceFacts& device, const ClaimRecord& claim) {
    for (const auto& other : all) {
        if (other.observed || other.id == claim.id || other.kind == ClaimKind::controller) continue;
        if (other.keep_drivers || other.state == usbarb::ClaimState::releasing) continue;
        const bool on_it = other.target == device.socket;
        const bool above_it = other.kind == ClaimKind::hub && device.socket.is_below(other.target);
        if (on_it || above_it) return true;
    }
    return false;
}

bool on_host_driver(const DeviceFacts& device) {
    return std::any_of(device.interfaces.begin(), device.interfaces.end(),
                       [](const auto& entry) { return !entry.driver.empty() && entry.driver != "usbfs"; });
}

bool is_host_use(const usbarb::Use& use) {
    if (use.is_node_over_device()) return false;
    switch (use.kind) {
        case usbarb::UseKind::usbfs:
        case usbarb::UseKind::open:
            return false;
        case usbarb::UseKind::mount:
        case usbarb::UseKind::swap:
        case usbarb::UseKind::holder:
        case usbarb::UseKind::loop:
        case usbarb::UseKind::node:
        case usbarb::UseKind::network:
        case usbarb::UseKind::console:
            return true;
    }
    return true;
}

}  // namespace

uint8_t port_of(const std::string& kernel_name) {
    const auto at = kernel_name.find_last_of("-.");
    if (at == std::string::npos) return 0;
    const auto port = parse_unsigned(kernel_name.substr(at + 1), "port");
    return port && *port <= UINT8_MAX ? static_cast<uint8_t>(*port) : 0;
}

std::string hub_name_of(const std::string& kernel_name) {
    const auto dot = kernel_name.rfind('.');
    if (dot != std::string::npos) return kernel_name.substr(0, dot);
    return "usb" + kernel_name.substr(0, kernel_name.find('-'));
}

std::string root_hub_node(uint16_t bus) { return fmt::format("/dev/bus/usb/{:03}/001", bus); }

usbarb::HubPorts ports_to_hold(const DeviceFacts& hub, const std::vector<const DeviceFacts*>& below) {
    usbarb::HubPorts out{.devnode = hub.devnode()};
    for (int port = 1; port <= hub.ports; ++port) {
        const bool hub_in_it = std::any_of(below.begin(), below.end(), [&](const DeviceFacts* device) {
            return device->hub && port_of(device->kernel_name) == port &&
                   hub_name_of(device->kernel_name) == hub.kernel_name;
        });
        if (!hub_in_it) out.ports.push_back(static_cast<uint8_t>(port));
    }
    return out;
}

std::vector<ClaimJob> jobs_to_bring_about(const Arbiter& arbiter, const std::vector<ClaimId>& claims,
                                          const usbarb::KernelPaths& paths) {
    std::vector<ClaimJob> out;
    ClaimJob devices{.job = {.action = Action::detach}};
    ClaimJob functions{.job = {.action = Action::bind_vfio}};
    for (const ClaimId id : claims) {
        const auto claim = arbiter.find_claim(id);
        if (!claim || !wants_drivers(arbiter, *claim)) continue;
        switch (claim->kind) {
            case ClaimKind::device:
                for (const auto* device : devices_at(arbiter, claim->target)) {
                    devices.job.devices.push_back(device->syspath);
                }
                devices.claims.push_back(id);
                break;
            case ClaimKind::hub:
                out.push_back(hold_hub(arbiter, *claim, paths));
                break;
            case ClaimKind::controller:
                functions.job.functions.push_back(
                    {.path = claim->target.controller, .former_driver = claim->former_driver});
                functions.claims.push_back(id);
                break;
        }
    }
    if (!devices.job.devices.empty()) out.push_back(std::move(devices));
    if (!functions.claims.empty()) out.push_back(std::move(functions));
    return out;
}

std::vector<ClaimJob> jobs_to_take_back(const Arbiter& arbiter, const std::vector<ClaimId>& claims) {
    std::vector<ClaimJob> out;
    ClaimJob functions{.job = {.action = Action::return_functions}};
    const auto all = arbiter.claims();
    for (const ClaimId id : claims) {
        const auto claim = arbiter.find_claim(id);
        if (!claim || !wants_drivers(arbiter, *claim) || claim->keep_off) continue;
        if (claim->kind == ClaimKind::controller) {
            functions.job.functions.push_back(
                {.path = claim->target.controller, .former_driver = claim->former_driver});
            functions.claims.push_back(id);
            continue;
        }
        ClaimJob back{.claims = {id}, .job = {.action = Action::attach}};
        for (const auto* device : all_of(arbiter, *claim)) {
            if (!device->hub && !kept_off_by_another(all, *device, *claim)) back.job.devices.push_back(device->syspath);
        }
        if (!back.job.devices.empty()) out.push_back(std::move(back));
    }
    if (!functions.claims.empty()) out.push_back(std::move(functions));
    return out;
}

bool differs(const Arbiter& arbiter, const ClaimRecord& claim) {
    if (!wants_drivers(arbiter, claim)) return false;
    if (claim.kind == ClaimKind::controller) {
        const auto* controller = arbiter.controller(claim.target.controller);
        return controller != nullptr && controller->driver != vfio_driver;
    }
    const auto devices = all_of(arbiter, claim);
    return std::any_of(devices.begin(), devices.end(),
                       [](const DeviceFacts* device) { return !device->hub && on_host_driver(*device); });
}

std::string host_use_below(const Arbiter& arbiter, const ClaimRecord& claim) {
    std::string out;
    const auto look = [&](const Socket& where, const std::vector<usbarb::Use>& uses) {
        const bool within = where == claim.target || (claim.kind != ClaimKind::device && where.is_below(claim.target));
        if (!within) return;
        for (const auto& use : uses) {
            if (is_host_use(use) && out.find(use.text) == std::string::npos)
                out += (out.empty() ? "" : ", ") + use.text;
        }
    };
    arbiter.each_device([&](const Arbiter::DeviceView& view) { look(view.facts->socket, *view.uses); });
    if (claim.kind != ClaimKind::controller) return out;
    arbiter.each_controller([&](const Arbiter::ControllerView& view) {
        if (view.facts->path != claim.target.controller) return;
        for (const auto& [unit, uses] : view.uses) look(claim.target, *uses);
    });
    return out;
}

}  // namespace storctl
