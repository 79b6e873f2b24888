#pragma once
// Devices in stord's state file, found without parsing all of it: ten thousand devices are some 15 MB, and a udev
// helper has milliseconds. Pure; any thread.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"

namespace storctl::cli {

/// The devices (io.storctl.Device's type Device) whose text holds one of `words` as a whole JSON string. An error when
/// the text is no state file of version 1.
Result<std::vector<nlohmann::json>> devices_mentioning(std::string_view state, const std::vector<std::string>& words);

}  // namespace storctl::cli
