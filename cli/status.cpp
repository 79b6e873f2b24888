// storctl status, storctl version.
#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/verbs.hpp"
#include "storctl_version.hpp"

namespace storctl::cli {
namespace {

/// "3 d 04:05:06"
std::string format_uptime(uint64_t seconds) {
    const std::string clock = fmt::format("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    return seconds < 86400 ? clock : fmt::format("{} d {}", seconds / 86400, clock);
}

Cell describe_state(const std::string& state) { return {state, state == "running" ? Style::good : Style::warning}; }

std::string describe_events(const std::string& source) {
    return source == "kernel" ? "kernel (no udevd here: events are the kernel's own)" : source;
}

std::vector<Property> describe(const Json& status) {
    const Json& devices = member(status, "devices");
    const Json& nodes = member(status, "nodes");
    const uint64_t conflicts = number_of(devices, "conflicts");
    const uint64_t failed = number_of(nodes, "failed");
    const Json& claims = member(status, "claims");
    const uint64_t failed_claims = number_of(claims, "failed"), lost = number_of(claims, "lost");
    std::vector<Property> out{
        {"stord", {fmt::format("{}, pid {}", text_of(status, "version"), number_of(status, "pid"))}},
        {"host", {text_of(status, "host")}},
        {"state", describe_state(text_of(status, "state"))},
        {"since",
         {fmt::format("{} (up {})", text_of(status, "started"), format_uptime(number_of(status, "uptime_seconds")))}},
        {"configuration", {text_of(status, "config")}},
        {"state directory", {text_of(status, "state_dir")}},
        {"run directory", {text_of(status, "run_dir")}},
        {"supervisor", {text_of(status, "supervisor")}},
        {"device events", {describe_events(text_of(status, "udev"))}},
        {"registry", {text_of(status, "registry")}},
        {"devices",
         {fmt::format("{}, {} shared, {} with an id conflict", number_of(devices, "total"),
                      number_of(devices, "shared"), conflicts),
          conflicts > 0 ? Style::warning : Style::plain}},
        {"nodes",
         {fmt::format("{}, {} serving, {} failed", number_of(nodes, "total"), number_of(nodes, "serving"), failed),
          failed > 0 ? Style::bad : Style::plain}},
        {"claims",
         {fmt::format("{}, {} lost, {} failed", number_of(claims, "total"), lost, failed_claims),
          failed_claims > 0 ? Style::bad
          : lost > 0        ? Style::warning
                            : Style::plain}},
    };
    const auto findings = texts_of(status, "findings");
    for (size_t i = 0; i < findings.size(); ++i)
        out.push_back({i == 0 ? "findings" : "", {findings[i], Style::warning}});
    if (findings.empty()) out.push_back({"findings", {"none", Style::good}});
    return out;
}

}  // namespace

Exit show_status(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.GetStatus");
    if (!answer) return stord.exit();
    const Json& status = member(*answer, "status");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"status", status}}));
    } else {
        put(format_properties(describe(status), invocation.screen()));
    }
    return Exit::done;
}

Exit show_version(const Invocation& invocation) {
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"program", "storctl"}, {"release", STORCTL_VERSION}}));
    } else {
        put(fmt::format("storctl {}\n", STORCTL_VERSION));
    }
    return Exit::done;
}

}  // namespace storctl::cli
