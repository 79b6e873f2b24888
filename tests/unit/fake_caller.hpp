#pragma once
// A process that makes ioctls, for tests of what serves them: one stretch of memory, reached directly or in legs.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <vector>

#include "daemon/node/caller/retry_memory.hpp"

namespace storctl::node::testing {

/// The caller: its memory lies at `base`, and where 32 bits reach it, at `base_32`.
struct FakeProcess {
    static constexpr uint64_t base = 0x1'0000'0000, base_32 = 0x1000'0000;
    std::vector<std::byte> memory = std::vector<std::byte>(4 << 20);
    std::function<void()> between_legs;  ///< the caller's other threads at work

    static uint64_t offset(uint64_t address) { return address - (address >= base ? base : base_32); }
    bool has(uint64_t address, size_t length) const {
        return address >= base_32 && length <= memory.size() && offset(address) <= memory.size() - length;
    }
    std::byte* at(uint64_t address) { return memory.data() + offset(address); }
    template <class T>
    void put(uint64_t address, const T& value) {
        std::memcpy(at(address), &value, sizeof value);
    }
    template <class T>
    T get(uint64_t address) {
        T out;
        std::memcpy(&out, at(address), sizeof out);
        return out;
    }
};

class DirectMemory final : public CallerMemory {
 public:
    explicit DirectMemory(FakeProcess& process) : process_(process) {}
    int read(uint64_t address, std::span<std::byte> into) override {
        if (!process_.has(address, into.size())) return -EFAULT;
        std::memcpy(into.data(), process_.at(address), into.size());
        return 0;
    }
    int announce_write(uint64_t, size_t) override { return 0; }
    int write(uint64_t address, std::span<const std::byte> from) override {
        if (!process_.has(address, from.size())) return -EFAULT;
        std::memcpy(process_.at(address), from.data(), from.size());
        return 0;
    }
    size_t write_limit() const override { return SIZE_MAX; }

 private:
    FakeProcess& process_;
};

/// An ioctl as fs/fuse carries it out in legs (fuse_do_ioctl): what the server asks for is fetched, and the ioctl comes
/// again.
inline int in_legs(FakeProcess& process, const std::function<int(CallerMemory&)>& operation, int* legs = nullptr) {
    constexpr size_t leg_bytes = 32 * 4096;
    RetryMemory memory(leg_bytes, 256);
    std::vector<std::byte> in;
    size_t room = 0;
    for (int leg = 1;; ++leg) {
        if (legs != nullptr) *legs = leg;
        if (!memory.begin(in, room)) return -EIO;
        const int result = operation(memory);
        if (result != CallerMemory::again) {
            auto written = memory.written();
            for (const auto& segment : memory.out_segments()) {
                const auto part = written.first(std::min(segment.length, written.size()));
                if (result < 0 || part.empty()) break;
                if (!process.has(segment.address, part.size())) return -EFAULT;
                std::memcpy(process.at(segment.address), part.data(), part.size());
                written = written.subspan(part.size());
            }
            return result;
        }
        if (!memory.plan_next()) return -ENOMEM;
        in.clear();
        room = 0;
        for (const auto& segment : memory.in_segments()) {
            if (!process.has(segment.address, segment.length)) return -EFAULT;
            in.insert(in.end(), process.at(segment.address), process.at(segment.address) + segment.length);
        }
        for (const auto& segment : memory.out_segments()) room += segment.length;
        if (in.size() > leg_bytes || room > leg_bytes) return -ENOMEM;
        if (process.between_legs) process.between_legs();
    }
}

}  // namespace storctl::node::testing
