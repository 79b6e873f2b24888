// The pure half of storctl hook libvirt: steps, targets, sentences.
#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/claim_view.hpp"
#include "cli/connection.hpp"
#include "cli/display.hpp"
#include "cli/fields.hpp"
#include "cli/hook_libvirt.hpp"

namespace storctl::cli {
namespace {

constexpr size_t max_blockers_told = 3;

struct Step {
    std::string_view operation, sub_operation;
    HookStep step;
};
constexpr auto steps = std::to_array<Step>({
    {"prepare", "begin", HookStep::prepare},
    {"start", "begin", HookStep::start},
    {"started", "begin", HookStep::started},
    {"release", "end", HookStep::release},
    {"reconnect", "begin", HookStep::adopt},
    {"attach", "begin", HookStep::adopt},
});

std::string explain_command(const libvirt::HostDevice& device, std::string_view holder) {
    return fmt::format("storctl {} explain {} --for {}", to_text(device.bus), shell_quote(device.what),
                       shell_quote(holder));
}

std::string sentences(const Json& parameters) {
    const auto& blockers = list_of(parameters, "blockers");
    std::vector<std::string> out;
    for (const Json& blocker : blockers) {
        if (out.size() < max_blockers_told) out.push_back(describe_blocker(blocker));
    }
    std::string text = join(out, "; ");
    if (blockers.size() > max_blockers_told) {
        text += fmt::format("; and {} more", blockers.size() - max_blockers_told);
    }
    return text.empty() ? text_of(parameters, "message") : text;
}

std::string advice(std::string_view holder, const libvirt::HostDevice* device, const Json& parameters) {
    if (device == nullptr) return "'storctl usb claims' and 'storctl pci list' say who holds what";
    return fmt::format("{}see: {}", list_of(parameters, "blockers").empty() ? "" : "free it, or ",
                       explain_command(*device, holder));
}

std::string not_found(const libvirt::HostDevice* device, const Json& parameters) {
    const std::string message = text_of(parameters, "message");
    if (device == nullptr) {
        return message.empty() ? fmt::format("'{}' is not there", text_of(parameters, "what")) : message;
    }
    const auto list = device->bus == libvirt::Bus::usb ? "storctl usb list" : "storctl pci list";
    return fmt::format(
        "{} is not there ({}); plug it in, take it out of the domain or make it startupPolicy='optional'",
        name_of(*device), message.empty() ? fmt::format("'{}' shows what is there", list) : message);
}

std::string ambiguous(const libvirt::HostDevice* device, const Json& parameters) {
    const auto candidates = join(texts_of(parameters, "candidates"), ", ");
    return fmt::format("{} is more than one device: {}; name one of them by <address> in the domain",
                       device == nullptr ? fmt::format("'{}'", text_of(parameters, "what")) : name_of(*device),
                       candidates);
}

}  // namespace

HookStep hook_step(std::string_view operation, std::string_view sub_operation) {
    const auto found = std::find_if(steps.begin(), steps.end(), [&](const Step& row) {
        return row.operation == operation && row.sub_operation == sub_operation;
    });
    return found == steps.end() ? HookStep::nothing : found->step;
}

Json targets_of(const std::vector<libvirt::HostDevice>& devices) {
    Json out = Json::array();
    std::set<std::pair<libvirt::Bus, std::string>> seen;
    for (const auto& device : devices) {
        if (device.missing || !seen.emplace(device.bus, device.what).second) continue;
        Json target{{"bus", to_text(device.bus)}, {"what", device.what}};
        // libvirt itself refuses a missing "requisite" one where that is wanted; a restored domain may do without
        if (device.startup != libvirt::StartupPolicy::mandatory) target["optional"] = true;
        out.push_back(std::move(target));
    }
    return out;
}

std::vector<uint64_t> left_over(const Json& claims, std::string_view holder, const Json& kept) {
    std::set<uint64_t> wanted;
    for (const Json& claim : list_of(kept, "claims")) wanted.insert(number_of(claim, "id"));
    std::vector<uint64_t> out;
    for (const Json& claim : list_of(claims, "claims")) {
        const uint64_t id = number_of(claim, "id");
        if (id != 0 && text_of(claim, "holder") == holder && text_of(claim, "origin") == "libvirt" &&
            text_of(claim, "state") == "provisional" && wanted.count(id) == 0) {
            out.push_back(id);
        }
    }
    return out;
}

std::string name_of(const libvirt::HostDevice& device) {
    return fmt::format("{} {} ({})", device.bus == libvirt::Bus::usb ? "USB device" : "PCI function", device.what,
                       device.where);
}

std::string refusal(std::string_view holder, const libvirt::HostDevice* device, const std::string& error,
                    const Json& parameters) {
    constexpr std::string_view prefix = "io.storctl.Arbiter.";
    const auto name = error.starts_with(prefix) ? std::string_view(error).substr(prefix.size()) : std::string_view();
    if (name == "NotFound") return not_found(device, parameters);
    if (name == "Ambiguous") return ambiguous(device, parameters);
    const std::string subject = device == nullptr ? "its host devices" : name_of(*device);
    if (name == "Refused") {
        return fmt::format("{} may not have {}: {}; {}", holder, subject, sentences(parameters),
                           advice(holder, device, parameters));
    }
    return fmt::format("{} does not get {}: {}", holder, subject, explain_reply(error, parameters).message);
}

std::string hub_refusal(std::string_view holder, const Json& claimed) {
    for (const Json& claim : list_of(claimed, "claims")) {
        if (text_of(claim, "kind") != "hub") continue;
        const std::string target = text_of(claim, "target");
        return fmt::format(
            "{} may not have {} ({}): a hub cannot be passed through, all that is below it would be lost; name the "
            "devices in the domain, and to keep the rest of the hub for it: storctl usb claim {} --for {}",
            holder, target, text_of(claim, "description"), shell_quote(target), shell_quote(holder));
    }
    return {};
}

std::string no_answer(std::string_view guest, const std::vector<libvirt::HostDevice>& devices, std::string_view why) {
    const std::string more = devices.size() > 1 ? fmt::format(" and {} more", devices.size() - 1) : "";
    return fmt::format(
        "domain '{}' wants {}{}, and nobody can say whether that is free: {}; start stord: systemctl "
        "start stord; to do without arbitration remove /etc/libvirt/hooks/qemu.d/50-storctl",
        guest, devices.empty() ? "host devices" : name_of(devices.front()), more, why);
}

std::string unclear_devices(std::string_view guest, const std::vector<std::string>& unclear) {
    return fmt::format("domain '{}': {}; say which one it is, see storctl-passthrough(7)", guest, join(unclear, "; "));
}

}  // namespace storctl::cli
