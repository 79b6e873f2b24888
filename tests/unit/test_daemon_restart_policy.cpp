#include <doctest/doctest.h>

#include "daemon/restart_policy.hpp"

using namespace storctl;
using namespace std::chrono_literals;
using Death = RestartPolicy::Death;

namespace {

constexpr RestartLimits limits{
    .first_delay = 100ms, .longest_delay = 1000ms, .failed_after = 6, .window = 60s, .failed_delay = 30s};

/// A clock that only moves when told.
struct Story {
    RestartPolicy policy{limits};
    RestartPolicy::Clock::time_point now{};

    Story& after(std::chrono::milliseconds time) {
        now += time;
        return *this;
    }
    RestartPolicy::Decision died(Death death = Death::crash) { return policy.died(now, death); }
    void serving() { policy.serving(now); }
};

}  // namespace

TEST_CASE("the pause doubles with each death up to the longest, then the node is failed") {
    Story story;
    for (const auto delay : {100ms, 200ms, 400ms, 800ms, 1000ms}) {
        const auto decision = story.after(1s).died();
        CHECK(decision.delay == delay);
        CHECK_FALSE(decision.failed);
    }
    const auto decision = story.after(1s).died();
    CHECK(decision.failed);
    CHECK(decision.delay == 30s);
}

TEST_CASE("a failed node stays failed although its slow attempts leave the window") {
    Story story;
    for (int i = 0; i < 6; ++i) (void)story.after(1s).died();
    for (int i = 0; i < 10; ++i) CHECK(story.after(30s).died().failed);
}

TEST_CASE("a failed node that serves for the window has a clean record") {
    Story story;
    for (int i = 0; i < 6; ++i) (void)story.after(1s).died();
    story.after(30s).serving();
    SUBCASE("long enough") {
        const auto decision = story.after(60s).died();
        CHECK_FALSE(decision.failed);
        CHECK(decision.delay == 100ms);
    }
    SUBCASE("not long enough") { CHECK(story.after(59s).died().failed); }
}

TEST_CASE("deaths further apart than the window never make a node failed") {
    Story story;
    for (int i = 0; i < 20; ++i) {
        story.serving();
        const auto decision = story.after(61s).died();
        CHECK_FALSE(decision.failed);
        CHECK(decision.delay == 100ms);
    }
}

TEST_CASE("serving is counted from the first word of it, not from the last") {
    Story story;
    (void)story.died();
    story.serving();
    story.after(59s).serving();
    CHECK(story.after(2s).died().delay == 100ms);
}

TEST_CASE("a refusal by arbitration is retried slowly at once, and does not make a later crash failed") {
    Story story;
    const auto refused = story.died(Death::refused);
    CHECK(refused.failed);
    CHECK(refused.delay == 30s);
    const auto crash = story.after(30s).died();
    CHECK_FALSE(crash.failed);
    CHECK(crash.delay == 200ms);
}

TEST_CASE("new limits apply from the next death on") {
    Story story;
    (void)story.died();
    RestartLimits other = limits;
    other.first_delay = 7ms;
    story.policy.set_limits(other);
    CHECK(story.after(1s).died().delay == 14ms);
}
