#include "cli/verbs.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cli/commands.hpp"
#include "cli/verb_options.hpp"

namespace storctl::cli {
namespace {

constexpr Option bytes{.name = "bytes", .letter = 'b', .help = "sizes as whole numbers of bytes"};
constexpr Option yes{.name = "yes", .letter = 'y', .help = "do not ask"};

constexpr Argument device_id{
    .name = "ID",
    .complete = Complete::device,
    .help = "a device's id, any of its usable identifiers, its kernel name, device node or link"};
constexpr Argument node_name{.name = "NAME", .complete = Complete::node, .help = "the node's name"};

constexpr auto object_table = std::to_array<Object>({
    {"device", "the storage devices of this host, and which of them the whole cluster shares"},
    {"node", "mediated nodes: what virtual machines use instead of the raw devices"},
    {"usb", "the USB devices of this host: who has which, what is in use, who may have it"},
    {"usb rule", "who gets which device by itself when it is plugged in"},
    {"pci", "PCI functions and their passthrough: controllers with all that is on them"},
    {"hook", "what other programs call"},
});

constexpr auto common_table = std::to_array<Option>({
    {.name = "run-dir",
     .value_name = "DIR",
     .complete = Complete::directory,
     .help = "stord's run directory (default: $STORCTL_RUN_DIR, else /run/storctl)"},
    {.name = "color",
     .value_name = "WHEN",
     .values = "auto|always|never",
     .help = "colour: auto (on a terminal, unless NO_COLOR is set), always or never"},
    {.name = "help", .letter = 'h', .help = "show this help"},
});

std::vector<Verb> alone() {
    return {
        {.name = "status",
         .summary = "what stord is doing, and what an administrator should look at",
         .options = {json_option},
         .run = show_status},
        {.name = "monitor",
         .summary = "follow what happens to devices, nodes and claims",
         .description = "One line per event, until interrupted or until stord goes away (exit status 6).",
         .options = {json_option},
         .run = monitor},
        {.name = "version", .summary = "storctl's version", .options = {json_option}, .run = show_version},
    };
}

std::vector<Verb> of_device() {
    return {
        {.object = "device",
         .name = "list",
         .summary = "one line per device",
         .options = {output_option, no_headings_option, bytes, json_option},
         .columns = device_columns(),
         .run = device_list},
        {.object = "device",
         .name = "show",
         .summary = "everything about one device: identifiers, paths, sharing and why",
         .arguments = {device_id},
         .options = {bytes, json_option},
         .run = device_show},
        {.object = "device",
         .name = "share",
         .summary = "say whether the whole cluster shares a device",
         .description =
             "true and false stand until they are taken back, over rescans and reboots; auto takes the decision "
             "back and lets stord's own rule speak again.",
         .arguments = {device_id,
                       {.name = "VALUE",
                        .values = "true|false|auto",
                        .help = "true, false, or auto: as the rule says"}},
         .options = {{.name = "reason", .letter = 'r', .value_name = "TEXT", .help = "why; kept with the decision"},
                     dry_run_option,
                     json_option},
         .run = device_share},
        {.object = "device",
         .name = "rescan",
         .summary = "enumerate all devices again and say what changed",
         .options = {json_option},
         .run = device_rescan},
    };
}

std::vector<Verb> of_node() {
    return {
        {.object = "node",
         .name = "create",
         .summary = "put a mediated node in front of a disk, a file or a USB device",
         .description =
             "A USB device is claimed for --for as well, unless that has it already: claim and node, or nothing.",
         .arguments = {{.name = "NAME", .help = "1 to 64 of A-Z a-z 0-9 . _ -, not starting with . or -"}},
         .options = {{.name = "device",
                      .letter = 'd',
                      .value_name = "ID|PATH",
                      .complete = Complete::device_or_file,
                      .help = "the disk or file that it stands in front of; this or --usb"},
                     {.name = "usb",
                      .letter = 'u',
                      .value_name = "WHAT",
                      .complete = Complete::usb,
                      .help =
                          "the USB device: a socket, a kernel name (1-2.1), a device node, VID:PID or a serial number"},
                     {.name = "for",
                      .value_name = "HOLDER",
                      .complete = Complete::holder,
                      .help = "with --usb, required: who gets it, vm:NAME, host or proc:PID"},
                     {.name = "open",
                      .value_name = "MODE",
                      .values = "single-writer|shared|read-only",
                      .help = "who may open it (default: single-writer)"},
                     {.name = "interfaces",
                      .value_name = "LIST",
                      .help = "of the USB device only these are shown and may be used: 0,1 (default: all)"},
                     {.name = "deny",
                      .value_name = "LIST",
                      .complete = Complete::denials,
                      .help = "what is refused of reset, configuration, firmware, vendor, or none (default: firmware)"},
                     {.name = "reason",
                      .letter = 'r',
                      .value_name = "TEXT",
                      .help = "why the USB device is claimed; shown to whom it blocks"},
                     {.name = "loop", .letter = 'l', .help = "also a kernel block device, /dev/storctl/disk/NAME"},
                     {.name = "sg",
                      .help = "also a SCSI generic device, /dev/storctl/sg/NAME (default: as stord.toml says)"},
                     {.name = "no-sg", .help = "no SCSI generic device"},
                     dry_run_option,
                     bytes,
                     json_option},
         .run = node_create},
        {.object = "node",
         .name = "list",
         .summary = "one line per node",
         .options = {output_option, no_headings_option, bytes, json_option},
         .columns = node_columns(),
         .run = node_list},
        {.object = "node",
         .name = "show",
         .summary = "everything about one node, and how a virtual machine takes it",
         .arguments = {node_name},
         .options = {bytes, json_option},
         .run = node_show},
        {.object = "node",
         .name = "stat",
         .summary = "operations, bytes and latencies of nodes, once or every INTERVAL seconds",
         .description =
             "The first line of a node counts since its process started, each further one since the line before. A "
             "number in NAME's place is the interval, unless a node has that name.",
         .arguments = {{.name = "NAME",
                        .complete = Complete::node_or_number,
                        .required = false,
                        .help = "one node; without it, all"},
                       {.name = "INTERVAL", .required = false, .help = "seconds between samples, 0.1 or more"},
                       {.name = "COUNT", .required = false, .help = "how many samples; without it, until interrupted"}},
         .options = {output_option, no_headings_option, json_option},
         .columns = node_stat_columns(),
         .run = node_stat},
        {.object = "node",
         .name = "remove",
         .summary = "take a node away",
         .description = "A node that is open is refused (exit status 8), and who has it open is listed.",
         .arguments = {node_name},
         .options = {{.name = "force",
                      .letter = 'f',
                      .help = "although it is open: its consumers get errors from then on"},
                     dry_run_option,
                     yes,
                     json_option},
         .run = node_remove},
    };
}

std::vector<Verb> of_hook() {
    return {
        {.object = "hook",
         .name = "udev",
         .summary = "a block device's STORCTL_ properties, for IMPORT{program} in a udev rule",
         .description =
             "Reads the udev environment, sysfs and RUN_DIR/state.json, never asks or starts stord, and exits 0 "
             "whatever happens.",
         .arguments = {{.name = "DEVICE",
                        .required = false,
                        .help = "kernel name or device node (default: $DEVNAME, $DEVPATH)"}},
         .run = hook_udev},
        {.object = "hook",
         .name = "libvirt",
         .summary = "a domain's host devices: claimed before it starts, given back when it has ended",
         .description =
             "Called by libvirt (hooks/qemu.d/50-storctl), with the domain's XML on standard input. Exits 1 at "
             "\"prepare\" and \"start\" where a device is not to be had, with the reason in one line; everywhere else "
             "it "
             "exits 0 whatever happens.",
         .arguments = {{.name = "GUEST", .help = "the domain's name"},
                       {.name = "OPERATION", .help = "prepare, start, started, stopped, release, reconnect, ..."},
                       {.name = "SUB-OPERATION", .required = false, .help = "begin or end"},
                       {.name = "EXTRA", .required = false, .help = "not looked at"}},
         .run = hook_libvirt},
    };
}

std::vector<Verb> make_verbs() {
    std::vector<Verb> out;
    for (const auto& group : {alone(), of_device(), of_node(), verbs_of_usb(), verbs_of_pci(), of_hook()}) {
        out.insert(out.end(), group.begin(), group.end());
    }
    return out;
}

}  // namespace

std::string Invocation::value(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() || found->second.empty() ? std::string() : found->second.back();
}

std::vector<std::string> Invocation::values(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::vector<std::string>() : found->second;
}

std::string Invocation::run_dir() const {
    if (has("run-dir")) return value("run-dir");
    const char* environment = std::getenv("STORCTL_RUN_DIR");
    return environment != nullptr && *environment != '\0' ? environment : "/run/storctl";
}

Screen Invocation::screen() const {
    return detect_screen(parse_colour(value("color")).value_or(ColourChoice::automatic));
}

TableFormat Invocation::table_format() const {
    return {.values = {.exact_bytes = has("bytes")}, .headings = !has("no-headings"), .screen = screen()};
}

std::string Verb::path() const {
    return object.empty() ? std::string(name) : std::string(object) + " " + std::string(name);
}

std::span<const Object> objects() { return object_table; }
std::span<const Option> common_options() { return common_table; }

std::span<const Verb> verbs() {
    static const std::vector<Verb> table = make_verbs();
    return table;
}

const Verb* find_verb(std::string_view object, std::string_view name) {
    const auto all = verbs();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Verb& verb) { return verb.object == object && verb.name == name; });
    return found == all.end() ? nullptr : &*found;
}

const Object* find_object(std::string_view name) {
    const auto found =
        std::find_if(object_table.begin(), object_table.end(), [&](const Object& o) { return o.name == name; });
    return found == object_table.end() ? nullptr : &*found;
}

std::string_view last_word(const Object& object) {
    const size_t blank = object.name.rfind(' ');
    return blank == std::string_view::npos ? object.name : object.name.substr(blank + 1);
}

std::string_view object_above(const Object& object) {
    const size_t blank = object.name.rfind(' ');
    return blank == std::string_view::npos ? std::string_view() : object.name.substr(0, blank);
}

}  // namespace storctl::cli
