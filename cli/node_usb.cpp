#include "cli/node_usb.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/claim.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/node_view.hpp"
#include "cli/verbs.hpp"
#include "cli/vm_snippets.hpp"

namespace storctl::cli {
namespace {

constexpr uint64_t highest_interface = 255;

/// Nothing between commas is a word, too: a wrong one.
std::vector<std::string> words_of(const std::string& text) {
    return text.empty() ? std::vector<std::string>{""} : split(text, ',');
}

Result<Json> parse_deny(const std::string& text) {
    Json out = Json::array();
    if (text == nothing_denied) return out;
    for (const auto& word : words_of(text)) {
        if (std::find(deniable.begin(), deniable.end(), word) == deniable.end()) {
            return make_error(std::errc::invalid_argument, fmt::format("--deny '{}' is none of {}, {}", word,
                                                                       fmt::join(deniable, ", "), nothing_denied));
        }
        out.push_back(word);
    }
    return out;
}

std::string checked_line(const Json& node) {
    const Json& usb = member(node, "usb");
    return fmt::format("{}: all checks passed, nothing changed: {} ({}) for {}, {}\n", printable(text_of(node, "name")),
                       printable(text_of(usb, "description")), printable(text_of(usb, "socket")),
                       printable(text_of(usb, "holder")), text_of(node, "open"));
}

}  // namespace

bool is_usb_node(const Json& node) { return text_of(node, "kind") == "usb"; }

std::optional<std::string> wrong_usb_options(const Invocation& invocation) {
    if (invocation.has("usb") && invocation.has("device")) return "takes --device or --usb, not both";
    if (!invocation.has("usb")) {
        for (const char* option : {"for", "interfaces", "deny", "reason"}) {
            if (invocation.has(option)) return fmt::format("--{} goes with --usb", option);
        }
        return std::nullopt;
    }
    if (!invocation.has("for")) {
        return "--usb needs --for: who gets it, vm:NAME for a virtual machine, host, or proc:PID";
    }
    if (invocation.has("loop")) return "--loop goes with --device";
    if (invocation.value("open") == "read-only") return "a USB node is single-writer or shared";
    if (invocation.has("interfaces")) {
        if (auto numbers = parse_interfaces(invocation.value("interfaces")); !numbers) return numbers.error().context;
    }
    if (invocation.has("deny")) {
        if (auto names = parse_deny(invocation.value("deny")); !names) return names.error().context;
    }
    return std::nullopt;
}

Result<Json> parse_interfaces(const std::string& text) {
    Json out = Json::array();
    for (const auto& word : words_of(text)) {
        const auto number = parse_unsigned(word, "interface");
        if (!number || *number > highest_interface) {
            return make_error(std::errc::invalid_argument,
                              fmt::format("--interfaces '{}': give numbers of interfaces, as in 0,1", text));
        }
        out.push_back(*number);
    }
    return out;
}

Exit create_usb_node(const Invocation& invocation) {
    const std::string target = invocation.value("usb"), holder = invocation.value("for");
    const bool dry_run = invocation.has("dry-run");
    Json parameters{{"name", invocation.value("NAME")}, {"target", target}, {"holder", holder}, {"dry_run", dry_run}};
    if (invocation.has("open")) parameters["open"] = invocation.value("open");
    if (invocation.has("interfaces")) parameters["interfaces"] = *parse_interfaces(invocation.value("interfaces"));
    if (invocation.has("deny")) parameters["deny"] = *parse_deny(invocation.value("deny"));
    if (invocation.has("reason")) parameters["reason"] = invocation.value("reason");
    Connection stord(invocation.run_dir());
    const auto answer = stord.try_long_call("io.storctl.Node.CreateUsb", std::move(parameters),
                                            "stord is taking the host's drivers off and starting the node");
    if (!answer) return report_failure(with_explanation(stord.failure(), {target}, holder, Bus::usb));
    const Json& node = member(*answer, "node");
    for (const auto& warning : texts_of(*answer, "warnings")) report("warning: " + warning);
    if (invocation.has("json")) {
        put(to_document(
            {{"version", 1}, {"dry_run", dry_run}, {"node", node}, {"warnings", list_of(*answer, "warnings")}}));
    } else {
        put(dry_run ? checked_line(node) : format_properties(describe_node(node, {}), invocation.screen()));
    }
    return Exit::done;
}

std::optional<UsbSnippets> usb_snippets(const Json& node) {
    for (const Json& form : list_of(node, "forms")) {
        if (text_of(form, "type") != "usbfs") continue;
        const std::string path = text_of(form, "path");
        const std::string device = fmt::format("usb-host,hostdevice={}", qemu_escape(path));
        return UsbSnippets{.path = path,
                           .qemu_device = "-device " + shell_quote(device),
                           .libvirt_commandline = fmt::format("<qemu:commandline>\n"
                                                              "  <qemu:arg value='-device'/>\n"
                                                              "  <qemu:arg value='{}'/>\n"
                                                              "</qemu:commandline>\n",
                                                              xml_escape(device))};
    }
    return std::nullopt;
}

}  // namespace storctl::cli
