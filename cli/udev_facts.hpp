#pragma once
// The device behind a block device that udev names, from sysfs and udev's environment alone: what the hook says of a
// device that stord has not seen yet. Main thread.

#include <map>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "locality/inventory.hpp"

namespace storctl::cli {

struct UdevQuestion {
    std::string syspath;  ///< "/sys/devices/…/block/sda", no links
    std::map<std::string, std::string> properties;
};

/// Which device is meant: the argument, else DEVPATH, else DEVNAME.
Result<UdevQuestion> udev_question(const std::string& argument, const std::map<std::string, std::string>& environment);

/// Partitions lead to their disk, paths to their multipath map. Nothing: a block device that storctl does not manage.
Result<std::optional<locality::Device>> device_behind(const UdevQuestion& question);

/// stord's default rule for it. Looks for the running system on it only where that matters.
bool shared_by_default(const locality::Device& device);

}  // namespace storctl::cli
