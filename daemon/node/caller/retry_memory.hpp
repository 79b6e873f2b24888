#pragma once
// A caller's memory that may not be reached directly: the kernel moves it, in legs. Each leg brings what the operation
// asked for in the one before; the operation is begun again with it. Nothing is fetched twice, so that a caller that
// changes its memory in between changes nothing. Pure.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/node/caller/memory.hpp"

namespace storctl::node {

class RetryMemory final : public CallerMemory {
 public:
    struct Segment {
        uint64_t address = 0;
        size_t length = 0;
        bool operator==(const Segment&) const = default;
    };

    /// `leg_bytes`: most that one leg moves each way. `most_segments`: of both ways together.
    RetryMemory(size_t leg_bytes, size_t most_segments) : leg_bytes_(leg_bytes), most_segments_(most_segments) {}

    /// What it fetches for one operation at most; more is -ENOMEM.
    static constexpr size_t most_fetched = 256 << 10;

    /// A leg has come, with the bytes of the in-segments and room for this much. False: not what was asked for.
    bool begin(std::span<const std::byte> in, size_t room);
    /// After the operation said `again`: what the next leg is to bring and to make room for. False: it cannot be
    /// carried.
    bool plan_next();
    const std::vector<Segment>& in_segments() const { return in_; }
    const std::vector<Segment>& out_segments() const { return out_; }
    /// After the operation has ended: what goes to the out-segments.
    std::span<const std::byte> written() const { return {written_.data(), written_end_}; }

    int read(uint64_t address, std::span<std::byte> into) override;
    int announce_write(uint64_t address, size_t length) override;
    int ready() override;
    int write(uint64_t address, std::span<const std::byte> from) override;
    size_t write_limit() const override { return leg_bytes_; }
    bool in_legs() const override { return true; }

 private:
    struct Fetched {
        Segment whole;
        std::vector<std::byte> bytes;  ///< that have come so far
    };

    size_t leg_bytes_, most_segments_;
    std::vector<Fetched> fetched_;
    size_t fetching_ = 0;             ///< bytes of fetched_, whether they have come or not
    std::vector<Segment> announced_;  ///< in this beginning
    std::vector<Segment> in_, out_;   ///< of the leg
    std::vector<std::byte> written_;
    size_t written_end_ = 0;
};

}  // namespace storctl::node
