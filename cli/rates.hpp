#pragma once
// Two readings of a node's counters as rates and latencies. Pure; any thread.

#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace storctl::cli {

/// `now` (io.storctl.Node's type Stat) with a member "rates" added: {"since_start", "seconds", "refused_opens",
/// "operations": [{"operation", "operations", "bytes", "errors", "operations_per_second", "bytes_per_second",
/// "mean_ns", "p50_ns", "p99_ns"}]}. Counts and rates are of the time since `before`, or since the node's process
/// started: `before` null, or of an earlier process. The operation "all" is reads and writes together; latencies are
/// null where nothing was done.
nlohmann::json with_rates(nlohmann::json now, const nlohmann::json& before);

/// Of a USB node's operations: what goes to the device.
bool is_urb(std::string_view operation);

/// {"urbs", "bytes", "errors"} of io.storctl.Node's type NodeStat since the node's process started; urbs null: not a
/// USB node.
nlohmann::json total_counts(const nlohmann::json& stat);

}  // namespace storctl::cli
