#pragma once
// A client's incoming side: messages off a socket, each with the descriptors that came with it. One thread.

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "control/framing.hpp"

namespace storctl::control {

class MessageReceiver {
 public:
    struct Message {
        std::string text;
        std::vector<UniqueFd> descriptors;
    };

    explicit MessageReceiver(size_t limit_bytes) : reader_(limit_bytes) {}

    /// Takes what can be read now: its length, 0 at the end of the stream, nothing where there is no data yet.
    /// message_size: more descriptors than a message may have; the stream is of no use any more.
    Result<std::optional<size_t>> receive(int fd);
    /// The oldest complete message.
    std::optional<Message> next();
    /// A message was longer than the limit; those before it still come from `next`.
    bool overflowed() const { return reader_.overflowed(); }

 private:
    struct Arrived {
        size_t message = 0;  ///< counted from the stream's beginning
        std::vector<UniqueFd> descriptors;
    };
    Result<void> keep(std::vector<UniqueFd> descriptors, bool message_ended);

    FrameReader reader_;
    size_t taken_ = 0;
    std::vector<Arrived> arrived_;
};

}  // namespace storctl::control
