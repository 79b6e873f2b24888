#pragma once
// The memory of whoever made an ioctl: pointers in the caller's structures lead there.
// Only what the caller's own request names is ever asked for. One object serves one request, on one thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace storctl::node {

/// Answers are 0 or a negative errno. An operation first reads and announces everything, then acts, then writes: until
/// `write` it may be given up and begun again from its start (`again`), with the same answers for what was read before.
class CallerMemory {
 public:
    /// Not an errno of the kernel's: give the operation up, it is begun again when the caller's data are here.
    static constexpr int again = -0x10000;

    struct Piece {
        uint64_t address = 0;
        std::span<const std::byte> bytes;
    };

    virtual ~CallerMemory() = default;
    /// -EFAULT: not all of it is there to read. The first answer for an address stands: nothing is fetched twice.
    virtual int read(uint64_t address, std::span<std::byte> into) = 0;
    /// What `write` will be given; once for each.
    virtual int announce_write(uint64_t address, size_t length) = 0;
    /// Everything is announced, and the operation is about to act.
    virtual int ready() { return 0; }
    /// -EFAULT: not all of it is there to write.
    virtual int write(uint64_t address, std::span<const std::byte> from) = 0;
    /// Several at once. Stops at the first that fails.
    virtual int write_all(std::span<const Piece> pieces) {
        for (const auto& piece : pieces) {
            if (const int failed = write(piece.address, piece.bytes); failed != 0) return failed;
        }
        return 0;
    }
    /// The most that one operation can write: a request with more is refused before anything happens.
    virtual size_t write_limit() const = 0;
    /// What is announced but not written before something that is written goes out as zeroes.
    virtual bool in_legs() const { return false; }

    /// What an operation that acts before it knows what to announce (a reap) keeps until it is begun again.
    std::shared_ptr<void> kept;
};

}  // namespace storctl::node
