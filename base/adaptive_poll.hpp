#pragma once
// How long to busy-poll before sleeping, learnt from the waits so far. A sleeping server costs its client a wake-up on
// each request, which on a fast disk is a third of the latency; a spinning one costs a CPU. So: poll only while waits
// are shorter than the limit (which QEMU's poll-max-ns does too), and not for a while after the scheduler has taken the
// CPU away from us, which says that somebody else needs it. Pure; one thread.

#include <algorithm>
#include <cstdint>

namespace storctl {

class AdaptivePoll {
 public:
    static constexpr uint64_t first_budget_ns = 4'000;
    static constexpr uint64_t hold_off_ns = 20'000'000;

    /// 0: never poll.
    explicit AdaptivePoll(uint64_t limit_ns) : limit_ns_(limit_ns) {}

    /// Nanoseconds to poll for, from `now_ns` on; 0: sleep at once.
    uint64_t budget_ns(uint64_t now_ns) const { return now_ns < held_off_until_ns_ ? 0 : budget_ns_; }

    /// A wait took this long until something came, polled or slept.
    void waited(uint64_t wait_ns) {
        if (wait_ns > limit_ns_) {
            budget_ns_ = 0;
        } else if (wait_ns > budget_ns_) {
            budget_ns_ = std::min(limit_ns_, std::max({first_budget_ns, budget_ns_ * 2, wait_ns + wait_ns / 2}));
        }
    }

    /// The number of times the scheduler has taken the CPU away from this thread (ru_nivcsw), as it is now.
    void preempted(uint64_t involuntary_switches, uint64_t now_ns) {
        if (involuntary_switches > involuntary_switches_ && counted_) held_off_until_ns_ = now_ns + hold_off_ns;
        involuntary_switches_ = involuntary_switches;
        counted_ = true;
    }

 private:
    uint64_t limit_ns_;
    uint64_t budget_ns_ = 0;
    uint64_t held_off_until_ns_ = 0;
    uint64_t involuntary_switches_ = 0;
    bool counted_ = false;
};

}  // namespace storctl
