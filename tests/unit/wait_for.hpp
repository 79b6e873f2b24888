#pragma once
// Turns a loop until a condition holds; false when it does not within ten seconds.

#include <chrono>
#include <functional>

#include "base/event_loop.hpp"

namespace storctl::test {

inline bool wait_for(EventLoop& loop, const std::function<bool()>& condition,
                     std::chrono::milliseconds longest = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + longest;
    while (!condition()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::microseconds>(deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0 || !loop.run_once(left)) return false;
    }
    return true;
}

}  // namespace storctl::test
