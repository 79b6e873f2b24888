#include "control/output_queue.hpp"

#include <sys/socket.h>

#include "base/passed_files.hpp"

namespace storctl::control {

void OutputQueue::push(std::string message, std::vector<UniqueFd> descriptors) {
    bytes_ += message.size();
    descriptors_ += descriptors.size();
    messages_.push_back({.text = std::move(message), .descriptors = std::move(descriptors)});
}

Result<void> OutputQueue::flush(int fd) {
    while (!messages_.empty()) {
        auto& first = messages_.front();
        const auto rest = std::string_view(first.text).substr(sent_);
        const auto sent = send_with_files(fd, rest, first.descriptors, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (!sent) {
            const auto code = sent.error().code;
            const bool full =
                code == std::errc::resource_unavailable_try_again || code == std::errc::operation_would_block;
            if (full) return {};
            return sent.error();
        }
        descriptors_ -= first.descriptors.size();
        first.descriptors.clear();
        sent_ += *sent;
        bytes_ -= *sent;
        if (sent_ == first.text.size()) {
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
    descriptors_ = 0;
}

}  // namespace storctl::control
