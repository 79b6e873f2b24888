#include "cli/node_view.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/device_view.hpp"
#include "cli/fields.hpp"
#include "cli/node_sg.hpp"
#include "cli/node_usb.hpp"

namespace storctl::cli {

Style node_state_style(std::string_view state) {
    if (state == "serving") return Style::good;
    if (state == "failed" || state == "backing-lost") return Style::bad;
    return Style::warning;
}

std::string describe_opener(const Json& opener) {
    const uint64_t pid = number_of(opener, "pid");
    const std::string program = text_of(opener, "program");
    const std::string who = pid == 0 ? (program.empty() ? "the kernel or another pid namespace" : program)
                                     : fmt::format("pid {} ({})", pid, program);
    return fmt::format("{}, {}, since {}", who, text_of(opener, "mode"), text_of(opener, "since"));
}

namespace {

/// Interfaces as they are named on the command line.
std::string numbers_text(const Json& numbers) {
    std::vector<std::string> out;
    for (const Json& number : numbers) out.push_back(number.dump());
    return out.empty() ? "none" : join(out, ", ");
}

std::vector<Property> describe_usb(const Json& node) {
    const Json& usb = member(node, "usb");
    const std::string devnode = text_of(usb, "devnode");
    const auto denied = texts_of(usb, "deny");
    return {
        {"device", {text_of(usb, "description")}},
        {"socket", {text_of(usb, "socket")}},
        {"claim",
         {fmt::format("#{} for {}{}", number_of(usb, "claim"), text_of(usb, "holder"),
                      flag_of(usb, "own_claim") ? ", released with the node" : "")}},
        {"raw node",
         {devnode.empty() ? "absent: the device is unplugged" : devnode, devnode.empty() ? Style::bad : Style::plain}},
        {"number", {fmt::format("{}:{}", number_of(usb, "major"), number_of(usb, "minor"))}},
        {"interfaces", {member(usb, "interfaces").is_array() ? numbers_text(member(usb, "interfaces")) : "all"}},
        {"denied", {denied.empty() ? "nothing" : join(denied, ", ")}},
    };
}

std::vector<Property> describe_disk(const Json& node, const ValueFormat& format) {
    const Json& backing = member(node, "backing");
    return {
        {"size", {describe_size(number_of(backing, "size_bytes"), format)}},
        {"logical block", {fmt::format("{} bytes", number_of(backing, "logical_block_bytes"))}},
        {"backing",
         {fmt::format("{} ({}{}{})", text_of(backing, "path"), text_of(backing, "kind"),
                      flag_of(backing, "direct") ? ", direct I/O" : ", through the page cache",
                      flag_of(backing, "present") ? "" : ", absent"),
          flag_of(backing, "present") ? Style::plain : Style::bad}},
        {"device", {text_of(node, "device")}},
    };
}

}  // namespace

std::vector<Property> describe_node(const Json& node, const ValueFormat& format) {
    const std::string state = text_of(node, "state"), message = text_of(node, "message");
    const uint64_t pid = number_of(node, "pid");
    std::vector<Property> out{
        {"name", {text_of(node, "name"), Style::heading}},
        {"state", {message.empty() ? state : fmt::format("{}: {}", state, message), node_state_style(state)}},
    };
    for (auto& property : is_usb_node(node) ? describe_usb(node) : describe_disk(node, format)) {
        out.push_back(std::move(property));
    }
    out.push_back({"open", {text_of(node, "open")}});
    out.push_back(
        {"process", {pid == 0 ? "none" : fmt::format("pid {}, restarted {} times", pid, number_of(node, "restarts"))}});
    out.push_back({"created", {fmt::format("{} by {}", text_of(node, "created"), text_of(node, "created_by"))}});
    for (const Json& form : list_of(node, "forms")) out.push_back({text_of(form, "type"), {text_of(form, "path")}});
    for (auto& property : describe_reservations(node)) out.push_back(std::move(property));
    const auto& openers = list_of(node, "openers");
    for (size_t i = 0; i < openers.size(); ++i) out.push_back({i == 0 ? "open by" : "", {describe_opener(openers[i])}});
    if (openers.empty()) out.push_back({"open by", {"nobody", Style::dim}});
    return out;
}

}  // namespace storctl::cli
