#include "daemon/burst.hpp"

#include <algorithm>

namespace storctl {

Result<std::unique_ptr<Burst>> Burst::open(EventLoop& loop, std::chrono::milliseconds quiet,
                                           std::chrono::milliseconds longest, int64_t priority,
                                           std::function<void()> over) {
    std::unique_ptr<Burst> self(new Burst(quiet, longest, std::move(over)));
    self->timer_ = TRY(loop.add_timer(quiet, priority, [raw = self.get()] { raw->over_(); }));
    self->timer_.enable(false);
    return self;
}

void Burst::touch() {
    if (!pending_) first_ = Clock::now();
    pending_ = true;
}

void Burst::wait() {
    using std::chrono::microseconds, std::chrono::duration_cast;
    if (!pending_) return;
    const auto left = first_ + longest_ - Clock::now();
    // at the limit at once: setting the timer anew at each event would put it off for ever
    if (left <= left.zero()) return over_();
    timer_.arm(std::min<microseconds>(quiet_, duration_cast<microseconds>(left)));
}

}  // namespace storctl
