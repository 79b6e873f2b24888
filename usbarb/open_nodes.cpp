#include "usbarb/open_nodes.hpp"

#include <cerrno>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/qemu_guest.hpp"
#include "base/text.hpp"
#include "usbarb/sysfs_folder.hpp"
#include "usbarb/sysfs_pci.hpp"

namespace storctl::usbarb {
namespace {

constexpr unsigned usb_major = 189;          // Documentation/admin-guide/devices.txt
constexpr unsigned addresses_per_bus = 128;  // drivers/usb/core/usb.h: minor = (bus - 1) * 128 + (address - 1)
constexpr unsigned most_buses = 64;          // drivers/usb/core/hcd.c; mediated nodes have the minors beyond
constexpr std::string_view nodes_folder = "/dev/bus/usb/";
constexpr std::string_view node_program = "stor-node";

struct Number {
    unsigned bus, address;
};

std::string node_name(Number number) { return fmt::format("{}{:03}/{:03}", nodes_folder, number.bus, number.address); }

/// "/dev/bus/usb/001/004".
std::optional<Number> parse_node(std::string_view path) {
    if (!path.starts_with(nodes_folder)) return std::nullopt;
    path.remove_prefix(nodes_folder.size());
    const size_t slash = path.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    const auto bus = parse_number(path.substr(0, slash), 10, 999);
    const auto address = parse_number(path.substr(slash + 1), 10, addresses_per_bus - 1);
    return bus && address ? std::optional(Number{*bus, *address}) : std::nullopt;
}

// ---- nodes by their numbers

using DeviceNumber = std::pair<unsigned, unsigned>;

/// A kind of nodes that can be told by number, and, where a node cannot be asked for it, by its path.
struct KnownNodes {
    std::map<DeviceNumber, std::string> by_number;
    std::map<std::string, std::string, std::less<>> by_path;

    const std::string* find(const std::optional<DeviceNumber>& number, std::string_view path) const {
        if (number) {
            const auto found = by_number.find(*number);
            return found == by_number.end() ? nullptr : &found->second;
        }
        const auto found = by_path.find(path);
        return found == by_path.end() ? nullptr : &found->second;
    }
};

/// All of a class, by their "dev" files. One that goes meanwhile is left out.
Result<KnownNodes> read_class(const KernelPaths& paths, std::string_view class_name, std::string_view folder) {
    KnownNodes out;
    const auto names = TRY(read_directory(fmt::format("{}/class/{}", paths.sys, class_name)));
    for (const auto& name : names) {
        out.by_path.emplace(fmt::format("{}{}", folder, name), name);
        const std::string number = read_attribute(fmt::format("{}/class/{}/{}/dev", paths.sys, class_name, name));
        const size_t colon = number.find(':');
        if (colon == std::string::npos) continue;
        const auto major_number = parse_number(std::string_view(number).substr(0, colon), 10, 0xffffffff);
        const auto minor_number = parse_number(std::string_view(number).substr(colon + 1), 10, 0xffffffff);
        if (major_number && minor_number) out.by_number.emplace(DeviceNumber{*major_number, *minor_number}, name);
    }
    return out;
}

struct WantedNodes {
    KnownNodes groups, functions, blocks;
};

Result<WantedNodes> read_wanted(const KernelPaths& paths) {
    WantedNodes out;
    out.groups = TRY(read_class(paths, "vfio", "/dev/vfio/"));
    out.functions = TRY(read_class(paths, "vfio-dev", "/dev/vfio/devices/"));
    out.blocks = TRY(read_class(paths, "block", "/dev/"));
    return out;
}

/// Addresses of the functions in a group that vfio has a node for ("12", "noiommu-12"). Bridges stay with the host
/// whatever becomes of the others.
Result<std::vector<std::string>> functions_of_group(std::string_view group, const KernelPaths& paths) {
    constexpr std::string_view without_iommu = "noiommu-";
    if (group.starts_with(without_iommu)) group.remove_prefix(without_iommu.size());
    std::vector<std::string> out;
    const auto names = TRY(read_directory(fmt::format("{}/kernel/iommu_groups/{}/devices", paths.sys, group)));
    for (const auto& name : names) {
        const auto facts = read_function(name, paths);
        if (is_pci_address(name) && !(facts && facts->bridge)) out.push_back(name);
    }
    return out;
}

/// "…/0000:01:00.0/vfio-dev/vfio0" is of 0000:01:00.0.
std::string function_of_vfio(const std::string& name, const KernelPaths& paths) {
    return base_name(function_above(device_path(paths.sys, fmt::format("{}/class/vfio-dev/{}", paths.sys, name))));
}

// ---- processes

/// What a process has open.
struct Opened {
    std::set<std::string> nodes;              ///< raw USB nodes
    std::set<std::string> groups, functions;  ///< vfio's, by their names in the class
    std::set<std::string> blocks;
    bool empty() const { return nodes.empty() && groups.empty() && functions.empty() && blocks.empty(); }
};

/// Unless the kernel says that it is for reading only.
bool may_write(const std::string& process, const char* descriptor) {
    const auto about = read_file(fmt::format("{}/fdinfo/{}", process, descriptor));
    if (!about) return about.error().code != std::errc::no_such_file_or_directory;
    for (const auto& line : split(*about, '\n')) {
        constexpr std::string_view flags = "flags:";
        if (!line.starts_with(flags)) continue;
        const auto value = parse_number(trim(std::string_view(line).substr(flags.size())), 8, 0xffffffff);
        return !value || (*value & O_ACCMODE) != O_RDONLY;
    }
    return true;
}

/// Adds what an entry of /proc/PID/fd leads to, if it is one of the nodes. The device number counts: in other mount
/// namespaces and under other names it is the same node.
void add_opened(const std::string& process, int folder, const char* entry, const WantedNodes& wanted, Opened& out) {
    char target[256];
    const ssize_t length = ::readlinkat(folder, entry, target, sizeof target);
    // sockets, pipes and the like are no paths; a deleted node is of a device that is gone
    if (length <= 0 || target[0] != '/') return;
    const std::string_view path(target, static_cast<size_t>(length));
    if (path.ends_with(" (deleted)")) return;
    struct statx about {};
    // never asks the server of a network file system, which may not answer
    const bool asked = ::statx(folder, entry, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &about) == 0;
    std::optional<DeviceNumber> number;
    if (asked) number.emplace(about.stx_rdev_major, about.stx_rdev_minor);
    if (!asked || S_ISBLK(about.stx_mode)) {
        const std::string* block = wanted.blocks.find(number, path);
        if (block != nullptr && may_write(process, entry)) out.blocks.insert(*block);
    }
    if (!asked || S_ISCHR(about.stx_mode)) {
        std::optional<Number> usb = asked ? std::nullopt : parse_node(path);
        if (asked && about.stx_rdev_major == usb_major && about.stx_rdev_minor < most_buses * addresses_per_bus) {
            usb = Number{about.stx_rdev_minor / addresses_per_bus + 1, about.stx_rdev_minor % addresses_per_bus + 1};
        }
        if (usb) out.nodes.insert(node_name(*usb));
        if (const auto* group = wanted.groups.find(number, path)) out.groups.insert(*group);
        if (const auto* function = wanted.functions.find(number, path)) out.functions.insert(*function);
    }
}

struct FolderCloser {
    void operator()(DIR* folder) const { ::closedir(folder); }
};

bool has_ended(int error) { return error == ENOENT || error == ESRCH; }

/// nullopt when it may not be looked into; nothing of one that has ended.
Result<std::optional<Opened>> read_opened(const std::string& process, const WantedNodes& wanted) {
    const std::string path = process + "/fd";
    Opened out;
    const std::unique_ptr<DIR, FolderCloser> folder(::opendir(path.c_str()));
    if (!folder && (errno == EACCES || errno == EPERM)) return std::optional<Opened>();
    if (!folder && has_ended(errno)) return std::optional(std::move(out));
    if (!folder) return errno_error(fmt::format("cannot list the folder '{}'", path));
    errno = 0;
    while (const dirent* entry = ::readdir(folder.get())) {
        if (entry->d_name[0] != '.') add_opened(process, ::dirfd(folder.get()), entry->d_name, wanted, out);
        errno = 0;
    }
    if (errno != 0 && !has_ended(errno)) return errno_error(fmt::format("cannot list the folder '{}'", path));
    return std::optional(std::move(out));
}

int parent_of(const std::string& process) {
    const std::string stat = read_attribute(process + "/stat");
    // the name, in parentheses, may hold anything
    const size_t end = stat.rfind(')');
    const auto fields = split(end == std::string::npos ? std::string_view() : std::string_view(stat).substr(end), ' ');
    constexpr size_t parent_field = 2;
    const auto parent =
        fields.size() > parent_field ? parse_number(fields[parent_field], 10, 0x7fffffff) : std::nullopt;
    return static_cast<int>(parent.value_or(0));
}

std::string program_text(const std::string& process, int pid) {
    const std::string name = escape_unprintable(read_attribute(process + "/comm"));
    const auto qemu = qemu_guest_of(process);
    const std::string guest = qemu && *qemu ? escape_unprintable((*qemu)->name) : std::string();
    return fmt::format("{} (pid {}{}{})", name.empty() ? "a program" : name, pid, guest.empty() ? "" : ", guest ",
                       guest);
}

/// Nodes of devices with an interface that a program has claimed.
Result<std::set<std::string>> claimed_nodes(const KernelPaths& paths) {
    std::set<std::string> nodes;
    const std::string folder = paths.sys + "/bus/usb/drivers/usbfs";
    const auto names = TRY(read_directory(folder));
    for (const auto& name : names) {
        const std::string path = device_path(paths.sys, fmt::format("{}/{}", folder, name));
        if (name.find(':') == std::string::npos || path.empty()) continue;
        const SysfsFolder device(dir_name(path));
        const auto bus = device.number("busnum", 10, 999);
        const auto address = device.number("devnum", 10, addresses_per_bus - 1);
        if (bus && address) nodes.insert(node_name({*bus, *address}));
    }
    return nodes;
}

/// By number, each program once.
using Programs = std::map<int, Use>;

Result<void> add_functions(const std::map<std::string, Programs>& groups, const std::map<std::string, Programs>& nodes,
                           const KernelPaths& paths, OpenNodes& out) {
    std::map<std::string, Programs> by_function;
    for (const auto& [group, programs] : groups) {
        const auto functions = TRY(functions_of_group(group, paths));
        for (const auto& function : functions) by_function[function].insert(programs.begin(), programs.end());
    }
    for (const auto& [name, programs] : nodes) {
        const std::string function = function_of_vfio(name, paths);
        if (!function.empty()) by_function[function].insert(programs.begin(), programs.end());
    }
    for (const auto& [function, programs] : by_function) {
        for (const auto& [pid, use] : programs) out.functions[function].push_back(use);
    }
    return {};
}

/// Whose interface usbfs has, and which of those programs it was.
void mark_claimed(const std::set<std::string>& claimed, const std::set<std::string>& of_own, OpenNodes& out) {
    for (const auto& node : claimed) {
        auto& uses = out.uses[node];
        // of several programs nobody can say which one has claimed it
        if (uses.size() == 1 && of_own.count(node) == 0) {
            if (uses.front().kind == UseKind::open) uses.front().kind = UseKind::usbfs;
        } else if (uses.empty() && of_own.count(node) == 0) {
            uses.push_back({.kind = UseKind::usbfs, .text = "claimed by a program that cannot be seen from here"});
        }
        if (uses.empty()) out.uses.erase(node);
    }
}

}  // namespace

Result<OpenNodes> read_open_nodes(int own, const KernelPaths& paths) {
    OpenNodes out;
    std::set<std::string> of_own;
    std::map<std::string, Programs> groups, functions;
    const WantedNodes wanted = TRY(read_wanted(paths));
    std::error_code error;
    if (!std::filesystem::is_directory(paths.proc, error)) {
        return make_error(
            std::errc::no_such_file_or_directory,
            fmt::format("cannot see what programs have open: '{}' is no folder, is proc mounted?", paths.proc));
    }
    const auto names = TRY(read_directory(paths.proc));
    for (const auto& name : names) {
        const auto pid = parse_number(name, 10, 0x7fffffff);
        if (!pid) continue;
        const std::string process = fmt::format("{}/{}", paths.proc, name);
        auto opened = TRY(read_opened(process, wanted));
        if (!opened) ++out.hidden;
        if (!opened || opened->empty()) continue;
        const int number = static_cast<int>(*pid);
        if (number == own || parent_of(process) == own) {
            of_own.insert(opened->nodes.begin(), opened->nodes.end());
            continue;
        }
        const bool is_node = read_attribute(process + "/comm") == node_program;
        const Use use{.kind = UseKind::open, .text = "opened by " + program_text(process, number), .pid = number};
        Use of_node = use;
        if (is_node) of_node.kind = UseKind::node;
        for (const auto& node : opened->nodes) out.uses[node].push_back(of_node);
        for (const auto& group : opened->groups) groups[group].emplace(number, use);
        for (const auto& function : opened->functions) functions[function].emplace(number, use);
        for (const auto& block : opened->blocks) out.blocks[block].push_back(of_node);
    }
    TRY(add_functions(groups, functions, paths, out));
    const auto claimed = TRY(claimed_nodes(paths));
    mark_claimed(claimed, of_own, out);
    return out;
}

std::string device_of_node(const std::string& devnode, const KernelPaths& paths) {
    const auto number = parse_node(devnode);
    if (!number || number->bus == 0 || number->address == 0) return {};
    const unsigned minor_number = (number->bus - 1) * addresses_per_bus + number->address - 1;
    return device_path(paths.sys, fmt::format("{}/dev/char/{}:{}", paths.sys, usb_major, minor_number));
}

}  // namespace storctl::usbarb
