#include "daemon/use_scan.hpp"

#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <unistd.h>

#include "base/file.hpp"
#include "locality/usage.hpp"
#include "usbarb/open_nodes.hpp"
#include "usbarb/use_reader.hpp"

namespace storctl {
namespace {

using locality::Usage;
using usbarb::Socket, usbarb::Unit, usbarb::Use, usbarb::UseKind;

Use use_of(const Usage::User& user, const std::string& disk) {
    // of the disk itself the sentence does not say which one
    const std::string text = user.name == disk ? fmt::format("{} ({})", user.text, disk) : user.text;
    switch (user.kind) {
        case Usage::User::Kind::mount:
            return {.kind = UseKind::mount, .text = text};
        case Usage::User::Kind::swap:
            return {.kind = UseKind::swap, .text = text};
        case Usage::User::Kind::stacked:
            break;
    }
    const bool loop = user.name.starts_with("loop");
    return {.kind = loop ? UseKind::loop : UseKind::holder, .text = "held by " + user.text};
}

std::vector<Use> disk_uses(const std::string& disk, const Usage& usage, const UseRequest& request) {
    std::vector<Use> out;
    for (const auto& user : usage.find_users(disk)) out.push_back(use_of(user, disk));
    if (request.nodes.empty()) return out;
    for (const auto& name : usage.stack_of(disk)) {
        const auto node = request.nodes.find(name);
        if (node == request.nodes.end()) continue;
        out.push_back({.kind = UseKind::node, .text = fmt::format("behind node '{}' ({})", node->second, name)});
    }
    return out;
}

/// Of the disk and its partitions. What a node's own process has open is told as the node's.
std::vector<Use> open_uses(const Unit& disk, const usbarb::OpenNodes& opened, const UseRequest& request) {
    std::vector<Use> out;
    for (const auto& [name, uses] : opened.blocks) {
        const bool partition = ::access(fmt::format("{}/{}/partition", disk.syspath, name).c_str(), F_OK) == 0;
        if (name != disk.name && !partition) continue;
        for (Use use : uses) {
            if (use.kind == UseKind::node && request.processes.may_be_any(use.pid)) continue;
            use.kind = UseKind::open;
            use.text += fmt::format(" ({})", name);
            out.push_back(std::move(use));
        }
    }
    return out;
}

Use console_use(const Unit& unit) {
    return {.kind = UseKind::console, .text = fmt::format("keyboard of the host's console ({})", unit.name)};
}

/// The USB device's socket, or the unit's place on its function; nullopt for a device that is gone.
std::optional<Socket> place_of(const Unit& unit, usbarb::UsbReader& reader) {
    if (auto place = reader.place_of(unit.owner)) return std::move(place->first);
    // not below a root hub: a PCI function
    if (!usbarb::root_hub_of(unit.owner).empty()) return std::nullopt;
    return Socket{.controller = base_name(unit.owner), .unit = unit.name};
}

void append(std::vector<Use>& to, std::vector<Use> uses) {
    to.insert(to.end(), std::make_move_iterator(uses.begin()), std::make_move_iterator(uses.end()));
}

/// The process of a node over this device is told as the node's use; any other process of that program is one like
/// others.
void name_node_processes(std::vector<Use>& uses, const std::string& devnode, const UseRequest& request) {
    const auto node = request.usb_nodes.find(devnode);
    for (Use& use : uses) {
        if (use.kind != UseKind::node) continue;
        if (node == request.usb_nodes.end() || !request.processes.may_be_of(use.pid, node->second)) {
            use.kind = UseKind::open;
        } else {
            use.text = fmt::format("behind node '{}'", node->second);
        }
    }
}

}  // namespace

Result<UseScan> scan_uses(const UseRequest& request, const UsePaths& paths) {
    usbarb::UsbReader reader(paths.kernel);
    TRY(reader.list_devices());  // says it when there is no sysfs: nothing found would be read as nothing used
    auto tree = TRY(locality::read_usage_tree(paths.block.sys));
    const auto texts = TRY(locality::read_usage_texts(paths.block));
    const Usage usage(std::move(tree), texts);
    const auto network = TRY(usbarb::NetworkUses::read(paths.kernel));
    const auto units = TRY(usbarb::read_units(paths.kernel));
    auto opened = TRY(usbarb::read_open_nodes(::getpid(), paths.kernel));
    UseScan scan;
    scan.hidden_processes = opened.hidden;
    for (const auto& unit : units) {
        std::vector<Use> uses;
        switch (unit.kind) {
            case Unit::Kind::block:
                uses = disk_uses(unit.name, usage, request);
                append(uses, open_uses(unit, opened, request));
                break;
            case Unit::Kind::network:
                uses = TRY(network.of(unit));
                break;
            case Unit::Kind::console:
                if (request.consoles) uses.push_back(console_use(unit));
                break;
        }
        if (uses.empty()) continue;
        if (const auto place = place_of(unit, reader)) append(scan.uses[*place], std::move(uses));
    }
    for (auto& [function, uses] : opened.functions) {
        append(scan.uses[{.controller = function, .unit = "vfio"}], std::move(uses));
    }
    for (auto& [node, uses] : opened.uses) {
        name_node_processes(uses, node, request);
        const std::string syspath = usbarb::device_of_node(node, paths.kernel);
        if (syspath.empty()) continue;  // gone meanwhile
        if (const auto place = reader.place_of(syspath)) append(scan.uses[place->first], std::move(uses));
    }
    return scan;
}

}  // namespace storctl
