#include "daemon/config_value.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl {
namespace {

struct Unit {
    std::string_view name;
    uint64_t milliseconds;
};
constexpr auto units = std::to_array<Unit>({{"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}});

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    const std::string_view trimmed = trim(text);
    const size_t digits = std::min(trimmed.find_first_not_of("0123456789"), trimmed.size());
    const std::string_view unit_name = trim(trimmed.substr(digits));
    const auto* unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit_name; });
    const auto number = parse_unsigned(trimmed.substr(0, digits), "the duration");
    constexpr uint64_t longest = std::numeric_limits<int64_t>::max() / 3'600'000;
    if (unit == units.end() || !number || *number > longest) {
        return make_error(
            std::errc::invalid_argument,
            fmt::format("'{}' is not a duration (a whole number and ms, s, min or h)", escape_unprintable(text)));
    }
    return std::chrono::milliseconds(*number * unit->milliseconds);
}

size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<size_t> before_previous, previous(b.size() + 1), current(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        current[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const size_t replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            current[j] = std::min({replaced, previous[j] + 1, current[j - 1] + 1});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) current[j] = std::min(current[j], before_previous[j - 2] + 1);
        }
        before_previous = previous;
        std::swap(previous, current);
    }
    return previous[b.size()];
}

}  // namespace storctl
