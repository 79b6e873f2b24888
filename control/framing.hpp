#pragma once
// Varlink's framing: messages end with a NUL byte. Pure; fed with whatever a read gave, in pieces of any
// size.

#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace storctl::control {

class FrameReader {
 public:
    explicit FrameReader(size_t limit_bytes) : limit_bytes_(limit_bytes) {}

    /// After a message longer than the limit everything that follows is thrown away.
    void feed(std::string_view bytes);
    /// The oldest complete message, without its NUL.
    std::optional<std::string> next();
    /// Complete messages that `next` has not given yet.
    size_t complete() const { return complete_.size(); }
    /// Bytes of an unfinished message are waiting for the rest.
    bool partial() const { return !partial_.empty(); }
    /// A message was longer than the limit; those before it still come from `next`.
    bool overflowed() const { return overflowed_; }

 private:
    size_t limit_bytes_;
    std::deque<std::string> complete_;
    std::string partial_;
    bool overflowed_ = false;
};

}  // namespace storctl::control
