#include "daemon/discovery.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <libudev.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"

namespace storctl {
namespace {

// what locality/ asks for; everything else in udev's database would only cost memory
constexpr std::array<std::string_view, 12> wanted_properties{"DM_UDEV_DISABLE_OTHER_RULES_FLAG",
                                                             "ID_BUS",
                                                             "ID_CDROM",
                                                             "ID_MODEL",
                                                             "ID_PATH",
                                                             "ID_REVISION",
                                                             "ID_SERIAL",
                                                             "ID_SERIAL_SHORT",
                                                             "ID_VENDOR",
                                                             "ID_WWN_WITH_EXTENSION",
                                                             "MD_UUID",
                                                             "SYSTEMD_READY"};

std::string text_or_empty(const char* text) { return text == nullptr ? std::string() : std::string(text); }

}  // namespace

Discovery::Discovery(EventLoop& loop, DiscoveryOptions options, Listener listener)
    : loop_(loop), options_(std::move(options)), listener_(std::move(listener)), reader_(options_.sys) {}

Discovery::~Discovery() = default;

Result<std::unique_ptr<Discovery>> Discovery::open(EventLoop& loop, DiscoveryOptions options, Listener listener) {
    std::unique_ptr<Discovery> self(new Discovery(loop, std::move(options), std::move(listener)));
    const auto& wanted = self->options_;
    self->burst_ =
        TRY(Burst::open(loop, wanted.quiet, wanted.longest, wanted.priority, [raw = self.get()] { raw->flush(); }));
    self->monitor_ = TRY(UdevMonitor::open(
        loop,
        {.matches = {{.subsystem = "block"}}, .buffer_bytes = wanted.monitor_buffer_bytes, .priority = wanted.priority},
        {.event = [raw = self.get()](udev_device* device) { raw->touch(device); },
         .lost = [raw = self.get()] { raw->lost(); },
         .drained = [raw = self.get()] { raw->burst_->wait(); }}));
    return self;
}

void Discovery::lost() {
    if (auto begun = rescan(); !begun) log::error("{}; the devices known so far are kept", begun.error().message());
}

void Discovery::touch(udev_device* device) {
    const std::string syspath = text_or_empty(udev_device_get_syspath(device));
    if (syspath.empty()) return;
    const bool removed = text_or_empty(udev_device_get_action(device)) == "remove";
    burst_->touch();
    touched_[base_name(syspath)] = {syspath, removed};
}

void Discovery::flush() {
    // while an enumeration runs, what it has read may be older than these events: they come after it
    if (scanning_ || touched_.empty()) return;
    burst_->clear();
    reader_.forget();
    DiscoveryBatch batch;
    for (const auto& [name, touched] : std::exchange(touched_, {})) {
        auto facts = touched.removed ? std::nullopt : std::optional(read(touched.syspath));
        if (facts && facts->has_value()) {
            batch.present.push_back(std::move(**facts));
        } else {
            batch.gone.push_back(name);
        }
    }
    listener_(std::move(batch));
}

Result<locality::BlockFacts> Discovery::read(const std::string& syspath) {
    locality::BlockFacts facts = TRY(reader_.read(syspath));
    const UdevDevice device = monitor_->device(syspath);
    if (!device) return errno_error(fmt::format("the block device '{}' is not there", syspath));
    const bool partition = !facts.partition_of.empty();
    // the whole list at once: asked for one by one, libudev looks for its database again for each that is missing
    udev_list_entry* entry = nullptr;
    udev_list_entry_foreach(entry, udev_device_get_properties_list_entry(device.get())) {
        const std::string_view key = udev_list_entry_get_name(entry);
        const char* value = udev_list_entry_get_value(entry);
        if (key == "DEVLINKS") facts.links = split(text_or_empty(value), ' ');
        const bool wanted =
            std::find(wanted_properties.begin(), wanted_properties.end(), key) != wanted_properties.end();
        if (wanted && !partition) facts.properties.emplace(key, text_or_empty(value));
    }
    if (partition) return facts;
    facts.initialized = !monitor_->settles() || udev_device_get_is_initialized(device.get()) > 0;
    if (facts.md_uuid.empty()) facts.md_uuid = facts.property("MD_UUID");
    return facts;
}

Result<std::vector<std::string>> Discovery::enumerate() {
    // the same devices as libudev's enumeration gives, which costs more than reading all of their attributes
    std::error_code error;
    if (!std::filesystem::is_directory(options_.sys + "/devices", error)) {
        return make_error(
            std::errc::no_such_file_or_directory,
            fmt::format("cannot enumerate block devices: '{}' is no sysfs, is it mounted?", options_.sys));
    }
    const std::string folder = options_.sys + "/class/block";
    std::vector<std::string> paths;
    constexpr std::string_view to_sys = "../../";
    for (const auto& name : list_directory(folder)) {
        const std::string target = read_link(fmt::format("{}/{}", folder, name));
        if (target.starts_with(to_sys)) paths.push_back(options_.sys + "/" + target.substr(to_sys.size()));
    }
    return paths;
}

Result<void> Discovery::coldplug() {
    TRY(monitor_->listen());
    TRY(begin_scan());
    while (scanning_) step_scan();
    return {};
}

Result<void> Discovery::rescan() {
    if (scanning_) {
        scan_again_ = true;
        return {};
    }
    if (auto listening = monitor_->listen(); !listening) {
        log::error("{}; devices that come and go are only seen by 'storctl device rescan'",
                   listening.error().message());
    }
    // What came before is told before. Told after it, the removal of a device whose return was lost would take away
    // what the enumeration has found.
    flush();
    return scan_in_steps();
}

Result<void> Discovery::scan_in_steps() {
    TRY(begin_scan());
    scan_turn_ = TRY(loop_.add_defer(options_.step_priority, [this] { step_scan(); }));
    return {};
}

Result<void> Discovery::begin_scan() {
    scan_paths_ = TRY(enumerate());
    reader_.forget();
    scanning_ = true;
    scan_again_ = false;  // whatever asked for it wants what is read from now on
    scan_at_ = 0;
    scan_batch_ = {.full = true};
    return {};
}

void Discovery::step_scan() {
    const size_t end = std::min(scan_at_ + options_.step_devices, scan_paths_.size());
    for (; scan_at_ < end; ++scan_at_) {
        // a device that went meanwhile is not there
        if (auto facts = read(scan_paths_[scan_at_])) scan_batch_.present.push_back(std::move(*facts));
    }
    if (scan_at_ == scan_paths_.size()) {
        finish_scan();
    } else if (scan_turn_) {
        auto turn = loop_.add_defer(options_.step_priority, [this] { step_scan(); });
        if (turn) {
            scan_turn_ = std::move(*turn);
        } else {
            options_.step_devices = scan_paths_.size();  // no turns to be had: the rest at once
            step_scan();
        }
    }
}

void Discovery::finish_scan() {
    scanning_ = false;
    scan_turn_.reset();
    if (scan_again_) {
        flush();
        const auto again = scan_in_steps();
        if (again) return;
        log::error("{}; going on with the enumeration before", again.error().message());
    }
    scan_paths_.clear();
    reader_.forget();
    listener_(std::exchange(scan_batch_, {}));
    burst_->wait();
}

}  // namespace storctl
