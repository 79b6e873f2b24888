#include "cli/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace storctl::cli {

uint64_t counted_since(uint64_t now, uint64_t before) { return now >= before ? now - before : now; }

Buckets counted_since(std::span<const uint64_t> now, std::span<const uint64_t> before) {
    Buckets out(now.begin(), now.end());
    for (size_t i = 0; i < std::min(now.size(), before.size()); ++i) out[i] = counted_since(now[i], before[i]);
    return out;
}

Buckets sum(std::span<const uint64_t> left, std::span<const uint64_t> right) {
    Buckets out(std::max(left.size(), right.size()), 0);
    for (size_t i = 0; i < left.size(); ++i) out[i] += left[i];
    for (size_t i = 0; i < right.size(); ++i) out[i] += right[i];
    return out;
}

std::optional<double> percentile_ns(std::span<const uint64_t> buckets, double fraction) {
    const uint64_t total = std::accumulate(buckets.begin(), buckets.end(), uint64_t{0});
    if (total == 0) return std::nullopt;
    const double wanted = std::max(1.0, std::ceil(fraction * static_cast<double>(total)));
    double below = 0;
    for (size_t i = 0; i < buckets.size(); ++i) {
        const auto here = static_cast<double>(buckets[i]);
        if (here > 0 && below + here >= wanted) {
            const double low = i == 0 ? 0 : std::ldexp(1.0, static_cast<int>(i) - 1);
            const double high = std::ldexp(1.0, static_cast<int>(i));
            return low + (high - low) * (wanted - below) / here;
        }
        below += here;
    }
    return std::nullopt;
}

}  // namespace storctl::cli
