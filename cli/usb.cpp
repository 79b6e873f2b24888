// storctl usb: tree, list, claims, claim, release, explain. (usb rule: usb_rule.cpp.)
#include "cli/claim.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/usb_tree.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {

Exit usb_list(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.Inventory");
    if (!answer) return stord.exit();
    return put_list(invocation, "devices", list_of(*answer, "devices"));
}

Exit usb_tree(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.Inventory");
    if (!answer) return stord.exit();
    const Screen screen = invocation.screen();
    if (!invocation.has("json")) {
        put(format_usb_tree(*answer, screen));
        return Exit::done;
    }
    Json::array_t controllers, claims;
    for (const Json& controller : list_of(*answer, "controllers")) {
        if (text_of(controller, "kind") == "usb") controllers.push_back(controller);
    }
    put(to_document({{"version", 1},
                     {"controllers", controllers},
                     {"devices", list_of(*answer, "devices")},
                     {"claims", list_of(*answer, "claims")}}));
    return Exit::done;
}

Exit usb_claims(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.Claims");
    if (!answer) return stord.exit();
    Json::array_t claims;
    for (const Json& entry : list_of(*answer, "claims")) {
        if (invocation.has("all") || text_of(entry, "origin") != "observed") claims.push_back(entry);
    }
    return put_list(invocation, "claims", claims);
}

Exit usb_claim(const Invocation& invocation) { return claim_targets(invocation, Bus::usb); }
Exit usb_release(const Invocation& invocation) { return release_targets(invocation, Bus::usb); }
Exit usb_explain(const Invocation& invocation) { return explain_target(invocation, Bus::usb); }

}  // namespace storctl::cli
