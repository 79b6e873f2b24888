#pragma once
// Counters of one node. The reactor thread writes them, the control thread reads them: single-writer relaxed atomics,
// so that the I/O path has no locked instruction.

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "daemon/node/block.hpp"

namespace storctl::node {

inline constexpr size_t latency_buckets = 40;

/// A counter with one writer.
class Counter {
 public:
    void add(uint64_t amount) {
        value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }
    void subtract(uint64_t amount) {
        value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
    }
    uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
    std::atomic<uint64_t> value_{0};
};

struct OperationStats {
    Counter operations, bytes, errors, in_flight, latency_total_ns;
    /// Bucket i: at least 2^(i-1) and less than 2^i nanoseconds; the last takes all longer ones.
    std::array<Counter, latency_buckets> latency;

    void begin() { in_flight.add(1); }
    void end(int64_t result, uint64_t length, uint64_t took_ns) {
        in_flight.subtract(1);
        operations.add(1);
        if (result < 0) {
            errors.add(1);
        } else {
            bytes.add(length);
        }
        latency_total_ns.add(took_ns);
        const auto bucket = static_cast<size_t>(std::bit_width(took_ns));
        latency[bucket < latency_buckets ? bucket : latency_buckets - 1].add(1);
    }
};

struct NodeStats {
    std::array<OperationStats, block_op_count> operations;
    Counter refused_opens;

    OperationStats& of(BlockOp op) { return operations[static_cast<size_t>(op)]; }
    const OperationStats& of(BlockOp op) const { return operations[static_cast<size_t>(op)]; }
};

}  // namespace storctl::node
