// storctl node: create, list, show, remove. (node stat: node_stat.cpp.)
#include <algorithm>
#include <iostream>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/text.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/node_sg.hpp"
#include "cli/node_usb.hpp"
#include "cli/node_view.hpp"
#include "cli/rates.hpp"
#include "cli/verb_output.hpp"
#include "cli/verbs.hpp"
#include "cli/vm_snippets.hpp"
#include "locality/sysfs_block.hpp"

namespace storctl::cli {
namespace {

Json describe_consumers(const Json& node) {
    Json out = Json::array();
    for (const auto& way : vm_snippets(node)) {
        out.push_back({{"form", way.form},
                       {"path", way.path},
                       {"qemu_drive", way.qemu_drive},
                       {"qemu_blockdev", way.qemu_blockdev},
                       {"libvirt_disk", way.libvirt_disk}});
    }
    if (const auto sg = sg_snippets(node)) {
        out.push_back({{"form", "sg"},
                       {"path", sg->path},
                       {"qemu_drive", sg->qemu_drive},
                       {"qemu_blockdev", sg->qemu_blockdev},
                       {"libvirt_controller", sg->libvirt_controller},
                       {"libvirt_commandline", sg->libvirt_commandline}});
    }
    if (const auto usb = usb_snippets(node)) {
        out.push_back({{"form", "usbfs"},
                       {"path", usb->path},
                       {"qemu_device", usb->qemu_device},
                       {"libvirt_commandline", usb->libvirt_commandline}});
    }
    return out;
}

std::string indented(const std::string& lines) {
    std::string out;
    for (const auto& line : split(trim(lines), '\n')) out += "  " + printable(line) + "\n";
    return out;
}

/// What libvirt has no words of its own for.
std::string commandline_text(const std::string& path, const std::string& commandline, const Screen& screen) {
    const auto heading = [&](const char* text) { return styled(text, Style::heading, screen.colour) + "\n"; };
    return heading("libvirt, in a <domain> with xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0':") +
           indented(commandline) + heading("and in /etc/libvirt/qemu.conf, beside the entries that are there:") +
           indented(fmt::format("cgroup_device_acl = [ …, \"{}\" ]", path));
}

std::string usb_consumer_text(const UsbSnippets& usb, const Screen& screen) {
    return "\n" + styled("QEMU:", Style::heading, screen.colour) + "\n" + indented(usb.qemu_device) +
           commandline_text(usb.path, usb.libvirt_commandline, screen);
}

std::string sg_consumer_text(const SgSnippets& sg, const Screen& screen) {
    return "\n" + styled("QEMU, by sg:", Style::heading, screen.colour) + "\n" + indented(sg.qemu_drive) +
           indented(sg.qemu_blockdev) + styled("libvirt, by sg, in <devices>:", Style::heading, screen.colour) + "\n" +
           indented(sg.libvirt_controller) + commandline_text(sg.path, sg.libvirt_commandline, screen);
}

std::string consumer_text(const Json& node, const Screen& screen) {
    if (const auto usb = usb_snippets(node)) return usb_consumer_text(*usb, screen);
    std::string out;
    for (const auto& way : vm_snippets(node)) {
        out += fmt::format("\n{}\n  {}\n  {}\n",
                           styled(fmt::format("QEMU, by {}:", way.form), Style::heading, screen.colour),
                           printable(way.qemu_drive), printable(way.qemu_blockdev));
        out += styled(fmt::format("libvirt, by {}:", way.form), Style::heading, screen.colour) + "\n";
        out += indented(way.libvirt_disk);
    }
    if (const auto sg = sg_snippets(node)) out += sg_consumer_text(*sg, screen);
    return out;
}

/// A regular file is named as seen from here; stord wants it absolute. Device ids and names go as they are.
std::string absolute_if_file(const std::string& device) {
    const bool path_like = device.find('/') != std::string::npos && !device.starts_with('/');
    if (!path_like) return device;
    char* here = ::getcwd(nullptr, 0);
    if (here == nullptr) return device;
    std::string out = fmt::format("{}/{}", here, device);
    std::free(here);
    return out;
}

/// "image.raw" is the name of a device; a file of that name here was perhaps meant.
Failure with_file_hint(Failure failure, const std::string& device) {
    const bool plain = device.find('/') == std::string::npos;
    if (failure.exit == Exit::not_found && plain && ::access(device.c_str(), F_OK) == 0) {
        failure.items.push_back(fmt::format("the file here is --device ./{}", device));
    }
    return failure;
}

/// Asked on a terminal only: a script that says --force means it.
bool confirmed(const std::string& question) {
    if (::isatty(STDIN_FILENO) != 1) return true;
    fmt::print(stderr, "{} [y/N] ", printable(question));
    std::string answer;
    return std::getline(std::cin, answer) && (answer == "y" || answer == "Y" || answer == "yes");
}

/// Who keeps the node from being removed: all that have its file open but its own loop device, and who uses that.
std::vector<std::string> users_of(const Json& node) {
    std::vector<std::string> out;
    for (const Json& opener : list_of(node, "openers")) {
        const bool own_loop = flag_of(node, "loop") && number_of(opener, "pid") == number_of(node, "pid");
        if (!own_loop) out.push_back(describe_opener(opener));
    }
    for (const Json& form : list_of(node, "forms")) {
        struct stat status {};
        if (text_of(form, "type") != "loop" || ::stat(text_of(form, "path").c_str(), &status) != 0) continue;
        const auto users = locality::who_uses({major(status.st_rdev), minor(status.st_rdev)});
        for (const auto& user : users.value_or(std::vector<std::string>())) {
            out.push_back(fmt::format("{}: {}", text_of(form, "path"), user));
        }
    }
    return out;
}

std::string checked_line(const Json& node) {
    const Json& backing = member(node, "backing");
    const std::string device = text_of(node, "device");
    return fmt::format("{}: all checks passed, nothing created: {} {}{}, {}, {}{}{}\n",
                       printable(text_of(node, "name")), text_of(backing, "kind"), printable(text_of(backing, "path")),
                       device.empty() ? "" : fmt::format(" ({})", printable(device)),
                       format_size(number_of(backing, "size_bytes")), text_of(node, "open"),
                       flag_of(node, "loop") ? ", with a loop device" : "",
                       flag_of(node, "sg") ? ", with a SCSI generic device" : "");
}

bool shows_counts(const Column* column) {
    return column->name == "URBS" || column->name == "BYTES" || column->name == "ERRORS";
}

/// The default columns have the counts, too, where there is a USB node.
std::string with_counts(const std::string& request, bool usb) {
    if (!usb || !(request.empty() || request.starts_with('+'))) return request;
    return "+URBS,BYTES,ERRORS" + (request.empty() ? "" : "," + request.substr(1));
}

/// As their member "counts": what each has done since its process started; null where that is not known.
void add_counts(Json::array_t& nodes, const Json::array_t& stats) {
    for (Json& node : nodes) {
        const auto stat = std::find_if(stats.begin(), stats.end(), [&](const Json& candidate) {
            return text_of(candidate, "name") == text_of(node, "name");
        });
        node["counts"] = stat == stats.end() ? Json() : total_counts(*stat);
    }
}

Exit removed(const Invocation& invocation, const std::string& name, bool dry_run, const Json::array_t& warnings = {}) {
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"removed", name}, {"dry_run", dry_run}, {"warnings", warnings}}));
    } else {
        put(fmt::format("{}: {}\n", printable(name), dry_run ? "would be removed" : "removed"));
    }
    for (const Json& warning : warnings) {
        report(fmt::format("removed node '{}', and the host's drivers did not come back: {}", name,
                           warning.get<std::string>()));
    }
    return warnings.empty() ? Exit::done : Exit::partly;
}

}  // namespace

Exit node_create(const Invocation& invocation) {
    if (const auto wrong = wrong_usb_options(invocation)) return wrong_usage(invocation, *wrong);
    if (const auto wrong = wrong_sg_options(invocation)) return wrong_usage(invocation, *wrong);
    if (invocation.has("usb")) return create_usb_node(invocation);
    if (!invocation.has("device")) {
        return wrong_usage(invocation,
                           "needs --device: a device's id ('storctl device list'), a device node, or the path of a "
                           "regular file; or --usb for a USB device");
    }
    const bool dry_run = invocation.has("dry-run");
    Json parameters{{"name", invocation.value("NAME")},
                    {"device", absolute_if_file(invocation.value("device"))},
                    {"loop", invocation.has("loop")},
                    {"dry_run", dry_run}};
    if (invocation.has("open")) parameters["open"] = invocation.value("open");
    if (const auto sg = wants_sg(invocation)) parameters["sg"] = *sg;
    Connection stord(invocation.run_dir());
    const auto answer = stord.try_long_call("io.storctl.Node.Create", std::move(parameters),
                                            "stord is starting the node; its backing may not answer");
    if (!answer) return report_failure(with_file_hint(stord.failure(), invocation.value("device")));
    const Json& node = member(*answer, "node");
    for (const auto& warning : texts_of(*answer, "warnings")) report("warning: " + warning);
    if (invocation.has("json")) {
        put(to_document(
            {{"version", 1}, {"dry_run", dry_run}, {"node", node}, {"warnings", list_of(*answer, "warnings")}}));
        return Exit::done;
    }
    put(dry_run
            ? checked_line(node)
            : format_properties(describe_node(node, {.exact_bytes = invocation.has("bytes")}), invocation.screen()));
    return Exit::done;
}

Exit node_list(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Node.List");
    if (!answer) return stord.exit();
    Json::array_t nodes = list_of(*answer, "nodes");
    const bool json = invocation.has("json");
    const bool usb = std::any_of(nodes.begin(), nodes.end(), is_usb_node);
    const auto columns = select_columns(node_columns(), with_counts(invocation.value("output"), usb));
    if (json || std::any_of(columns->begin(), columns->end(), shows_counts)) {
        const auto stats = stord.try_call("io.storctl.Node.Stat");
        if (!stats) report("warning: the counts are not known: " + stord.failure().message);
        add_counts(nodes, stats ? list_of(*stats, "stats") : Json::array_t());
    }
    if (json) {
        put(to_document({{"version", 1}, {"nodes", nodes}}));
    } else {
        put(format_table(*columns, nodes, invocation.table_format()));
    }
    return Exit::done;
}

Exit node_show(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Node.Show", {{"name", invocation.value("NAME")}});
    if (!answer) return stord.exit();
    const Json& node = member(*answer, "node");
    if (invocation.has("json")) {
        put(to_document({{"version", 1}, {"node", node}, {"consumers", describe_consumers(node)}}));
        return Exit::done;
    }
    const Screen screen = invocation.screen();
    put(format_properties(describe_node(node, {.exact_bytes = invocation.has("bytes")}), screen) +
        consumer_text(node, screen));
    return Exit::done;
}

Exit node_remove(const Invocation& invocation) {
    const std::string name = invocation.value("NAME");
    const bool force = invocation.has("force"), dry_run = invocation.has("dry-run");
    Connection stord(invocation.run_dir());
    const auto answer = stord.call("io.storctl.Node.Show", {{"name", name}});
    if (!answer) return stord.exit();
    const auto openers = users_of(member(*answer, "node"));
    if (dry_run) {
        if (openers.empty() || force) return removed(invocation, name, true);
        return report_failure(
            {Exit::refused, fmt::format("node '{}' is open; --force removes it all the same:", name), openers});
    }
    if (force && !openers.empty() && !invocation.has("yes")) {
        report(fmt::format("node '{}' is open:", name), openers);
        if (!confirmed("Remove it? They get errors from then on.")) {
            report("nothing removed");
            return Exit::failed;
        }
    }
    const auto gone = stord.try_long_call("io.storctl.Node.Remove", {{"name", name}, {"force", force}},
                                          "stord is ending the node; its device or the host's drivers take their time");
    if (!gone) return report_failure(stord.failure());
    return removed(invocation, name, false, list_of(*gone, "warnings"));
}

}  // namespace storctl::cli
