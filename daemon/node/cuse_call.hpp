#pragma once
// Ioctls of one open file of a CUSE device: how the memory of whoever makes them is reached, and the legs of those
// whose memory the kernel has to move. Any thread.

#include <atomic>
#include <functional>

#include "daemon/node/caller/leg_table.hpp"
#include "daemon/node/cuse_threads.hpp"

namespace storctl::node {

class CuseCalls {
 public:
    /// Carries the operation out with the caller's memory: what ioctl(2) returns, a negative errno, or
    /// CallerMemory::again.
    using Operation = std::function<int(CallerMemory&)>;

    explicit CuseCalls(CuseChannel& channel) : channel_(channel) {}

    /// Has `operation` carried out, again and again where it takes legs, and answers.
    void ioctl(CuseTurn& turn, const Operation& operation);
    /// Whether the memory of that thread is reached without legs. Found out at the first call of an open file.
    bool direct(int thread_id);

    /// What calls had kept that never came to their end; set before the first call.
    std::function<void(std::shared_ptr<void>)> on_lost = {};

 private:
    enum class Reach : uint8_t { untried, direct, legs };

    CuseChannel& channel_;
    std::atomic<Reach> reach_{Reach::untried};
    LegTable legs_{CuseChannel::leg_bytes, CuseChannel::most_segments};
};

}  // namespace storctl::node
