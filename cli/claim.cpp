#include "cli/claim.hpp"

#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/claim_view.hpp"
#include "cli/connection.hpp"
#include "cli/direct.hpp"
#include "cli/fields.hpp"
#include "cli/next_steps.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

Json targets_of(const std::vector<std::string>& words, Bus bus) {
    Json out = Json::array();
    for (const auto& word : words) out.push_back({{"bus", bus_name(bus)}, {"what", word}});
    return out;
}

/// The argument is WHAT or BDF.
std::vector<std::string> named_targets(const Invocation& invocation) {
    return invocation.values(invocation.verb().arguments.front().name);
}

std::string_view driver_work(Bus bus) {
    return bus == Bus::pci ? "stord is moving drivers; something may still use the function or what is on it"
                           : "stord is moving drivers; something may still use the device";
}

std::string_view return_work(Bus bus) {
    return bus == Bus::pci ? "stord is returning drivers; the machine may still have the function"
                           : "stord is returning drivers; the machine may still have the device";
}

/// One line for each release after which something is not with the host's drivers.
Exit report_failed(const Json::array_t& released) {
    Exit exit = Exit::done;
    for (const Json& entry : released) {
        if (text_of(entry, "phase") != "failed") continue;
        report(fmt::format("released {}, and the host's drivers did not come back: {}", text_of(entry, "target"),
                           text_of(entry, "message")));
        exit = Exit::partly;
    }
    return exit;
}

/// Targets, verdict, reason, and everything that is in the way.
std::vector<Property> describe_answer(const Json& answer, const std::vector<std::string>& steps) {
    const bool granted = flag_of(answer, "granted");
    const std::string description = text_of(answer, "description");
    std::vector<Property> out{
        {"target",
         {fmt::format("{} {}{}", text_of(answer, "kind"), text_of(answer, "target"),
                      description.empty() ? "" : fmt::format(" ({})", description)),
          Style::heading}},
        {"verdict", {granted ? "granted" : "refused", granted ? Style::good : Style::bad}},
        {"why", {text_of(answer, "why")}},
    };
    const auto add = [&](const char* key, const std::vector<std::string>& texts) {
        for (size_t i = 0; i < texts.size(); ++i) out.push_back({i == 0 ? key : "", {texts[i]}});
    };
    add("in the way", describe_blockers(answer));
    std::vector<std::string> claims;
    for (const Json& entry : list_of(answer, "claims")) claims.push_back(describe_claim(entry, true));
    add("claims", claims);
    add("what to do", steps);
    return out;
}

void put_claims(std::string_view done, const Json::array_t& claims, bool made) {
    for (Json entry : claims) {
        if (text_of(entry, "state") == "releasing") entry.erase("state");  // it has come to its end: `done` says so
        put(fmt::format("{} {}\n", done, printable(describe_claim(entry, made))));
    }
}

}  // namespace

std::string_view bus_name(Bus bus) {
    switch (bus) {
        case Bus::usb:
            return "usb";
        case Bus::pci:
            return "pci";
    }
    return "";
}

Failure with_explanation(Failure failure, const std::vector<std::string>& words, const std::string& holder, Bus bus) {
    if (failure.exit != Exit::refused) return failure;
    for (const auto& word : words) {
        failure.items.push_back(fmt::format("what to do: storctl {} explain {} --for {}", bus_name(bus),
                                            shell_quote(word), shell_quote(holder)));
    }
    return failure;
}

Exit claim_targets(const Invocation& invocation, Bus bus) {
    if (!invocation.has("for")) {
        return wrong_usage(invocation, "needs --for: who gets it, vm:NAME for a virtual machine, host, or proc:PID");
    }
    if (invocation.has("direct")) return run_direct(invocation);
    if (invocation.has("interfaces")) return wrong_usage(invocation, "--interfaces goes with --direct");
    const auto words = named_targets(invocation);
    const std::string holder = invocation.value("for");
    const bool dry_run = invocation.has("dry-run");
    Json parameters{{"targets", targets_of(words, bus)}, {"holder", holder}, {"dry_run", dry_run}};
    if (invocation.has("keep-drivers")) parameters["keep_drivers"] = true;
    if (invocation.has("group")) parameters["group"] = true;
    if (invocation.has("reason")) parameters["reason"] = invocation.value("reason");
    Connection stord(invocation.run_dir());
    const auto answer =
        stord.try_long_call("io.storctl.Arbiter.Claim", std::move(parameters), std::string(driver_work(bus)));
    if (!answer) return report_failure(with_explanation(stord.failure(), words, holder, bus));
    for (const auto& warning : texts_of(*answer, "warnings")) report("warning: " + warning);
    const auto& claims = list_of(*answer, "claims");
    if (invocation.has("json")) {
        put(to_document({{"version", 1},
                         {"dry_run", dry_run},
                         {"claims", claims},
                         {"earlier", list_of(*answer, "earlier")},
                         {"warnings", list_of(*answer, "warnings")}}));
    } else {
        put_claims(dry_run ? "would claim" : "claimed", claims, !dry_run);
    }
    return Exit::done;
}

Exit release_targets(const Invocation& invocation, Bus bus) {
    const auto words = named_targets(invocation);
    if (words.empty() && !invocation.has("all")) {
        return wrong_usage(invocation, "needs what to release, or --all with --for: 'storctl usb claims' shows all");
    }
    if (!words.empty() && invocation.has("all")) return wrong_usage(invocation, "takes --all or names, not both");
    if (invocation.has("all") && !invocation.has("for")) {
        return wrong_usage(invocation, "--all needs --for: whose claims");
    }
    Json parameters = Json::object();
    if (!words.empty()) parameters["targets"] = targets_of(words, bus);
    if (invocation.has("for")) parameters["holder"] = invocation.value("for");
    if (invocation.has("keep-off") && invocation.has("give-back")) {
        return wrong_usage(invocation, "takes --keep-off or --give-back, not both");
    }
    if (invocation.has("keep-off")) parameters["keep_off"] = true;
    if (invocation.has("give-back")) parameters["keep_off"] = false;
    if (invocation.has("force")) parameters["force"] = true;
    const bool dry_run = invocation.has("dry-run");
    if (dry_run) parameters["dry_run"] = true;
    Connection stord(invocation.run_dir());
    const auto answer =
        stord.try_long_call("io.storctl.Arbiter.Release", std::move(parameters), std::string(return_work(bus)));
    if (!answer) return report_failure(stord.failure());
    const auto& released = list_of(*answer, "released");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"dry_run", dry_run}, {"released", released}}));
    } else if (released.empty()) {
        put("nothing to release\n");
    } else {
        put_claims(dry_run ? "would release" : "released", released, true);
    }
    return dry_run ? Exit::done : report_failed(released);
}

Exit explain_target(const Invocation& invocation, Bus bus) {
    const Question question{.bus = std::string(bus_name(bus)),
                            .what = named_targets(invocation).front(),
                            .holder = invocation.value("for")};
    Json parameters{{"target", {{"bus", question.bus}, {"what", question.what}}}};
    if (invocation.has("for")) parameters["holder"] = question.holder;
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.Explain", std::move(parameters));
    if (!answer) return stord.exit();
    const auto inventory = stord.try_call("io.storctl.Arbiter.Inventory");
    const auto steps = next_steps(question, *answer, inventory.value_or(Json::object()));
    if (invocation.has("json")) {
        Json document = *answer;
        document["version"] = 1;
        document["next"] = steps;
        put(to_document(document));
    } else {
        put(format_properties(describe_answer(*answer, steps), invocation.screen()));
    }
    return flag_of(*answer, "granted") ? Exit::done : Exit::refused;
}

}  // namespace storctl::cli
