// The columns of "usb list", "usb claims", "usb rule list" and "pci list".
#include <algorithm>
#include <array>

#include "cli/cells.hpp"
#include "cli/claim_view.hpp"
#include "cli/commands.hpp"
#include "cli/usb_view.hpp"

namespace storctl::cli {
namespace {

using Format = ValueFormat;

template <const char* key>
Cell claim_cell(const Json& row, const Format&) {
    return {claim_number(member(row, key))};
}

template <const char* key>
Cell style_state(const Json& row, const Format&) {
    const std::string state = text_of(row, key);
    return {state, state.empty() ? Style::plain : claim_state_style(state)};
}

Cell uses(const Json& row, const Format&) { return {join(use_texts(row), ", ")}; }
Cell hexadecimal_ids(const Json& row, const Format&) { return {usb_ids(row)}; }
Cell speed(const Json& device, const Format&) { return {format_speed(text_of(device, "speed_mbps"))}; }
Cell vendor_and_product(const Json& device, const Format&) { return {usb_names(device)}; }

Cell hub_in_use(const Json& device, const Format&) {
    return {flag_of(device, "hub") ? fmt::to_string(number_of(device, "in_use")) : ""};
}

Cell device_notes(const Json& device, const Format&) {
    std::vector<std::string> words;
    if (flag_of(device, "hub")) words.emplace_back("hub");
    const bool absent = maybe_flag_of(device, "present") == false;
    if (absent) words.emplace_back("absent");
    for (const Json& use : list_of(device, "uses")) {
        const std::string kind = text_of(use, "kind");
        if (std::find(words.begin(), words.end(), kind) == words.end()) words.push_back(kind);
    }
    return {join(words, ","), absent ? Style::dim : Style::plain};
}

Cell class_code(const Json& device, const Format&) {
    return {fmt::format("{:02x}", number_of(device, "device_class"))};
}

Cell interfaces(const Json& device, const Format&) {
    std::vector<std::string> out;
    for (const Json& interface : list_of(device, "interfaces")) {
        const std::string driver = text_of(interface, "driver");
        out.push_back(fmt::format("{}:{:02x}/{:02x}/{:02x}:{}", number_of(interface, "number"),
                                  number_of(interface, "class"), number_of(interface, "subclass"),
                                  number_of(interface, "protocol"), driver.empty() ? "-" : driver));
    }
    return {join(out, ",")};
}

Cell notes_of_claim(const Json& entry, const Format&) {
    return {join(claim_notes(entry), ","), text_of(entry, "phase") == "failed" ? Style::bad : Style::plain};
}

Cell buses(const Json& controller, const Format&) {
    std::vector<std::string> out;
    for (const Json& bus : list_of(controller, "buses")) {
        out.push_back(fmt::format("usb{}:{}", number_of(bus, "number"), number_of(bus, "in_use")));
    }
    return {join(out, ",")};
}

Cell device_class(const Json& rule, const Format&) {
    const Json& code = member(rule, "device_class");
    return {code.is_number() ? class_text(number_of(rule, "device_class")) : ""};
}

constexpr char k_socket[] = "socket", k_kernel_name[] = "kernel_name", k_holder[] = "holder", k_claim[] = "claim",
               k_half[] = "half", k_bus[] = "bus", k_address[] = "address", k_devnode[] = "devnode",
               k_parent[] = "parent", k_serial[] = "serial", k_ports[] = "ports", k_id[] = "id", k_state[] = "state",
               k_kind[] = "kind", k_target[] = "target", k_since[] = "since", k_description[] = "description",
               k_reason[] = "reason", k_origin[] = "origin", k_deadline[] = "deadline", k_counted[] = "counted",
               k_phase[] = "phase", k_message[] = "message", k_path[] = "path", k_driver[] = "driver",
               k_group[] = "group", k_in_use[] = "in_use", k_class[] = "class", k_along[] = "group_functions",
               k_companions[] = "companions", k_created[] = "created", k_created_by[] = "created_by";

constexpr auto device_table = std::to_array<Column>({
    {"SOCKET", Align::left, true, "where it is plugged in: controller and ports", text_cell<k_socket>, true},
    {"NAME", Align::left, true, "kernel name", text_cell<k_kernel_name>, true},
    {"ID", Align::left, true, "vendor and product", hexadecimal_ids, true},
    {"SPEED", Align::right, true, "bits per second", speed},
    {"IN-USE", Align::right, true, "of a hub: claims and host uses below it", hub_in_use},
    {"HOLDER", Align::left, true, "who has it: vm:NAME, host, proc:PID", text_cell<k_holder>, true},
    {"NOTES", Align::left, true, "hub, absent, and the host's uses: mount, swap, holder, network, usbfs, open, …",
     device_notes},
    {"DESCRIPTION", Align::left, true, "as the device says", vendor_and_product},
    {"CLAIM", Align::left, false, "the claim on it, or on a hub or controller above it", claim_cell<k_claim>, true},
    {"HALF", Align::left, false, "the bus that it is on: usb2, usb3", text_cell<k_half>},
    {"BUS", Align::right, false, "number of the bus", number_cell<k_bus>},
    {"ADDRESS", Align::right, false, "number on the bus", number_cell<k_address>},
    {"DEVNODE", Align::left, false, "device node", text_cell<k_devnode>, true},
    {"PARENT", Align::left, false, "socket of the hub above", text_cell<k_parent>, true},
    {"SERIAL", Align::left, false, "as the device says", text_cell<k_serial>},
    {"CLASS", Align::left, false, "class of the device; 00: its interfaces' count", class_code},
    {"PORTS", Align::right, false, "of a hub", number_cell<k_ports>},
    {"INTERFACES", Align::left, false, "NUMBER:CLASS/SUBCLASS/PROTOCOL:DRIVER", interfaces},
    {"USES", Align::left, false, "what the host and programs do with it", uses},
});

constexpr auto claim_table = std::to_array<Column>({
    {"ID", Align::left, true, "the claim's number", claim_cell<k_id>, true},
    {"HOLDER", Align::left, true, "who has it: vm:NAME, host, proc:PID", text_cell<k_holder>, true},
    {"STATE", Align::left, true, "provisional, active, releasing, lost", style_state<k_state>},
    {"KIND", Align::left, true, "device, hub, controller", text_cell<k_kind>},
    {"TARGET", Align::left, true, "socket or PCI function", text_cell<k_target>, true},
    {"SINCE", Align::left, false, "when it was made", text_cell<k_since>},
    {"NOTES", Align::left, true, "pending, failed, covered, keep-drivers, observed", notes_of_claim},
    {"DESCRIPTION", Align::left, true, "what was claimed", text_cell<k_description>},
    {"REASON", Align::left, false, "why", text_cell<k_reason>},
    {"ORIGIN", Align::left, false, "admin, libvirt, rule:ID, observed", text_cell<k_origin>},
    {"DEADLINE", Align::left, false, "when it ends by itself", text_cell<k_deadline>},
    {"COUNTED", Align::left, false, "what it adds one to", texts_cell<k_counted>},
    {"PHASE", Align::left, false, "what became of its drivers: none, pending, done, failed", text_cell<k_phase>},
    {"MESSAGE", Align::left, false, "more about PHASE", text_cell<k_message>},
});

constexpr auto rule_table = std::to_array<Column>({
    {"ID", Align::left, true, "the rule's number", number_cell<k_id>, true},
    {"HOLDER", Align::left, true, "who gets the device", text_cell<k_holder>, true},
    {"SOCKET", Align::left, true, "plugged in there", text_cell<k_socket>, true},
    {"DEVICE", Align::left, true, "vendor and product", hexadecimal_ids, true},
    {"SERIAL", Align::left, true, "serial number", text_cell<k_serial>, true},
    {"CLASS", Align::left, true, "class of the device or of one of its interfaces", device_class},
    {"CREATED", Align::left, false, "when", text_cell<k_created>},
    {"AUTHOR", Align::left, false, "who created it", text_cell<k_created_by>},
});

constexpr auto controller_table = std::to_array<Column>({
    {"ADDRESS", Align::left, true, "PCI address", text_cell<k_path>, true},
    {"KIND", Align::left, true, "usb, nvme, storage, network, display, other", text_cell<k_kind>},
    {"DRIVER", Align::left, true, "the driver that it is bound to", text_cell<k_driver>},
    {"GROUP", Align::right, true, "IOMMU group", maybe_number_cell<k_group>},
    {"IN-USE", Align::right, true, "claims and host uses below it", number_cell<k_in_use>},
    {"HOLDER", Align::left, true, "who has the function", text_cell<k_holder>, true},
    {"DESCRIPTION", Align::left, true, "what it is", text_cell<k_description>},
    {"ID", Align::left, false, "vendor and device", hexadecimal_ids, true},
    {"CLASS", Align::left, false, "PCI class", text_cell<k_class>},
    {"CLAIM", Align::left, false, "the claim on it", claim_cell<k_claim>, true},
    {"STATE", Align::left, false, "of the claim", style_state<k_state>},
    {"ALONG", Align::left, false, "functions of its IOMMU group that must go along", texts_cell<k_along>, true},
    {"COMPANIONS", Align::left, false, "functions that serve the same USB sockets", texts_cell<k_companions>, true},
    {"BUSES", Align::left, false, "USB buses with their in-use counts", buses},
    {"USES", Align::left, false, "what the host and programs do with what lies on it", uses},
});

}  // namespace

std::span<const Column> usb_device_columns() { return device_table; }
std::span<const Column> claim_columns() { return claim_table; }
std::span<const Column> usb_rule_columns() { return rule_table; }
std::span<const Column> pci_columns() { return controller_table; }

}  // namespace storctl::cli
