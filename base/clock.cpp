#include "base/clock.hpp"

#include <ctime>

#include <fmt/format.h>

namespace storctl {

WallTime wall_now() { return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()); }

std::string format_time(WallTime time) {
    const std::time_t seconds = time.time_since_epoch().count();
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                       parts.tm_hour, parts.tm_min, parts.tm_sec);
}

Result<WallTime> parse_time(std::string_view text) {
    std::tm parts{};
    const std::string copy(text);
    const char* end = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (end == nullptr || *end != '\0') {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' is not a time like 2026-11-22T12:00:00Z", text));
    }
    return WallTime(std::chrono::seconds(::timegm(&parts)));
}

}  // namespace storctl
