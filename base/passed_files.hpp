#pragma once
// Bytes that go over a Unix socket together with open files (SCM_RIGHTS, unix(7)). Any thread.

#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

inline constexpr size_t most_passed_files = 253;  ///< with one send (SCM_MAX_FD, net/scm.h)

/// The number of bytes that the socket took. The files have gone with the first of them; the caller's stay open.
/// `flags` are sendmsg(2)'s. too_many_files_open: more files than one send takes.
Result<size_t> send_with_files(int socket, std::string_view bytes, const std::vector<UniqueFd>& files, int flags);

struct ReceivedBytes {
    size_t count = 0;
    std::vector<UniqueFd> files;  ///< close-on-exec from birth
};
/// What recvmsg(2) gives with these flags. message_size: the message was cut, or more than `most_files` came, or this
/// process may not have as many open; what did come is closed.
Result<ReceivedBytes> receive_with_files(int socket, std::span<char> buffer, size_t most_files, int flags);

}  // namespace storctl
