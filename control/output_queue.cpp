#include "control/output_queue.hpp"

#include <sys/socket.h>

namespace storctl::control {

void OutputQueue::push(std::string message) {
    bytes_ += message.size();
    messages_.push_back(std::move(message));
}

Result<void> OutputQueue::flush(int fd) {
    while (!messages_.empty()) {
        const auto& first = messages_.front();
        const ssize_t sent = ::send(fd, first.data() + sent_, first.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
        if (sent < 0) return errno_error("cannot send");
        sent_ += static_cast<size_t>(sent);
        bytes_ -= static_cast<size_t>(sent);
        if (sent_ == first.size()) {
            messages_.pop_front();
            sent_ = 0;
        }
    }
    return {};
}

void OutputQueue::clear() {
    messages_.clear();
    sent_ = 0;
    bytes_ = 0;
}

}  // namespace storctl::control
