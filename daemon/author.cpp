#include "daemon/author.hpp"

#include <array>

#include <fmt/format.h>
#include <pwd.h>

namespace storctl {

std::string author_of(const control::Peer& peer) {
    std::array<char, 4096> buffer;
    passwd entry{};
    passwd* found = nullptr;
    ::getpwuid_r(peer.uid, &entry, buffer.data(), buffer.size(), &found);
    return found != nullptr ? fmt::format("{} (uid {})", found->pw_name, peer.uid) : fmt::format("uid {}", peer.uid);
}

}  // namespace storctl
