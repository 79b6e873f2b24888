#pragma once
// Messages waiting to leave through a non-blocking socket, some of them with descriptors (SCM_RIGHTS). One thread.

#include <deque>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::control {

inline constexpr size_t max_descriptors = 16;  ///< of one message

class OutputQueue {
 public:
    /// `descriptors`, at most max_descriptors, go with the message's first byte and are closed when that is sent.
    void push(std::string message, std::vector<UniqueFd> descriptors = {});
    /// Sends what the socket takes now. An error means that the connection is broken.
    Result<void> flush(int fd);
    bool empty() const { return messages_.empty(); }
    size_t bytes() const { return bytes_; }
    /// Waiting to be sent, over all messages.
    size_t descriptors() const { return descriptors_; }
    void clear();

 private:
    struct Message {
        std::string text;
        std::vector<UniqueFd> descriptors;
    };

    std::deque<Message> messages_;
    size_t sent_ = 0;   ///< of the first message
    size_t bytes_ = 0;  ///< not sent yet, over all
    size_t descriptors_ = 0;
};

}  // namespace storctl::control
