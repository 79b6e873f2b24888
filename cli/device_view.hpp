#pragma once
// A device as "device show" tells it. Pure; any thread.

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/table.hpp"

namespace storctl::cli {

/// `device`: io.storctl.Device's type Device.
std::vector<Property> describe_device(const nlohmann::json& device, const ValueFormat& format);

/// "1.5 GiB (1610612736 bytes)", or the number alone.
std::string describe_size(uint64_t bytes, const ValueFormat& format);

}  // namespace storctl::cli
