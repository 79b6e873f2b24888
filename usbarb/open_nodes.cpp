#include "usbarb/open_nodes.hpp"

#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/sysfs_folder.hpp"

namespace storctl::usbarb {
namespace {

constexpr unsigned usb_major = 189;          // Documentation/admin-guide/devices.txt
constexpr unsigned addresses_per_bus = 128;  // drivers/usb/core/usb.h: minor = (bus - 1) * 128 + (address - 1)
constexpr std::string_view nodes_folder = "/dev/bus/usb/";
constexpr size_t command_line_limit_bytes = 1 << 20;

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

/// What an entry of /proc/PID/fd leads to, if it is a raw USB node. The device number counts: in other mount namespaces
/// and under other names it is the same node.
std::optional<Number> node_behind(int folder, const char* entry) {
    char target[256];
    const ssize_t length = ::readlinkat(folder, entry, target, sizeof target);
    // sockets, pipes and the like are no paths; a deleted node is of a device that is gone
    if (length <= 0 || target[0] != '/') return std::nullopt;
    const std::string_view path(target, static_cast<size_t>(length));
    if (path.ends_with(" (deleted)")) return std::nullopt;
    struct statx about {};
    // never asks the server of a network file system, which may not answer
    const int outcome = ::statx(folder, entry, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &about);
    if (outcome != 0) return parse_node(path);
    if (!S_ISCHR(about.stx_mode) || about.stx_rdev_major != usb_major) return std::nullopt;
    return Number{about.stx_rdev_minor / addresses_per_bus + 1, about.stx_rdev_minor % addresses_per_bus + 1};
}

struct FolderCloser {
    void operator()(DIR* folder) const { ::closedir(folder); }
};

/// Nodes that a process has open; nullopt when it may not be looked into.
std::optional<std::set<std::string>> nodes_of(const std::string& process) {
    std::set<std::string> nodes;
    const std::unique_ptr<DIR, FolderCloser> folder(::opendir((process + "/fd").c_str()));
    if (!folder) return errno == EACCES || errno == EPERM ? std::nullopt : std::optional(nodes);
    while (const dirent* entry = ::readdir(folder.get())) {
        if (entry->d_name[0] == '.') continue;
        if (const auto number = node_behind(::dirfd(folder.get()), entry->d_name)) nodes.insert(node_name(*number));
    }
    return nodes;
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

/// "web1" of "-name web1", "-name guest=web1,debug-threads=on"; empty when the program is no QEMU.
std::string guest_of(const std::string& process) {
    const auto words = split(read_file(process + "/cmdline", command_line_limit_bytes).value_or(std::string()), '\0');
    const std::string program = words.empty() ? std::string() : base_name(words.front());
    if (!program.starts_with("qemu") && !program.starts_with("kvm")) return {};
    for (size_t i = 1; i + 1 < words.size(); ++i) {
        if (words[i] != "-name" && words[i] != "--name") continue;
        for (const auto& option : split(words[i + 1], ',')) {
            constexpr std::string_view guest = "guest=";
            if (option.starts_with(guest)) return option.substr(guest.size());
            if (option.find('=') == std::string::npos) return option;
        }
    }
    return {};
}

std::string program_text(const std::string& process, int pid) {
    const std::string name = escape_unprintable(read_attribute(process + "/comm"));
    const std::string guest = escape_unprintable(guest_of(process));
    return fmt::format("{} (pid {}{}{})", name.empty() ? "a program" : name, pid, guest.empty() ? "" : ", guest ",
                       guest);
}

/// Nodes of devices with an interface that a program has claimed.
std::set<std::string> claimed_nodes(const KernelPaths& paths) {
    std::set<std::string> nodes;
    const std::string folder = paths.sys + "/bus/usb/drivers/usbfs";
    for (const auto& name : list_directory(folder)) {
        const std::string path = device_path(paths.sys, fmt::format("{}/{}", folder, name));
        if (name.find(':') == std::string::npos || path.empty()) continue;
        const SysfsFolder device(dir_name(path));
        const auto bus = device.number("busnum", 10, 999);
        const auto address = device.number("devnum", 10, addresses_per_bus - 1);
        if (bus && address) nodes.insert(node_name({*bus, *address}));
    }
    return nodes;
}

}  // namespace

OpenNodes read_open_nodes(int own, const KernelPaths& paths) {
    OpenNodes out;
    std::set<std::string> of_own;
    for (const auto& name : list_directory(paths.proc)) {
        const auto pid = parse_number(name, 10, 0x7fffffff);
        if (!pid) continue;
        const std::string process = fmt::format("{}/{}", paths.proc, name);
        const auto nodes = nodes_of(process);
        if (!nodes) ++out.hidden;
        if (!nodes || nodes->empty()) continue;
        const int number = static_cast<int>(*pid);
        if (number == own || parent_of(process) == own) {
            of_own.insert(nodes->begin(), nodes->end());
            continue;
        }
        const std::string program = program_text(process, number);
        for (const auto& node : *nodes) {
            out.uses[node].push_back({.kind = UseKind::open, .text = "opened by " + program, .pid = number});
        }
    }
    for (const auto& node : claimed_nodes(paths)) {
        auto& uses = out.uses[node];
        // of several programs nobody can say which one has claimed it
        if (uses.size() == 1 && of_own.count(node) == 0) {
            uses.front().kind = UseKind::usbfs;
        } else if (uses.empty() && of_own.count(node) == 0) {
            uses.push_back({.kind = UseKind::usbfs, .text = "claimed by a program that cannot be seen from here"});
        }
        if (uses.empty()) out.uses.erase(node);
    }
    return out;
}

std::string device_of_node(const std::string& devnode, const KernelPaths& paths) {
    const auto number = parse_node(devnode);
    if (!number || number->bus == 0 || number->address == 0) return {};
    const unsigned minor_number = (number->bus - 1) * addresses_per_bus + number->address - 1;
    return device_path(paths.sys, fmt::format("{}/dev/char/{}:{}", paths.sys, usb_major, minor_number));
}

}  // namespace storctl::usbarb
