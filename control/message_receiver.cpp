// A stream has no marks between messages, but the kernel never reads past the piece that descriptors came with
// (net/unix/af_unix.c, unix_stream_read_generic), and a server sends them with the first byte of their message and
// nothing of another one behind it. So they belong to the message that the last byte of such a read is of.

#include "control/message_receiver.hpp"

#include <array>

#include <fmt/format.h>
#include <sys/socket.h>

#include "base/passed_files.hpp"
#include "control/output_queue.hpp"

namespace storctl::control {

Result<std::optional<size_t>> MessageReceiver::receive(int fd) {
    std::array<char, 64 << 10> buffer;
    auto received = receive_with_files(fd, buffer, max_descriptors, MSG_DONTWAIT);
    if (!received) {
        const auto code = received.error().code;
        const bool nothing_there =
            code == std::errc::resource_unavailable_try_again || code == std::errc::operation_would_block;
        if (nothing_there) return std::optional<size_t>();
        return std::move(received).error();
    }
    if (received->count == 0) return std::optional<size_t>(0);
    reader_.feed({buffer.data(), received->count});
    if (!received->files.empty()) TRY(keep(std::move(received->files), buffer[received->count - 1] == '\0'));
    return std::optional<size_t>(received->count);
}

Result<void> MessageReceiver::keep(std::vector<UniqueFd> descriptors, bool message_ended) {
    const size_t complete = taken_ + reader_.complete();
    const size_t message = message_ended && complete > 0 ? complete - 1 : complete;
    if (arrived_.empty() || arrived_.back().message != message) arrived_.push_back({.message = message});
    auto& all = arrived_.back().descriptors;
    for (auto& descriptor : descriptors) all.push_back(std::move(descriptor));
    if (all.size() <= max_descriptors) return {};
    return make_error(std::errc::message_size,
                      fmt::format("a message came with more than {} descriptors", max_descriptors));
}

std::optional<MessageReceiver::Message> MessageReceiver::next() {
    auto text = reader_.next();
    if (!text) return std::nullopt;
    Message message{.text = std::move(*text)};
    if (!arrived_.empty() && arrived_.front().message == taken_) {
        message.descriptors = std::move(arrived_.front().descriptors);
        arrived_.erase(arrived_.begin());
    }
    ++taken_;
    return message;
}

}  // namespace storctl::control
