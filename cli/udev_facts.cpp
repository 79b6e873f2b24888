#include "cli/udev_facts.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/text.hpp"
#include "locality/boot.hpp"
#include "locality/sharing.hpp"
#include "locality/sysfs_block.hpp"

namespace storctl::cli {
namespace {

using locality::BlockFacts;
using locality::KnownBlocks;

constexpr const char* class_folder = "/sys/class/block/";

/// The kernel writes '!' in sysfs where a device's name has a slash.
std::string sysfs_name(std::string name) {
    if (name.starts_with("/dev/")) name = real_path(name).value_or(name).substr(5);
    std::replace(name.begin(), name.end(), '/', '!');
    return name;
}

std::string value_of(const std::map<std::string, std::string>& environment, const std::string& key) {
    const auto found = environment.find(key);
    return found == environment.end() ? std::string() : found->second;
}

/// Reads one device and those that decide what it belongs to.
class Neighbourhood {
 public:
    explicit Neighbourhood(const UdevQuestion& question) : question_(question) {}

    Result<std::string> read() {
        BlockFacts facts = TRY(reader_.read(question_.syspath));
        const std::string name = facts.name;
        const std::string disk = facts.partition_of;
        add(std::move(facts), disk.empty());
        if (!disk.empty()) add_path(dir_name(question_.syspath), true);
        add_maps(disk.empty() ? name : disk);
        return name;
    }
    const KnownBlocks& blocks() const { return blocks_; }

 private:
    void add(BlockFacts facts, bool with_properties) {
        if (with_properties) facts.properties = question_.properties;
        const std::string name = facts.name;
        blocks_.emplace(name, locality::know(std::move(facts), {}));
    }
    void add_path(const std::string& syspath, bool with_properties) {
        if (auto facts = reader_.read(syspath)) add(std::move(*facts), with_properties);
    }
    void add_name(const std::string& name) {
        if (blocks_.count(name) > 0) return;
        if (const auto path = real_path(class_folder + name)) add_path(*path, false);
    }
    std::vector<std::string> slaves_of(const std::string& name) const {
        const auto found = blocks_.find(name);
        return found == blocks_.end() ? std::vector<std::string>() : found->second.facts.slaves;
    }
    /// The map over a path, the map below a map's partition, and a map's paths.
    void add_maps(const std::string& name) {
        std::vector<std::string> maps = list_directory(class_folder + name + "/holders");
        const auto below = slaves_of(name);
        maps.insert(maps.end(), below.begin(), below.end());
        for (const auto& map : maps) {
            add_name(map);
            for (const auto& path : slaves_of(map)) add_name(path);
        }
    }

    const UdevQuestion& question_;
    locality::SysfsReader reader_;
    KnownBlocks blocks_;
};

/// Facts of the device and of all that is stacked on it.
void collect_above(locality::SysfsReader& reader, const std::string& syspath, std::map<std::string, BlockFacts>& out) {
    auto facts = reader.read(syspath);
    if (!facts || out.count(facts->name) > 0) return;
    const std::string name = facts->name;
    out.emplace(name, std::move(*facts));
    for (const auto& holder : list_directory(syspath + "/holders")) {
        if (const auto path = real_path(class_folder + holder)) collect_above(reader, *path, out);
    }
    for (const auto& child : list_directory(syspath)) {
        if (child.starts_with(name)) collect_above(reader, syspath + "/" + child, out);
    }
}

bool carries_running_system(const std::string& name) {
    const auto syspath = real_path(class_folder + name);
    if (!syspath) return false;
    locality::SysfsReader reader;
    std::map<std::string, BlockFacts> facts;
    collect_above(reader, *syspath, facts);
    std::vector<const BlockFacts*> devices;
    for (const auto& [key, value] : facts) devices.push_back(&value);
    const auto texts = locality::read_usage_texts({}).value_or(locality::UsageTexts{});
    const locality::Usage usage(locality::usage_tree(devices), texts);
    return locality::boot_marks(devices, usage).of(name) == true;
}

}  // namespace

Result<UdevQuestion> udev_question(const std::string& argument, const std::map<std::string, std::string>& environment) {
    const std::string devpath = value_of(environment, "DEVPATH"), devname = value_of(environment, "DEVNAME");
    if (argument.empty() && !devpath.empty()) return UdevQuestion{"/sys" + devpath, environment};
    const std::string name = sysfs_name(argument.empty() ? devname : argument);
    if (name.empty()) {
        return make_error(std::errc::invalid_argument, "no device: give a kernel name, or set DEVNAME or DEVPATH");
    }
    auto syspath = real_path(class_folder + name);
    if (!syspath) return std::move(syspath).error();
    // the environment speaks of the device that it names, no other
    const bool own = argument.empty() || sysfs_name(devname) == name || base_name(devpath) == name;
    return UdevQuestion{*std::move(syspath), own ? environment : std::map<std::string, std::string>()};
}

Result<std::optional<locality::Device>> device_behind(const UdevQuestion& question) {
    Neighbourhood around(question);
    const std::string name = TRY(around.read());
    const std::string owner = locality::device_name_of(around.blocks(), name);
    for (auto& device : locality::build_inventory(around.blocks(), {})) {
        if (device.name == owner) return std::optional(std::move(device));
    }
    return std::optional<locality::Device>();
}

bool shared_by_default(const locality::Device& device) {
    locality::SharingCase facts{.verdict = device.verdict, .conflict = device.conflict, .quality = device.quality};
    if (device.verdict.locality == locality::Locality::no) facts.boot = carries_running_system(device.name);
    return locality::decide_sharing(facts, std::nullopt).shared;
}

}  // namespace storctl::cli
