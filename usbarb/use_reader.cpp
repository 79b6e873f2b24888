#include "usbarb/use_reader.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <net/if.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "usbarb/sysfs_folder.hpp"

namespace storctl::usbarb {
namespace {

/// udev's mark of a keyboard (ID_INPUT_KEYBOARD): Escape, the digits and the letters down to D are all there.
constexpr uint64_t keyboard_keys = 0xfffffffe;

std::string owner_above(const std::string& syspath) {
    std::string usb = usb_device_above(syspath);
    return usb.empty() ? function_above(syspath) : usb;
}

/// Calls with name and sysfs path of each link in a class' folder.
template <class Visit>
Result<void> each_of_class(const KernelPaths& paths, std::string_view name, Visit visit) {
    const std::string folder = fmt::format("{}/class/{}", paths.sys, name);
    const auto entries = TRY(read_directory(folder));
    for (const auto& entry : entries) {
        const std::string path = device_path(paths.sys, fmt::format("{}/{}", folder, entry));
        if (!path.empty()) TRY(visit(entry, path));
    }
    return {};
}

bool is_missing(const Error& error) {
    // attributes of a device that has gone answer with ENODEV
    return error.code == std::errc::no_such_file_or_directory || error.code == std::errc::no_such_device;
}

/// Empty when it is not there.
Result<std::string> read_if_there(const std::string& path) {
    auto text = read_file(path);
    if (!text && is_missing(text.error())) return std::string();
    return text;
}

/// The kernel's own NVMe multipath puts the disk below a subsystem, which links to its controllers.
Result<std::vector<std::string>> nvme_owners(const std::string& subsystem, const KernelPaths& paths) {
    std::vector<std::string> owners;
    const auto names = TRY(read_directory(subsystem));
    for (const auto& name : names) {
        if (!name.starts_with("nvme")) continue;
        const std::string target = read_link(fmt::format("{}/{}", subsystem, name));
        std::string_view rest = target;
        while (rest.starts_with("../")) rest.remove_prefix(3);
        // the subsystem is at /sys/devices/virtual/nvme-subsystem/NAME: the link climbs to /sys/devices
        std::string owner = function_above(fmt::format("{}/devices/{}", paths.sys, rest));
        if (!owner.empty()) owners.push_back(std::move(owner));
    }
    return owners;
}

Result<void> add_disks(const KernelPaths& paths, std::vector<Unit>& out) {
    return each_of_class(paths, "block", [&](const std::string& name, const std::string& path) -> Result<void> {
        const auto add = [&](std::string owner) {
            if (owner.empty()) return;
            if (::access((path + "/partition").c_str(), F_OK) == 0) return;
            out.push_back({.kind = Unit::Kind::block, .name = name, .syspath = path, .owner = std::move(owner)});
        };
        if (path.find("/nvme-subsystem/") == std::string::npos) {
            add(owner_above(path));
            return {};
        }
        auto owners = TRY(nvme_owners(dir_name(path), paths));
        for (auto& owner : owners) add(std::move(owner));
        return {};
    });
}

Result<void> add_interfaces(const KernelPaths& paths, std::vector<Unit>& out) {
    return each_of_class(paths, "net", [&](const std::string& name, const std::string& path) -> Result<void> {
        std::string owner = owner_above(path);
        if (owner.empty()) return {};
        out.push_back({.kind = Unit::Kind::network, .name = name, .syspath = path, .owner = std::move(owner)});
        return {};
    });
}

Result<bool> is_keyboard(const std::string& event) {
    // words of the kernel's long, highest first
    const std::string text = TRY(read_if_there(event + "/device/capabilities/key"));
    const std::string_view keys = trim(text);
    const auto lowest = keys.substr(keys.rfind(' ') + 1);
    uint64_t bits = 0;
    for (const char digit : lowest) {
        const auto value = parse_number(std::string_view(&digit, 1), 16, 15);
        if (!value) return false;
        bits = bits << 4 | *value;
    }
    return (bits & keyboard_keys) == keyboard_keys;
}

Result<void> add_keyboards(const KernelPaths& paths, std::vector<Unit>& out) {
    return each_of_class(paths, "input", [&](const std::string& name, const std::string& path) -> Result<void> {
        std::string owner = name.starts_with("event") ? owner_above(path) : std::string();
        if (owner.empty()) return {};
        const bool keyboard = TRY(is_keyboard(path));
        if (!keyboard) return {};
        out.push_back({.kind = Unit::Kind::console, .name = name, .syspath = path, .owner = std::move(owner)});
        return {};
    });
}

std::vector<std::string> words(std::string_view line) {
    std::vector<std::string> out;
    for (const auto& part : split(line, ' ')) {
        for (auto& word : split(part, '\t')) {
            if (!word.empty()) out.push_back(std::move(word));
        }
    }
    return out;
}

}  // namespace

Result<std::vector<Unit>> read_units(const KernelPaths& paths) {
    std::vector<Unit> out;
    TRY(add_disks(paths, out));
    TRY(add_interfaces(paths, out));
    TRY(add_keyboards(paths, out));
    return out;
}

Result<NetworkUses> NetworkUses::read(const KernelPaths& paths) {
    NetworkUses out;
    // An address of IPv4 has at least the route to its own network. Of IPv6 the link-local one says nothing: every
    // interface that is up has it.
    const std::string routes = TRY(read_if_there(paths.proc + "/net/route"));
    const auto lines = split(routes, '\n');
    for (size_t i = 1; i < lines.size(); ++i) {
        const auto fields = words(lines[i]);
        if (!fields.empty()) out.addressed_.insert(fields.front());
    }
    constexpr size_t scope_field = 3, name_field = 5;
    const std::string addresses = TRY(read_if_there(paths.proc + "/net/if_inet6"));
    for (const auto& line : split(addresses, '\n')) {
        const auto fields = words(line);
        if (fields.size() > name_field && fields[scope_field] != "20") out.addressed_.insert(fields[name_field]);
    }
    return out;
}

Result<std::vector<Use>> NetworkUses::of(const Unit& unit) const {
    const SysfsFolder folder(unit.syspath);
    const auto flags = folder.number("flags", 16, 0xffffffff);
    if (!flags && !is_missing(flags.error())) return flags.error();
    const bool up = flags && (*flags & IFF_UP) != 0;
    if (!up) return std::vector<Use>();
    std::string text = fmt::format("network interface {} is up", unit.name);
    std::vector<std::string> part_of;
    const auto entries = TRY(read_directory(unit.syspath));
    for (const auto& name : entries) {
        constexpr std::string_view upper = "upper_";
        if (name.starts_with(upper)) part_of.push_back(name.substr(upper.size()));
    }
    const std::string master = folder.link_name("master");
    if (!master.empty() && std::find(part_of.begin(), part_of.end(), master) == part_of.end()) {
        part_of.push_back(master);
    }
    if (!part_of.empty()) text += fmt::format(", as part of {}", join(part_of, ", "));
    const bool usb = !usb_device_above(unit.syspath).empty();
    if (!usb && part_of.empty() && addressed_.count(unit.name) == 0) return std::vector<Use>();
    return std::vector<Use>{{.kind = UseKind::network, .text = std::move(text)}};
}

}  // namespace storctl::usbarb
