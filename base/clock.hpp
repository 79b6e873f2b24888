#pragma once
// Wall-clock time as it is stored and shown: RFC 3339 in UTC with whole seconds, "2026-11-22T12:00:00Z".

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace storctl {

using WallTime = std::chrono::sys_seconds;

WallTime wall_now();
std::string format_time(WallTime time);
Result<WallTime> parse_time(std::string_view text);

}  // namespace storctl
