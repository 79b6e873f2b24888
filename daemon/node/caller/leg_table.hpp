#pragma once
// Calls of one open file that are between two of their legs, by who made them. Any thread.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "daemon/node/caller/retry_memory.hpp"

namespace storctl::node {

class LegTable {
 public:
    /// Who asked what: the thread (0: one that is not seen from here), the ioctl, its argument.
    using Key = std::tuple<int, uint32_t, uint64_t>;

    LegTable(size_t leg_bytes, size_t most_segments) : leg_bytes_(leg_bytes), most_segments_(most_segments) {}

    /// What the legs before this one brought, or for a `first` leg a new memory; it belongs to the caller until `put`.
    /// Callers that cannot be told apart are served one at a time: the next waits until the one before has come to its
    /// end, or is taken for left behind. Null: there is no such call. `lost`: what a call kept whose caller did not
    /// come back.
    std::shared_ptr<RetryMemory> take(const Key& key, bool first, std::shared_ptr<void>& lost);
    /// Null: that was the last.
    void put(const Key& key, std::shared_ptr<RetryMemory> memory);
    void clear();

 private:
    struct Leg {
        std::shared_ptr<RetryMemory> memory;  // null while the operation is being carried out
        std::chrono::steady_clock::time_point since;
    };
    const size_t leg_bytes_, most_segments_;
    std::mutex mutex_;  // guards legs_
    std::condition_variable ended_;
    std::map<Key, Leg> legs_;  // from the first leg of a call to its last
};

}  // namespace storctl::node
