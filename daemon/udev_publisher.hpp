#pragma once
// Keeps the STORCTL_ properties in udev's database true: a device of which udev says something else than stord gets one
// "change" event, and 69-storctl.rules read the state file again. Loop thread only; call after the file is written.

#include <functional>
#include <map>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"

namespace storctl {

/// What udev's database says of a device; the values as the rules import them.
struct UdevProperties {
    std::string id, local, shared;

    bool operator==(const UdevProperties&) const = default;
};

class UdevPublisher {
 public:
    /// Nothing: the database has no such properties (no rules installed, or they leave this device alone).
    using Lookup = std::function<std::optional<UdevProperties>(const std::string& kernel_name)>;
    using Trigger = std::function<Result<void>(const std::string& kernel_name)>;

    UdevPublisher(Lookup lookup, Trigger trigger) : lookup_(std::move(lookup)), trigger_(std::move(trigger)) {}
    /// This host's udev database, and its kernel for the events.
    static Result<UdevPublisher> for_this_host();

    /// `devices`: a list of io.storctl.Device's type Device. Each is compared when it is new or has become another;
    /// whatever the event brings, it is not repeated for the same values.
    void compare(const nlohmann::json& devices);

 private:
    Lookup lookup_;
    Trigger trigger_;
    std::map<std::string, UdevProperties> compared_;  // by kernel name
};

}  // namespace storctl
