#pragma once
// A node as "node show" tells it. Pure; any thread.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/table.hpp"

namespace storctl::cli {

Style node_state_style(std::string_view state);

/// `node`: io.storctl.Node's type Node.
std::vector<Property> describe_node(const nlohmann::json& node, const ValueFormat& format);

/// "pid 4711 (qemu-system-x86) write since …"
std::string describe_opener(const nlohmann::json& opener);

}  // namespace storctl::cli
