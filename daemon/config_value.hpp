#pragma once
// Pure text helpers of the configuration.

#include <chrono>
#include <string_view>

#include "base/result.hpp"

namespace storctl {

/// "500ms", "10s", "5min", "1h": a whole number and a unit.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace storctl
