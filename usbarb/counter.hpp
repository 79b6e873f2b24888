#pragma once
// In-use counters, and the leases that are the only way to change them. One thread.

#include <cstdint>
#include <vector>

namespace storctl::usbarb {

class Counter {
 public:
    Counter() = default;
    Counter(const Counter&) = delete;
    Counter& operator=(const Counter&) = delete;
    uint32_t value() const { return value_; }

 private:
    friend class UseLease;
    uint32_t value_ = 0;
};

/// Counts one on each of its counters for as long as it lives. The counters must outlive it.
class UseLease {
 public:
    UseLease() = default;
    static UseLease acquire(std::vector<Counter*> counters);
    UseLease(UseLease&& other) noexcept : counters_(std::move(other.counters_)) { other.counters_.clear(); }
    UseLease& operator=(UseLease&& other) noexcept;
    ~UseLease() { release(); }

    void release();
    bool held() const { return !counters_.empty(); }

 private:
    explicit UseLease(std::vector<Counter*> counters) : counters_(std::move(counters)) {}
    std::vector<Counter*> counters_;
};

}  // namespace storctl::usbarb
