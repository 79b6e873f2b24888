#include "locality/sysfs_block.hpp"

#include <array>
#include <charconv>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "base/unique_fd.hpp"

namespace storctl::locality {
namespace {

constexpr size_t attribute_bytes = 4096;  // one page: what a sysfs text attribute can hold
constexpr size_t mountinfo_limit_bytes = 64 << 20;

/// One device's folder. A missing attribute is an empty one.
class Folder {
 public:
    explicit Folder(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}
    explicit operator bool() const { return static_cast<bool>(fd_); }

    std::string text(const char* name) const {
        std::array<char, attribute_bytes> buffer;
        const UniqueFd file(::openat(fd_.get(), name, O_RDONLY | O_CLOEXEC));
        const ssize_t got = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
        return got <= 0 ? std::string() : std::string(trim({buffer.data(), static_cast<size_t>(got)}));
    }
    std::vector<uint8_t> bytes(const char* name) const {
        std::array<uint8_t, attribute_bytes> buffer;
        const UniqueFd file(::openat(fd_.get(), name, O_RDONLY | O_CLOEXEC));
        const ssize_t got = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
        return {buffer.begin(), buffer.begin() + std::max<ssize_t>(got, 0)};
    }
    uint64_t number(const char* name, uint64_t otherwise) const {
        const std::string value = text(name);
        uint64_t out = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), out);
        return error == std::errc{} && end != value.data() ? out : otherwise;
    }
    bool flag(const char* name) const { return number(name, 0) != 0; }

 private:
    UniqueFd fd_;
};

std::string uevent_value(std::string_view uevent, std::string_view key) {
    for (size_t at = 0; at < uevent.size();) {
        const auto end = std::min(uevent.find('\n', at), uevent.size());
        const auto line = uevent.substr(at, end - at);
        if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == '=') {
            return std::string(line.substr(key.size() + 1));
        }
        at = end + 1;
    }
    return {};
}

uint32_t small_number(const std::string& text) {
    uint32_t out = 0;
    std::from_chars(text.data(), text.data() + text.size(), out);
    return out;
}

void read_scsi(const Folder& folder, BlockFacts& facts) {
    facts.vendor = folder.text("device/vendor");
    facts.model = folder.text("device/model");
    facts.revision = folder.text("device/rev");
    facts.state = folder.text("device/state");
    facts.wwid = folder.text("device/wwid");
    facts.vpd_pg80 = folder.bytes("device/vpd_pg80");
    facts.vpd_pg83 = folder.bytes("device/vpd_pg83");
}

ControllerFacts read_controller(const std::string& path) {
    const Folder folder(path);
    ControllerFacts controller{.name = base_name(path)};
    if (folder) {
        controller.transport = folder.text("transport");
        controller.address = folder.text("address");
        controller.state = folder.text("state");
    }
    return controller;
}

bool is_controller_name(const std::string& name) {
    return name.size() > 4 && name.starts_with("nvme") && name.find_first_not_of("0123456789", 4) == std::string::npos;
}

void read_nvme(const Folder& folder, const std::string& syspath, BlockFacts& facts) {
    facts.wwid = folder.text("wwid");
    facts.nguid = folder.text("nguid");
    facts.eui64 = folder.text("eui");
    facts.nsid = folder.text("nsid");
    facts.model = folder.text("device/model");
    facts.serial = folder.text("device/serial");
    facts.revision = folder.text("device/firmware_rev");
    facts.state = folder.text("device/state");
    // the parent is the controller or, with the kernel's own multipath, the subsystem with its controllers
    const std::string above = dir_name(syspath);
    if (is_controller_name(base_name(above))) {
        facts.controllers.push_back(read_controller(above));
        return;
    }
    for (const auto& name : list_directory(above)) {
        if (is_controller_name(name)) facts.controllers.push_back(read_controller(fmt::format("{}/{}", above, name)));
    }
}

void read_stacked(const Folder& folder, BlockFacts& facts) {
    if (facts.name.starts_with("dm-")) {
        facts.dm_uuid = folder.text("dm/uuid");
        facts.dm_name = folder.text("dm/name");
    } else if (facts.name.starts_with("md")) {
        facts.md_level = folder.text("md/level");
        facts.md_uuid = folder.text("md/uuid");
    }
}

void read_by_name(const Folder& folder, const std::string& syspath, BlockFacts& facts) {
    const std::string& name = facts.name;
    read_stacked(folder, facts);
    if (name.starts_with("nvme")) {
        read_nvme(folder, syspath, facts);
    } else if (name.starts_with("mmcblk")) {
        facts.model = folder.text("device/name");
        facts.serial = folder.text("device/serial");
        facts.revision = folder.text("device/fwrev");
    } else if (name.starts_with("vd")) {
        facts.serial = folder.text("serial");
    }
}

bool is_stacked(const std::string& name) {
    return name.starts_with("dm-") || name.starts_with("md") || name.starts_with("bcache");
}

}  // namespace

const SysfsReader::Parent& SysfsReader::parent(const std::string& path) {
    const auto known = parents_.find(path);
    if (known != parents_.end()) return known->second;
    Parent entry;
    entry.facts.name = base_name(path);
    entry.facts.subsystem = base_name(read_link(path + "/subsystem"));
    entry.facts.driver = base_name(read_link(path + "/driver"));
    const std::string& name = entry.facts.name;
    if (entry.facts.subsystem == "usb" && name.find(':') == std::string::npos) {
        entry.usb_serial = read_attribute(path + "/serial");
    } else if (entry.facts.subsystem == "scsi" && name.starts_with("host")) {
        entry.host_driver = read_attribute(fmt::format("{}/scsi_host/{}/proc_name", path, name));
        entry.host_symbolic_name = read_attribute(fmt::format("{}/fc_host/{}/symbolic_name", path, name));
    } else if (entry.facts.subsystem.empty() && name.starts_with("ata")) {
        entry.ata_port = read_attribute(fmt::format("{}/ata_port/{}/port_no", path, name));
    }
    return parents_.emplace(path, std::move(entry)).first->second;
}

void SysfsReader::add_parents(BlockFacts& facts) {
    const std::string top = sys_ + "/devices";
    std::string path = dir_name(facts.syspath);
    bool usb_seen = false;
    while (path.size() > top.size() && path.starts_with(top)) {
        const Parent& above = parent(path);
        // folders that only group ("block", "nvme") are no devices
        if (above.facts.name != "block" && above.facts.name != "nvme") facts.parents.push_back(above.facts);
        // the nearest USB device is the disk or its bridge, the ones above are hubs
        const bool usb_device = above.facts.subsystem == "usb" && above.facts.name.find(':') == std::string::npos;
        if (usb_device && !usb_seen) facts.usb_serial = above.usb_serial;
        usb_seen = usb_seen || usb_device;
        if (facts.ata_port.empty()) facts.ata_port = above.ata_port;
        if (facts.host_driver.empty()) facts.host_driver = above.host_driver;
        if (facts.host_symbolic_name.empty()) facts.host_symbolic_name = above.host_symbolic_name;
        path = dir_name(path);
    }
}

namespace {

/// Names and number, and the disk that a partition is of.
Result<BlockFacts> read_names(const Folder& folder, const std::string& syspath) {
    const std::string uevent = folder ? folder.text("uevent") : std::string();
    if (uevent.empty()) {
        return make_error(std::errc::no_such_device, fmt::format("the block device '{}' is not there", syspath));
    }
    BlockFacts facts{.name = base_name(syspath), .syspath = syspath};
    facts.number = {small_number(uevent_value(uevent, "MAJOR")), small_number(uevent_value(uevent, "MINOR"))};
    facts.devnode = uevent_value(uevent, "DEVNAME");
    if (!facts.devnode.empty() && !facts.devnode.starts_with('/')) facts.devnode = "/dev/" + facts.devnode;
    if (uevent_value(uevent, "DEVTYPE") == "partition") facts.partition_of = base_name(dir_name(syspath));
    return facts;
}

}  // namespace

Result<BlockFacts> SysfsReader::read(const std::string& syspath) {
    const Folder folder(syspath);
    BlockFacts facts = TRY(read_names(folder, syspath));
    facts.size_bytes = folder.number("size", 0) * 512;  // sysfs counts in 512-byte sectors whatever the block size
    facts.read_only = folder.flag("ro");
    if (!facts.partition_of.empty()) return facts;
    facts.removable = folder.flag("removable");
    facts.hidden = folder.flag("hidden");
    facts.logical_block_bytes = static_cast<uint32_t>(folder.number("queue/logical_block_size", 512));
    facts.physical_block_bytes =
        static_cast<uint32_t>(folder.number("queue/physical_block_size", facts.logical_block_bytes));
    if (const auto rotational = folder.text("queue/rotational"); !rotational.empty())
        facts.rotational = rotational == "1";
    if (is_stacked(facts.name)) facts.slaves = list_directory(syspath + "/slaves");
    read_by_name(folder, syspath, facts);
    add_parents(facts);
    for (const auto& above : facts.parents) {
        if (above.subsystem != "scsi") continue;
        read_scsi(folder, facts);
        break;
    }
    return facts;
}

Result<UsageTexts> read_usage_texts(const KernelPaths& paths) {
    UsageTexts texts;
    const std::string mounts = TRY(read_file(paths.mountinfo, mountinfo_limit_bytes));
    texts.mounts = parse_mountinfo(mounts);
    const auto swaps = read_file(paths.swaps);
    if (!swaps && swaps.error().code != std::errc::no_such_file_or_directory) return swaps.error();
    if (swaps) texts.swaps = parse_swaps(*swaps);
    const auto groups = TRY(read_directory(paths.sys + "/fs/btrfs"));
    for (const auto& uuid : groups) {
        auto members = TRY(read_directory(fmt::format("{}/fs/btrfs/{}/devices", paths.sys, uuid)));
        if (members.size() > 1) texts.groups.push_back(std::move(members));
    }
    return texts;
}

Result<UsageTree> read_usage_tree(const std::string& sys) {
    UsageTree tree;
    std::vector<std::pair<std::string, std::string>> partitions, loops;  // what it lies on, name
    const std::string folder_path = sys + "/class/block";
    constexpr std::string_view to_sys = "../../";
    const auto entries = TRY(read_directory(folder_path));
    for (const auto& name : entries) {
        const std::string target = read_link(fmt::format("{}/{}", folder_path, name));
        if (!target.starts_with(to_sys)) continue;
        const std::string path = fmt::format("{}/{}", sys, target.substr(to_sys.size()));
        const Folder folder(path);
        auto facts = read_names(folder, path);
        if (!facts) continue;  // gone meanwhile
        read_stacked(folder, *facts);
        UsageNode node = usage_node(*facts);
        node.above = TRY(read_directory(path + "/holders"));
        if (!facts->partition_of.empty()) partitions.emplace_back(facts->partition_of, name);
        if (name.starts_with("loop")) {
            if (auto file = folder.text("loop/backing_file"); file.starts_with("/dev/")) loops.emplace_back(file, name);
        }
        tree.emplace(name, std::move(node));
    }
    std::map<std::string, std::string> by_path;
    for (const auto& [name, node] : tree) {
        for (const auto& path : node.names) by_path.emplace(path, name);
    }
    const auto put_on = [&](const std::string& below, const std::string& name) {
        if (const auto found = tree.find(below); found != tree.end()) found->second.above.push_back(name);
    };
    for (const auto& [disk, name] : partitions) put_on(disk, name);
    for (const auto& [path, name] : loops) {
        tree[name].description = "loop device";
        put_on(by_path.count(path) > 0 ? by_path[path] : std::string(), name);
    }
    return tree;
}

namespace {

/// Adds a device and everything above it.
void climb(SysfsReader& reader, const std::string& sys, const std::string& syspath, bool partitions, UsageTree& tree) {
    const auto facts = reader.read(syspath);
    if (!facts || tree.count(facts->name) > 0) return;
    UsageNode node = usage_node(*facts);
    node.above = list_directory(syspath + "/holders");
    std::vector<std::string> paths;
    for (const auto& holder : node.above) {
        if (const auto path = real_path(fmt::format("{}/class/block/{}", sys, holder))) paths.push_back(*path);
    }
    for (const auto& name : list_directory(syspath)) {
        if (!partitions || !name.starts_with(facts->name)) continue;
        if (::access(fmt::format("{}/{}/partition", syspath, name).c_str(), F_OK) != 0) continue;
        node.above.push_back(name);
        paths.push_back(fmt::format("{}/{}", syspath, name));
    }
    tree.emplace(node.name, node);
    for (const auto& path : paths) climb(reader, sys, path, true, tree);
}

}  // namespace

Result<std::vector<std::string>> who_uses(DeviceNumber number, const KernelPaths& paths) {
    const std::string syspath =
        TRY(real_path(fmt::format("{}/dev/block/{}:{}", paths.sys, number.major, number.minor)));
    SysfsReader reader(paths.sys);
    const UsageTexts texts = TRY(read_usage_texts(paths));
    UsageTree tree;
    climb(reader, paths.sys, syspath, true, tree);
    auto users = Usage(std::move(tree), texts).users_of(base_name(syspath));
    const auto facts = reader.read(syspath);
    if (facts && !facts->partition_of.empty()) {
        UsageTree disk;
        climb(reader, paths.sys, dir_name(syspath), false, disk);
        for (auto& user : Usage(std::move(disk), texts).users_of(facts->partition_of)) {
            users.push_back(fmt::format("{}: {}", facts->partition_of, user));
        }
    }
    return users;
}

}  // namespace storctl::locality
