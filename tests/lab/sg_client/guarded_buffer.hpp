#pragma once
// Memory whose surroundings are watched: canaries before it and behind it, and a page behind those that nobody may
// touch. One thread at a time.

#include <cstddef>
#include <span>

namespace storctl::sg_client {

class GuardedBuffer {
 public:
    /// `room`: what `use` may ask for at most.
    explicit GuardedBuffer(size_t room);
    ~GuardedBuffer();
    GuardedBuffer(const GuardedBuffer&) = delete;
    GuardedBuffer& operator=(const GuardedBuffer&) = delete;

    /// `bytes` of it, filled with `fill`; `behind` bytes of canaries follow, then the page that nobody may touch.
    std::span<std::byte> use(size_t bytes, size_t behind = 0, std::byte fill = std::byte{0xa5});
    /// Nobody wrote outside of what `use` gave.
    bool intact() const;

 private:
    static constexpr size_t before = 64;
    std::byte* base_;
    size_t mapped_;  ///< without the last page
    std::span<std::byte> used_;
};

/// A page that may not be touched, and one that may only be read.
void* untouchable_page();
void* read_only_page();

}  // namespace storctl::sg_client
