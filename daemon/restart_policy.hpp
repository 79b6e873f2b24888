#pragma once
// When to start a node's process again after it died. Pure: time comes from the caller.
//
//   died     pause doubles from first_delay to longest_delay with each death within `window`
//   died     for the failed_after-th time within `window`, or refused by arbitration: failed, one attempt per
//   failed_delay served   for `window` without a death: the record is clean again

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

namespace storctl {

struct RestartLimits {
    std::chrono::milliseconds first_delay{100};
    std::chrono::milliseconds longest_delay{10'000};
    size_t failed_after = 5;
    std::chrono::milliseconds window{60'000};
    std::chrono::milliseconds failed_delay{30'000};
};

class RestartPolicy {
 public:
    using Clock = std::chrono::steady_clock;
    enum class Death { crash, refused };
    struct Decision {
        std::chrono::milliseconds delay{};
        bool failed = false;
    };

    explicit RestartPolicy(RestartLimits limits) : limits_(limits) {}

    void set_limits(RestartLimits limits) { limits_ = limits; }
    /// The process serves since `now`.
    void serving(Clock::time_point now);
    Decision died(Clock::time_point now, Death death);

 private:
    void forgive(Clock::time_point now);

    RestartLimits limits_;
    std::deque<Clock::time_point> deaths_;
    std::optional<Clock::time_point> serving_since_;
    bool failed_ = false;
};

}  // namespace storctl
