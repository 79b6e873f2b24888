#include "usbarb/actuation_socket.hpp"

#include <sys/socket.h>

#include "base/passed_files.hpp"

namespace storctl::usbarb {
namespace {

constexpr size_t longest_message = 192 << 10;

}  // namespace

Result<void> send_message(int socket, const SocketMessage& message) {
    TRY(send_with_files(socket, message.text, message.descriptors, MSG_NOSIGNAL));
    return {};
}

Result<SocketMessage> receive_message(int socket) {
    SocketMessage message;
    message.text.resize(longest_message);
    auto received = TRY(receive_with_files(socket, message.text, most_passed_files, MSG_DONTWAIT));
    if (received.count == 0) return make_error(std::errc::connection_reset, "the other end is closed");
    message.text.resize(received.count);
    message.descriptors = std::move(received.files);
    return message;
}

}  // namespace storctl::usbarb
