#pragma once
// Two readings of a node's counters as rates and latencies. Pure; any thread.

#include <nlohmann/json_fwd.hpp>

namespace storctl::cli {

/// `now` (io.storctl.Node's type Stat) with a member "rates" added: {"since_start", "seconds", "refused_opens",
/// "operations": [{"operation", "operations", "bytes", "errors", "operations_per_second", "bytes_per_second",
/// "mean_ns", "p50_ns", "p99_ns"}]}. Counts and rates are of the time since `before`, or since the node's process
/// started: `before` null, or of an earlier process. The operation "all" is reads and writes together; latencies are
/// null where nothing was done.
nlohmann::json with_rates(nlohmann::json now, const nlohmann::json& before);

}  // namespace storctl::cli
