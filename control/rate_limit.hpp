#pragma once
// At most so many log lines per stretch of time, so that a client cannot flood the log. Pure; one thread.

#include <chrono>
#include <cstddef>
#include <optional>

namespace storctl::control {

class RateLimit {
 public:
    using Clock = std::chrono::steady_clock;
    RateLimit(size_t burst, Clock::duration window) : burst_(burst), window_(window) {}

    /// How many were held back since the last one that passed, or nothing: hold this one back too.
    std::optional<size_t> pass(Clock::time_point now = Clock::now()) {
        if (now - start_ >= window_) {
            start_ = now;
            used_ = 0;
        }
        if (used_ >= burst_) {
            ++held_back_;
            return std::nullopt;
        }
        ++used_;
        const size_t before = held_back_;
        held_back_ = 0;
        return before;
    }

 private:
    size_t burst_;
    Clock::duration window_;
    Clock::time_point start_{};
    size_t used_ = 0;
    size_t held_back_ = 0;
};

}  // namespace storctl::control
