#pragma once
// Stream sockets of AF_UNIX by path, close-on-exec from birth. Any thread.

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <sys/stat.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::control {

/// A listening socket that removes its file again, as long as the file is still its own.
class ListeningSocket {
 public:
    /// Replaces a socket file that nobody listens on; address_in_use where somebody does, file_exists for
    /// another file.
    static Result<ListeningSocket> open(const std::string& path, mode_t mode);
    ListeningSocket() = default;
    ListeningSocket(ListeningSocket&& other) noexcept = default;
    ListeningSocket& operator=(ListeningSocket&& other) noexcept;
    ~ListeningSocket() { close(); }

    int get() const { return fd_.get(); }
    explicit operator bool() const { return static_cast<bool>(fd_); }
    void close();

 private:
    UniqueFd fd_;
    std::string path_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

/// Connected and non-blocking. Waits up to `patience` for a server whose queue of new connections is full.
Result<UniqueFd> connect_unix(const std::string& path, std::chrono::milliseconds patience);

/// What can be read now: its length, 0 at the end of the stream, nothing where there is no data yet.
Result<std::optional<size_t>> receive_some(int fd, std::span<char> buffer);

}  // namespace storctl::control
