// storctl usb rule: add, list, remove.
#include <fmt/format.h>

#include "base/text.hpp"
#include "cli/claim_view.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/usb_class.hpp"
#include "cli/usb_view.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

/// Four hexadecimal digits.
bool is_usb_id(std::string_view text) { return text.size() == 4 && hex_decode(text).has_value(); }

/// VID or VID:PID into its two parameters.
Result<void> add_ids(Json& parameters, const std::string& text) {
    const size_t colon = text.find(':');
    const std::string vendor = to_lower(text.substr(0, colon));
    const std::string product = colon == std::string::npos ? "" : to_lower(text.substr(colon + 1));
    if (!is_usb_id(vendor) || (colon != std::string::npos && !is_usb_id(product))) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("--device '{}' is no VID or VID:PID, such as 046d or 046d:c31c", text));
    }
    parameters["vendor_id"] = vendor;
    if (!product.empty()) parameters["product_id"] = product;
    return {};
}

Result<Json> rule_of(const Invocation& invocation) {
    Json out{{"holder", invocation.value("for")}};
    for (const char* key : {"socket", "serial"}) {
        if (invocation.has(key)) out[key] = invocation.value(key);
    }
    if (invocation.has("device")) TRY(add_ids(out, invocation.value("device")));
    if (invocation.has("class")) {
        const uint8_t code = TRY(parse_usb_class(invocation.value("class")));
        out["device_class"] = code;
    }
    return out;
}

/// "rule 3: vm:web1 gets 046d:c31c with serial S1 in 0000:00:14.0/2"
std::string describe_rule(const Json& rule) {
    std::vector<std::string> matches;
    if (const auto ids = usb_ids(rule); !ids.empty()) matches.push_back(ids);
    if (member(rule, "device_class").is_number()) {
        matches.push_back("class " + class_text(number_of(rule, "device_class")));
    }
    if (const auto serial = text_of(rule, "serial"); !serial.empty()) matches.push_back("serial number " + serial);
    if (const auto socket = text_of(rule, "socket"); !socket.empty()) matches.push_back("plugged into " + socket);
    return fmt::format("rule {}: {} gets {}", number_of(rule, "id"), text_of(rule, "holder"), join(matches, ", "));
}

}  // namespace

Exit usb_rule_add(const Invocation& invocation) {
    if (!invocation.has("for")) {
        return wrong_usage(invocation, "needs --for: who gets the device, vm:NAME for a virtual machine");
    }
    auto rule = rule_of(invocation);
    if (!rule) return wrong_usage(invocation, rule.error().context);
    if (rule->size() == 1) {
        return wrong_usage(invocation, "needs at least one of --socket, --device, --serial and --class: which devices");
    }
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.AddRule", std::move(*rule));
    if (!answer) return stord.exit();
    const Json& made = member(*answer, "rule");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"rule", made}}));
    } else {
        put(printable(describe_rule(made)) + "\n");
    }
    return Exit::done;
}

Exit usb_rule_list(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Arbiter.ListRules");
    if (!answer) return stord.exit();
    return put_list(invocation, "rules", list_of(*answer, "rules"));
}

Exit usb_rule_remove(const Invocation& invocation) {
    const auto id = parse_unsigned(invocation.value("ID"), "rule");
    if (!id)
        return wrong_usage(
            invocation, fmt::format("{}: a rule is known by its number: 'storctl usb rule list'", id.error().context));
    Connection stord(invocation.run_dir());
    if (!stord.call("io.storctl.Arbiter.RemoveRule", {{"id", *id}})) return stord.exit();
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"removed", *id}}));
    } else {
        put(fmt::format("rule {}: removed\n", *id));
    }
    return Exit::done;
}

}  // namespace storctl::cli
