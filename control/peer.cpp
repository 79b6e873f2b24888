#include "control/peer.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/socket.h>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl::control {
namespace {

/// Empty where the kernel does not say: then only the primary group counts.
std::vector<gid_t> supplementary_groups(int fd) {
    std::vector<gid_t> groups(32);
    for (int attempt = 0; attempt < 2; ++attempt) {
        auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        const int result = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
        groups.resize(length / sizeof(gid_t));
        if (result == 0) return groups;
        if (errno != ERANGE) break;
    }
    return {};
}

bool may_change(const Peer& peer, int fd, gid_t change_group) {
    if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
    if (change_group == static_cast<gid_t>(-1)) return false;
    if (peer.gid == change_group) return true;
    const auto groups = supplementary_groups(fd);
    return std::find(groups.begin(), groups.end(), change_group) != groups.end();
}

}  // namespace

Result<Identity> identify_peer(int fd, gid_t change_group) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
        return errno_error("cannot ask who connected");
    }
    Identity out;
    out.peer = {.uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid, .executable = "?"};
    if (auto path = read_link(fmt::format("/proc/{}/exe", credentials.pid)); !path.empty()) {
        out.peer.executable = std::move(path);
    }
    out.may_change = may_change(out.peer, fd, change_group);
    return out;
}

std::string describe(const Peer& peer) {
    return fmt::format("uid {} pid {} exe '{}'", peer.uid, peer.pid, escape_unprintable(peer.executable));
}

}  // namespace storctl::control
