#pragma once
// Who is at the other end of a Unix socket, and whether that may change anything.

#include "base/result.hpp"
#include "control/server.hpp"

namespace storctl::control {

struct Identity {
    Peer peer;
    bool may_change = false;
};

/// As the kernel recorded it when the peer connected (SO_PEERCRED, SO_PEERGROUPS). Root, this process's own
/// user and the members of `change_group` may change.
Result<Identity> identify_peer(int fd, gid_t change_group);

/// "uid 0 pid 17 exe '/usr/bin/storctl'" for the log.
std::string describe(const Peer& peer);

}  // namespace storctl::control
