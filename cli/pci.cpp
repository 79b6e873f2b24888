// storctl pci: list, claim, release, explain.
#include <algorithm>
#include <array>

#include "cli/claim.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

/// What an administrator passes through; bridges, memory controllers and the like are --all.
constexpr auto usual_kinds = std::to_array<std::string_view>({"usb", "nvme", "storage", "network", "display"});

bool shown(const Json& controller, bool all) {
    if (maybe_flag_of(controller, "pci") == false) return false;
    const std::string kind = text_of(controller, "kind");
    return all || std::find(usual_kinds.begin(), usual_kinds.end(), kind) != usual_kinds.end();
}

}  // namespace

Exit pci_list(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.Inventory");
    if (!answer) return stord.exit();
    Json::array_t controllers;
    for (const Json& controller : list_of(*answer, "controllers")) {
        if (shown(controller, invocation.has("all"))) controllers.push_back(controller);
    }
    return put_list(invocation, "controllers", controllers);
}

Exit pci_claim(const Invocation& invocation) { return claim_targets(invocation, Bus::pci); }
Exit pci_release(const Invocation& invocation) { return release_targets(invocation, Bus::pci); }
Exit pci_explain(const Invocation& invocation) { return explain_target(invocation, Bus::pci); }

}  // namespace storctl::cli
