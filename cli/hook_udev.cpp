// storctl hook udev. Reads files only; must be quick, and must never fail a device.
#include "cli/hook_udev.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "cli/commands.hpp"
#include "cli/fields.hpp"
#include "cli/state_lookup.hpp"
#include "cli/udev_facts.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr size_t state_limit_bytes = 256 << 20;

/// Identifiers that go with the device, as TYPE.VALUE; usable here or not.
std::set<std::string> own_identifiers(const locality::Device& device) {
    std::set<std::string> out;
    for (const auto& identifier : device.identifiers) {
        if (identifier.quality() != locality::Quality::none) out.insert(identifier.text());
    }
    return out;
}

std::set<std::string> own_identifiers(const Json& device) {
    std::set<std::string> out;
    for (const Json& identifier : list_of(device, "identifiers")) {
        if (text_of(identifier, "quality") != "none") {
            out.insert(text_of(identifier, "type") + "." + text_of(identifier, "value"));
        }
    }
    return out;
}

bool same_identity(const locality::Device& here, const Json& known) {
    const auto ours = own_identifiers(here), theirs = own_identifiers(known);
    // without identifiers of its own a device is the place that it is in
    if (ours.empty() && theirs.empty()) return text_of(known, "id") == here.id;
    return std::any_of(ours.begin(), ours.end(), [&](const auto& identifier) { return theirs.count(identifier) > 0; });
}

bool has_name(const Json& known, const std::string& name) {
    const auto& paths = list_of(known, "paths");
    return text_of(known, "name") == name ||
           std::any_of(paths.begin(), paths.end(), [&](const Json& path) { return text_of(path, "name") == name; });
}

UdevAnswer as_known(const Json& known) {
    return {text_of(known, "id"), text_of(known, "locality"), flag_of(member(known, "sharing"), "shared") ? "1" : "0"};
}

/// An identifier that another device here carries too names neither.
std::string place_of(const locality::Device& device) {
    for (const auto& identifier : device.identifiers) {
        if (identifier.quality() == locality::Quality::none && identifier.usable) return identifier.text();
    }
    return "name." + device.name;
}

std::map<std::string, std::string> environment() {
    std::map<std::string, std::string> out;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view text = *entry;
        const auto equals = text.find('=');
        if (equals != std::string_view::npos) out.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return out;
}

}  // namespace

UdevAnswer answer_for(const locality::Device& device, const UdevSources& sources) {
    UdevAnswer computed{device.id, std::string(to_text(device.verdict.locality)),
                        sources.by_default(device) ? "1" : "0"};
    if (!sources.state) {
        const bool absent = sources.state.error().code == std::errc::no_such_file_or_directory;
        if (!absent) computed.shared = "unknown";  // an administrator's decision may stand there
        return computed;
    }
    std::vector<Mention> mentions{{"name", device.name}, {"id", device.id}};
    for (const auto& identifier : device.identifiers) {
        if (identifier.quality() != locality::Quality::none) mentions.push_back({"value", identifier.value});
    }
    const auto candidates = devices_mentioning(*sources.state, mentions);
    if (!candidates) {
        computed.shared = "unknown";
        return computed;
    }
    const Json* elsewhere = nullptr;
    for (const Json& known : *candidates) {
        if (!same_identity(device, known)) continue;
        if (has_name(known, device.name)) return as_known(known);
        elsewhere = &known;
    }
    if (elsewhere == nullptr) return computed;
    if (!sources.present(text_of(*elsewhere, "name"))) return as_known(*elsewhere);  // it came back under another name
    return {place_of(device), computed.local, "0"};
}

std::string udev_properties(const UdevAnswer& answer) {
    const auto safe = [](std::string value) {
        constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_/";
        for (char& c : value) {
            if (allowed.find(c) == std::string_view::npos) c = '_';
        }
        return value;
    };
    return fmt::format("STORCTL_ID={}\nSTORCTL_LOCAL={}\nSTORCTL_SHARED={}\n", safe(answer.id), safe(answer.local),
                       safe(answer.shared));
}

Exit hook_udev(const Invocation& invocation) {
    const auto question = udev_question(invocation.value("DEVICE"), environment());
    if (!question) {
        report(question.error().message());
        return Exit::done;
    }
    const auto device = device_behind(*question);
    if (!device) {
        report(device.error().message());
        return Exit::done;
    }
    if (!*device) return Exit::done;  // a loop device, a logical volume: none of ours
    const UdevSources sources{
        .state = read_file(invocation.run_dir() + "/state.json", state_limit_bytes),
        .present = [](const std::string& name) { return ::access(("/sys/class/block/" + name).c_str(), F_OK) == 0; },
        .by_default = shared_by_default};
    put(udev_properties(answer_for(**device, sources)));
    return Exit::done;
}

}  // namespace storctl::cli
