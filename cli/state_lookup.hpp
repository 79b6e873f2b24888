#pragma once
// Devices in stord's state file, found without parsing all of it: ten thousand devices are some 15 MB, and a udev
// helper has milliseconds. Pure; any thread.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"

namespace storctl::cli {

/// A member that a device or anything inside it may have.
struct Mention {
    std::string key;
    std::string value;
};

/// The devices (io.storctl.Device's type Device) in whose text one of `mentions` stands. An error when the text is no
/// state file of version 1, as stord writes it: without blanks.
Result<std::vector<nlohmann::json>> devices_mentioning(std::string_view state, const std::vector<Mention>& mentions);

}  // namespace storctl::cli
