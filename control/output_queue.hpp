#pragma once
// Messages waiting to leave through a non-blocking socket. One thread.

#include <deque>
#include <string>

#include "base/result.hpp"

namespace storctl::control {

class OutputQueue {
 public:
    void push(std::string message);
    /// Sends what the socket takes now. An error means that the connection is broken.
    Result<void> flush(int fd);
    bool empty() const { return messages_.empty(); }
    size_t bytes() const { return bytes_; }
    void clear();

 private:
    std::deque<std::string> messages_;
    size_t sent_ = 0;   ///< of the first message
    size_t bytes_ = 0;  ///< not sent yet, over all
};

}  // namespace storctl::control
