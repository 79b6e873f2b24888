#pragma once
// Messages with descriptors between stord and stor-actuate, over a pair of SOCK_SEQPACKET sockets. Any thread.

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::usbarb {

inline constexpr int actuation_socket = 3;  ///< its descriptor in stor-actuate

struct SocketMessage {
    std::string text;  ///< never empty
    std::vector<UniqueFd> descriptors;
};

/// too_many_files: more descriptors than a message takes.
Result<void> send_message(int socket, const SocketMessage& message);
/// One that is there; never waits. Nothing is there: resource_unavailable_try_again; the other end is closed and all is
/// read: connection_reset.
Result<SocketMessage> receive_message(int socket);

}  // namespace storctl::usbarb
