#pragma once
// Counters of a USB node's traffic. Any thread.

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "base/enum_text.hpp"

namespace storctl::node::usbfs {

/// URBs by the type of their endpoint (a synchronous transfer counts as one), and the requests of the node's consumers.
enum class Traffic : uint8_t { control, bulk, interrupt, isochronous, ioctl, poll };
inline constexpr size_t traffic_count = 6;
inline constexpr size_t traffic_latency_buckets = 40;

struct TrafficCounters {
    std::atomic<uint64_t> operations{0}, bytes{0}, errors{0}, in_flight{0}, latency_total_ns{0};
    /// Bucket i: at least 2^(i-1) and less than 2^i nanoseconds; the last takes all longer ones.
    std::array<std::atomic<uint64_t>, traffic_latency_buckets> latency{};

    void begin() { in_flight.fetch_add(1, std::memory_order_relaxed); }
    void abandon() { in_flight.fetch_sub(1, std::memory_order_relaxed); }
    void end(bool failed, uint64_t moved, uint64_t took_ns) {
        abandon();
        count(failed, moved);
        latency_total_ns.fetch_add(took_ns, std::memory_order_relaxed);
        const auto bucket = static_cast<size_t>(std::bit_width(took_ns));
        latency[bucket < latency.size() ? bucket : latency.size() - 1].fetch_add(1, std::memory_order_relaxed);
    }
    void count(bool failed, uint64_t moved) {
        operations.fetch_add(1, std::memory_order_relaxed);
        bytes.fetch_add(moved, std::memory_order_relaxed);
        if (failed) errors.fetch_add(1, std::memory_order_relaxed);
    }
};

struct Statistics {
    std::array<TrafficCounters, traffic_count> traffic;
    std::atomic<uint64_t> refused_opens{0};

    TrafficCounters& of(Traffic which) { return traffic[static_cast<size_t>(which)]; }
    const TrafficCounters& of(Traffic which) const { return traffic[static_cast<size_t>(which)]; }
};

}  // namespace storctl::node::usbfs

namespace storctl {
template <>
struct EnumNames<node::usbfs::Traffic> {
    using T = node::usbfs::Traffic;
    static constexpr auto table = std::to_array<EnumName<T>>({
        {T::control, "control"},
        {T::bulk, "bulk"},
        {T::interrupt, "interrupt"},
        {T::isochronous, "isochronous"},
        {T::ioctl, "ioctl"},
        {T::poll, "poll"},
    });
};
static_assert(round_trips<node::usbfs::Traffic>() &&
              EnumNames<node::usbfs::Traffic>::table.size() == node::usbfs::traffic_count);
}  // namespace storctl
