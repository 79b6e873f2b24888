#pragma once
// What "hook udev" answers, decided from the device as sysfs shows it and stord's state file. Pure; any thread.

#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "locality/inventory.hpp"

namespace storctl::cli {

struct UdevAnswer {
    std::string id;
    std::string local;   ///< yes, no, unknown
    std::string shared;  ///< 1, 0, unknown
    bool operator==(const UdevAnswer&) const = default;
};

/// What the decision asks of the machine.
struct UdevSources {
    Result<std::string> state;                                ///< the state file's text
    std::function<bool(const std::string& name)> present;     ///< is there a block device of that kernel name
    std::function<bool(const locality::Device&)> by_default;  ///< the default sharing rule
};

/// stord's word where its state file has this very device; a kernel name alone proves nothing, as it may have been
/// given anew since the file was written. Else what can be worked out here.
UdevAnswer answer_for(const locality::Device& device, const UdevSources& sources);

/// The answer as udev's IMPORT{program} reads it. Characters that udev would not take become '_'.
std::string udev_properties(const UdevAnswer& answer);

}  // namespace storctl::cli
