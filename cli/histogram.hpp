#pragma once
// Latency histograms as nodes count them: bucket i holds operations that took at least 2^(i-1) and less than 2^i
// nanoseconds (bucket 0: less than one; the last: everything longer too). Pure; any thread.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace storctl::cli {

using Buckets = std::vector<uint64_t>;

/// What was counted between two readings. A counter that went back is one that began again: its new value counts.
uint64_t counted_since(uint64_t now, uint64_t before);
Buckets counted_since(std::span<const uint64_t> now, std::span<const uint64_t> before);
Buckets sum(std::span<const uint64_t> left, std::span<const uint64_t> right);

/// The latency that `fraction` (0 to 1) of the operations stayed within, interpolated inside its bucket: exact to a
/// factor of two. Nothing: no operations.
std::optional<double> percentile_ns(std::span<const uint64_t> buckets, double fraction);

}  // namespace storctl::cli
