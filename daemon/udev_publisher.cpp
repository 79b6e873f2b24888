#include "daemon/udev_publisher.hpp"

#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <libudev.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace storctl {
namespace {

using DeviceHandle = CHandle<udev_device, udev_device_unref>;

UdevProperties wanted_properties(const nlohmann::json& device) {
    return {.id = device.at("id"),
            .local = device.at("locality"),
            .shared = device.at("sharing").at("shared").get<bool>() ? "1" : "0"};
}

/// The helper writes '_' for what udev would not take as it is.
bool same_value(const std::string& in_udev, const std::string& ours) {
    if (in_udev.size() != ours.size()) return false;
    for (size_t i = 0; i < ours.size(); ++i) {
        if (in_udev[i] != ours[i] && in_udev[i] != '_') return false;
    }
    return true;
}

bool same_properties(const UdevProperties& in_udev, const UdevProperties& ours) {
    return same_value(in_udev.id, ours.id) && in_udev.local == ours.local && in_udev.shared == ours.shared;
}

std::optional<UdevProperties> in_database(udev* handle, const std::string& name) {
    const DeviceHandle device(udev_device_new_from_subsystem_sysname(handle, "block", name.c_str()));
    if (!device || udev_device_get_is_initialized(device.get()) == 0) return std::nullopt;
    const auto value = [&](const char* key) {
        const char* text = udev_device_get_property_value(device.get(), key);
        return std::string(text == nullptr ? "" : text);
    };
    const UdevProperties found{
        .id = value("STORCTL_ID"), .local = value("STORCTL_LOCAL"), .shared = value("STORCTL_SHARED")};
    if (found.id.empty()) return std::nullopt;
    return found;
}

Result<void> ask_for_change(const std::string& folder) {
    const std::string path = folder + "/uevent";
    const UniqueFd file = TRY(open_file(path, O_WRONLY));
    constexpr std::string_view action = "change";
    if (::write(file.get(), action.data(), action.size()) < 0) {
        return errno_error(fmt::format("cannot write to '{}'", path));
    }
    return {};
}

/// The disk, then its partitions: their rules import what the disk's event has brought, and udevd keeps that order.
Result<void> ask_for_changes(const std::string& name) {
    const std::string folder = TRY(real_path("/sys/class/block/" + name));
    TRY(ask_for_change(folder));
    for (const auto& child : list_directory(folder)) {
        const std::string partition = folder + "/" + child;
        if (::access((partition + "/partition").c_str(), F_OK) == 0) TRY(ask_for_change(partition));
    }
    return {};
}

}  // namespace

Result<UdevPublisher> UdevPublisher::for_this_host() {
    std::shared_ptr<udev> handle(udev_new(), [](udev* owned) {
        if (owned != nullptr) udev_unref(owned);
    });
    if (!handle) return errno_error("cannot open libudev");
    return UdevPublisher([handle](const std::string& name) { return in_database(handle.get(), name); },
                         ask_for_changes);
}

void UdevPublisher::compare(const nlohmann::json& devices) {
    std::map<std::string, UdevProperties> now;
    for (const auto& device : devices) {
        const auto name = device.at("name").get<std::string>();
        const UdevProperties ours = wanted_properties(device);
        const auto before = compared_.find(name);
        const bool known = before != compared_.end() && before->second == ours;
        now.emplace(name, ours);
        if (known) continue;
        const auto theirs = lookup_(name);
        if (!theirs || same_properties(*theirs, ours)) continue;
        if (auto asked = trigger_(name); !asked) {
            log::warning("udev keeps old STORCTL_ properties of '{}': {}", name, asked.error().message());
        }
    }
    compared_ = std::move(now);
}

}  // namespace storctl
