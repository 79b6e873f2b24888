#include "control/unix_socket.hpp"

#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

namespace storctl::control {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos) {
        return make_error(std::errc::filename_too_long,
                          fmt::format("'{}' cannot be a socket's path (1 to {} bytes): choose a shorter folder", path,
                                      sizeof address.sun_path - 1));
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

Result<UniqueFd> new_socket(int flags) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!fd) return errno_error("cannot create a socket");
    return fd;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

/// Makes way for a new socket file.
Result<void> clear_path(const std::string& path, const sockaddr_un& address) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return {};
        return errno_error(fmt::format("cannot look at '{}'", path));
    }
    if (!S_ISSOCK(status.st_mode)) {
        return make_error(std::errc::file_exists, fmt::format("'{}' is there and is no socket: remove it", path));
    }
    const UniqueFd probe = TRY(new_socket(SOCK_NONBLOCK));
    if (::connect(probe.get(), generic(address), sizeof address) != 0) {
        if (errno == ENOENT) return {};
        if (errno == ECONNREFUSED) {
            if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
            return errno_error(fmt::format("cannot remove the stale socket '{}'", path));
        }
        if (errno != EAGAIN && errno != EPROTOTYPE)
            return errno_error(fmt::format("cannot probe the socket '{}'", path));
    }
    return make_error(std::errc::address_in_use, fmt::format("another process already serves '{}'", path));
}

}  // namespace

Result<ListeningSocket> ListeningSocket::open(const std::string& path, mode_t mode) {
    const sockaddr_un address = TRY(address_of(path));
    TRY(clear_path(path, address));
    ListeningSocket out;
    out.fd_ = TRY(new_socket(SOCK_NONBLOCK));
    if (::bind(out.fd_.get(), generic(address), sizeof address) != 0) {
        return errno_error(fmt::format("cannot bind the socket '{}'", path));
    }
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return errno_error(fmt::format("cannot look at '{}'", path));
    out.path_ = path;
    out.device_ = status.st_dev;
    out.inode_ = status.st_ino;
    // nobody can connect before listen(2), so the mode is right from the first connection on
    if (::chmod(path.c_str(), mode) != 0) return errno_error(fmt::format("cannot set the mode of '{}'", path));
    if (::listen(out.fd_.get(), SOMAXCONN) != 0) return errno_error(fmt::format("cannot listen on '{}'", path));
    return out;
}

ListeningSocket& ListeningSocket::operator=(ListeningSocket&& other) noexcept {
    if (this != &other) {
        close();
        fd_ = std::move(other.fd_);
        path_ = std::move(other.path_);
        device_ = other.device_;
        inode_ = other.inode_;
    }
    return *this;
}

void ListeningSocket::close() {
    if (!fd_) return;
    struct stat status {};
    const bool own = ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
    if (own) ::unlink(path_.c_str());
    fd_.reset();
}

Result<UniqueFd> connect_unix(const std::string& path, std::chrono::milliseconds patience) {
    const sockaddr_un address = TRY(address_of(path));
    UniqueFd fd = TRY(new_socket(patience.count() == 0 ? SOCK_NONBLOCK : 0));
    const timeval limit{.tv_sec = patience.count() / 1000, .tv_usec = patience.count() % 1000 * 1000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int result = 0;
    do {
        result = ::connect(fd.get(), generic(address), sizeof address);
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno == EAGAIN) {
        return make_error(std::errc::timed_out, fmt::format("cannot connect to '{}': the server accepts nobody", path));
    }
    if (result != 0) return errno_error(fmt::format("cannot connect to '{}'", path));
    return fd;
}

Result<std::optional<size_t>> receive_some(int fd, std::span<char> buffer) {
    ssize_t got = 0;
    do {
        got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got >= 0) return std::optional<size_t>(static_cast<size_t>(got));
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::optional<size_t>();
    return errno_error("cannot receive");
}

}  // namespace storctl::control
