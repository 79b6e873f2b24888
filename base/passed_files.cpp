#include "base/passed_files.hpp"

#include <cstring>

#include <sys/socket.h>

namespace storctl {
namespace {

struct alignas(cmsghdr) Ancillary {
    char bytes[CMSG_SPACE(most_passed_files * sizeof(int))];
};

std::vector<UniqueFd> take_files(msghdr& header) {
    std::vector<UniqueFd> files;
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof number);
            files.emplace_back(number);
        }
    }
    return files;
}

}  // namespace

Result<size_t> send_with_files(int socket, std::string_view bytes, const std::vector<UniqueFd>& files, int flags) {
    if (files.size() > most_passed_files) {
        return make_error(std::errc::too_many_files_open, "more open files at once than one message takes");
    }
    iovec data{const_cast<char*>(bytes.data()), bytes.size()};
    Ancillary ancillary{};
    msghdr header{.msg_iov = &data, .msg_iovlen = 1};
    if (!files.empty()) {
        header.msg_control = ancillary.bytes;
        header.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
        cmsghdr* const part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
        for (size_t i = 0; i < files.size(); ++i) {
            const int number = files[i].get();
            std::memcpy(CMSG_DATA(part) + i * sizeof(int), &number, sizeof number);
        }
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket, &header, flags);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return errno_error("cannot send");
    return static_cast<size_t>(sent);
}

Result<ReceivedBytes> receive_with_files(int socket, std::span<char> buffer, size_t most_files, int flags) {
    iovec data{buffer.data(), buffer.size()};
    Ancillary ancillary;
    msghdr header{.msg_iov = &data, .msg_iovlen = 1, .msg_control = ancillary.bytes};
    // the kernel fills padding too, so space for an odd number of files takes one more; the count is checked below
    header.msg_controllen = CMSG_SPACE(most_files * sizeof(int));
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error("cannot receive");
    ReceivedBytes out{.count = static_cast<size_t>(got), .files = take_files(header)};
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || out.files.size() > most_files) {
        return make_error(std::errc::message_size, "a message or the open files that came with it were cut");
    }
    return out;
}

}  // namespace storctl
