#include "control/framing.hpp"

namespace storctl::control {

void FrameReader::feed(std::string_view bytes) {
    while (!overflowed_ && !bytes.empty()) {
        const auto end = bytes.find('\0');
        const auto piece = bytes.substr(0, end);
        if (piece.size() > limit_bytes_ - partial_.size()) {
            overflowed_ = true;
            partial_ = std::string();
            return;
        }
        partial_ += piece;
        if (end == std::string_view::npos) return;
        complete_.push_back(std::move(partial_));
        partial_.clear();
        bytes.remove_prefix(end + 1);
    }
}

std::optional<std::string> FrameReader::next() {
    if (complete_.empty()) return std::nullopt;
    std::string message = std::move(complete_.front());
    complete_.pop_front();
    return message;
}

}  // namespace storctl::control
