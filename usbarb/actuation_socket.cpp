#include "usbarb/actuation_socket.hpp"

#include <cstring>

#include <sys/socket.h>

namespace storctl::usbarb {
namespace {

constexpr size_t longest_message = 192 << 10;

}  // namespace

Result<void> send_message(int socket, const SocketMessage& message) {
    const size_t count = message.descriptors.size();
    if (count > most_descriptors) {
        return make_error(std::errc::too_many_files_open, "more hubs at once than one message takes");
    }
    iovec data{const_cast<char*>(message.text.data()), message.text.size()};
    std::vector<int> numbers;
    for (const auto& descriptor : message.descriptors) numbers.push_back(descriptor.get());
    alignas(cmsghdr) char control[CMSG_SPACE(most_descriptors * sizeof(int))]{};
    msghdr header{.msg_iov = &data, .msg_iovlen = 1};
    if (count > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        cmsghdr* ancillary = CMSG_FIRSTHDR(&header);
        ancillary->cmsg_level = SOL_SOCKET;
        ancillary->cmsg_type = SCM_RIGHTS;
        ancillary->cmsg_len = CMSG_LEN(count * sizeof(int));
        std::memcpy(CMSG_DATA(ancillary), numbers.data(), count * sizeof(int));
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return errno_error("cannot send");
    return {};
}

Result<SocketMessage> receive_message(int socket) {
    SocketMessage message;
    message.text.resize(longest_message);
    iovec data{message.text.data(), message.text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(most_descriptors * sizeof(int))];
    msghdr header{.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error("cannot receive");
    for (cmsghdr* ancillary = CMSG_FIRSTHDR(&header); ancillary != nullptr;
         ancillary = CMSG_NXTHDR(&header, ancillary)) {
        if (ancillary->cmsg_level != SOL_SOCKET || ancillary->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (ancillary->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(ancillary) + i * sizeof(int), sizeof number);
            message.descriptors.emplace_back(number);
        }
    }
    if (got == 0) return make_error(std::errc::connection_reset, "the other end is closed");
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        return make_error(std::errc::message_size, "a message or its descriptors were cut");
    }
    message.text.resize(static_cast<size_t>(got));
    return message;
}

}  // namespace storctl::usbarb
