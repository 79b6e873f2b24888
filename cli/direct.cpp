#include "cli/direct.hpp"

#include <algorithm>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>

#include "cli/child.hpp"
#include "cli/claim.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/node_usb.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr int not_executable = 126;  // sh(1), as the next
constexpr int not_started = 127;
constexpr int signal_status = 128;
constexpr int first_descriptor = 3;
constexpr std::string_view place = "{fd}";

std::optional<std::string> wrong_words(const Invocation& invocation) {
    if (invocation.values("COMMAND").empty()) return "--direct needs a command: ... --direct -- COMMAND ARG...";
    if (invocation.values("WHAT").size() != 1) return "--direct takes one device";
    for (const char* option : {"dry-run", "json"}) {
        if (invocation.has(option)) return fmt::format("takes --direct or --{}, not both", option);
    }
    if (!invocation.has("interfaces")) return std::nullopt;
    const auto numbers = parse_interfaces(invocation.value("interfaces"));
    return numbers ? std::nullopt : std::optional(numbers.error().context);
}

struct HeldClaim {
    uint64_t id = 0;
    std::string socket;
    bool fresh = false;  ///< this call made it
};

/// Of Claim's answer: the holder had the claim before this call. Who does not say is not taken for saying no.
bool was_there(const Json& answer, uint64_t id) {
    const Json& earlier = member(answer, "earlier");
    return !earlier.is_array() || std::find(earlier.begin(), earlier.end(), Json(id)) != earlier.end();
}

/// Nothing: it has been reported, in the connection's failure.
std::optional<HeldClaim> claim_device(Connection& stord, const Invocation& invocation) {
    const std::string what = invocation.value("WHAT"), holder = invocation.value("for");
    Json parameters{{"targets", {{{"bus", "usb"}, {"what", what}}}}, {"holder", holder}};
    if (invocation.has("keep-drivers")) parameters["keep_drivers"] = true;
    if (invocation.has("reason")) parameters["reason"] = invocation.value("reason");
    const auto answer = stord.try_long_call("io.storctl.Arbiter.Claim", std::move(parameters),
                                            "stord is moving drivers; something may still use the device");
    if (!answer) {
        report_failure(with_explanation(stord.failure(), {what}, holder, Bus::usb));
        return std::nullopt;
    }
    for (const auto& warning : texts_of(*answer, "warnings")) report("warning: " + warning);
    const auto& claims = list_of(*answer, "claims");
    const Json claim = claims.empty() ? Json() : claims.front();
    const uint64_t id = number_of(claim, "id");
    return HeldClaim{.id = id, .socket = text_of(claim, "target"), .fresh = !was_there(*answer, id)};
}

/// A signal ends the wait, not the release.
void give_back(Connection& stord, const HeldClaim& claim, const std::string& holder, const HeldSignals& signals) {
    if (!claim.fresh) return;
    const Json target{{"bus", "usb"}, {"what", fmt::format("#{}", claim.id)}};
    const auto answer =
        stord.try_long_call("io.storctl.Arbiter.Release", {{"targets", Json::array({target})}, {"holder", holder}},
                            "stord is returning drivers; something may still use the device", signals.descriptor());
    if (!answer && stord.failure().stopped) {
        return report(fmt::format("claim #{} is being released; 'storctl usb claims' shows how far it is", claim.id));
    }
    if (!answer) {
        report_failure(stord.failure());
        return report(fmt::format("claim #{} is still there: storctl usb release '#{}'", claim.id, claim.id));
    }
    for (const Json& entry : list_of(*answer, "released")) {
        if (text_of(entry, "phase") != "failed") continue;
        report(fmt::format("released {}, and the host's drivers did not come back: {}", text_of(entry, "target"),
                           text_of(entry, "message")));
    }
}

/// The device's node, at a number that no standard stream has. Nothing: it has been reported, or a signal ended the
/// wait.
UniqueFd open_device(Connection& stord, const HeldClaim& claim, const Invocation& invocation,
                     const HeldSignals& signals) {
    Json parameters{{"target", {{"bus", "usb"}, {"what", claim.socket}}}, {"holder", invocation.value("for")}};
    if (invocation.has("interfaces")) parameters["interfaces"] = *parse_interfaces(invocation.value("interfaces"));
    const auto answer = stord.try_long_call("io.storctl.Arbiter.OpenDevice", std::move(parameters),
                                            "stord is opening the device, which does not answer", signals.descriptor());
    if (!answer) {
        if (!stord.failure().stopped) report_failure(stord.failure());
        return {};
    }
    const auto files = stord.take_descriptors();
    const uint64_t index = number_of(*answer, "descriptor");
    if (index >= files.size()) {
        report("stord opened the device, and the descriptor did not arrive");
        return {};
    }
    UniqueFd file(::fcntl(files[index].get(), F_DUPFD_CLOEXEC, first_descriptor));
    if (!file) report(errno_error("cannot keep the device's descriptor").message());
    return file;
}

/// The command with the descriptor's number in its arguments.
std::vector<std::string> with_number(std::vector<std::string> words, int descriptor) {
    const std::string number = fmt::to_string(descriptor);
    for (auto word = words.begin() + 1; word < words.end(); ++word) {
        for (size_t at = word->find(place); at != std::string::npos; at = word->find(place, at + number.size())) {
            word->replace(at, place.size(), number);
        }
    }
    return words;
}

Exit run_command(UniqueFd file, const std::vector<std::string>& words, const HeldSignals& signals) {
    const auto child = Child::start(with_number(words, file.get()), file.get(), signals);
    file.reset();
    if (child) return static_cast<Exit>(child->wait(signals));
    report(child.error().message());
    return static_cast<Exit>(child.error().code == std::errc::permission_denied ? not_executable : not_started);
}

Exit use_device(Connection& stord, const HeldClaim& claim, const Invocation& invocation, const HeldSignals& signals) {
    if (const int signal = signals.take(); signal != 0) return static_cast<Exit>(signal_status + signal);
    UniqueFd file = open_device(stord, claim, invocation, signals);
    const Exit failed = stord.exit();
    if (const int signal = signals.take(); signal != 0) return static_cast<Exit>(signal_status + signal);
    return file ? run_command(std::move(file), invocation.values("COMMAND"), signals) : failed;
}

}  // namespace

Exit run_direct(const Invocation& invocation) {
    if (const auto wrong = wrong_words(invocation)) return wrong_usage(invocation, *wrong);
    Connection stord(invocation.run_dir());
    // from before the claim, which stord makes also for a process that is gone, to its release
    const HeldSignals signals;
    const auto claim = claim_device(stord, invocation);
    if (!claim) return stord.exit();
    const Exit ended = use_device(stord, *claim, invocation, signals);
    signals.take();  // what came with the command's end was for the command
    give_back(stord, *claim, invocation.value("for"), signals);
    signals.take();  // what ended the wait for the drivers is not how the command ended
    return ended;
}

}  // namespace storctl::cli
