#include "daemon/restart_policy.hpp"

#include <algorithm>

namespace storctl {

void RestartPolicy::serving(Clock::time_point now) {
    if (!serving_since_) serving_since_ = now;
}

void RestartPolicy::forgive(Clock::time_point now) {
    const bool served_long = serving_since_ && now - *serving_since_ >= limits_.window;
    if (served_long) {
        deaths_.clear();
        failed_ = false;
    }
    serving_since_.reset();
    while (!deaths_.empty() && now - deaths_.front() >= limits_.window) deaths_.pop_front();
}

RestartPolicy::Decision RestartPolicy::died(Clock::time_point now, Death death) {
    forgive(now);
    deaths_.push_back(now);
    if (deaths_.size() >= limits_.failed_after) failed_ = true;
    if (failed_ || death == Death::refused) return {.delay = limits_.failed_delay, .failed = true};
    auto delay = limits_.first_delay;
    for (size_t i = 1; i < deaths_.size() && delay < limits_.longest_delay; ++i) delay *= 2;
    return {.delay = std::min(delay, limits_.longest_delay), .failed = false};
}

}  // namespace storctl
