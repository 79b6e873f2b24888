#pragma once
// Tells when a burst of events is over: when none came for a while, and at the latest some time after the first. The
// loop's thread only.

#include <chrono>
#include <functional>
#include <memory>

#include "base/event_loop.hpp"
#include "base/result.hpp"

namespace storctl {

class Burst {
 public:
    using Clock = std::chrono::steady_clock;

    static Result<std::unique_ptr<Burst>> open(EventLoop& loop, std::chrono::milliseconds quiet,
                                               std::chrono::milliseconds longest, int64_t priority,
                                               std::function<void()> over);
    /// Something came.
    void touch();
    /// Waits for the end from now on; calls at once where the longest time has passed. Nothing when nothing came.
    void wait();
    /// What came has been dealt with.
    void clear() { pending_ = false; }

 private:
    Burst(std::chrono::milliseconds quiet, std::chrono::milliseconds longest, std::function<void()> over)
        : quiet_(quiet), longest_(longest), over_(std::move(over)) {}

    std::chrono::milliseconds quiet_, longest_;
    std::function<void()> over_;
    bool pending_ = false;
    Clock::time_point first_;
    EventSource timer_;
};

}  // namespace storctl
