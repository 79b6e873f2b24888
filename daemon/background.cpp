// The report pipe carries one byte 'R' (ready) or 'E' followed by the error's text; its end without either means that
// the daemon died.

#include "daemon/background.hpp"

#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.hpp"

namespace storctl {
namespace {

constexpr char mark_ready = 'R';
constexpr char mark_error = 'E';

std::string read_to_end(int fd) {
    std::string text;
    char buffer[512];
    for (;;) {
        const ssize_t got = ::read(fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return text;
        text.append(buffer, static_cast<size_t>(got));
    }
}

[[noreturn]] void wait_for_report(UniqueFd report) {
    const std::string text = read_to_end(report.get());
    if (!text.empty() && text[0] == mark_ready) std::_Exit(EXIT_SUCCESS);
    const std::string message = text.empty() ? "the daemon ended before it was ready" : text.substr(1);
    std::fputs(fmt::format("stord: error: {}\n", message).c_str(), stderr);
    std::_Exit(EXIT_FAILURE);
}

}  // namespace

Result<Background> Background::enter() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot create a pipe");
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const pid_t middle = ::fork();
    if (middle < 0) return errno_error("cannot fork");
    if (middle > 0) {
        write_end.reset();
        ::waitpid(middle, nullptr, 0);
        wait_for_report(std::move(read_end));
    }
    read_end.reset();
    ::setsid();
    // a second fork: the daemon leads no session, so that no terminal can become its own by being opened
    const pid_t daemon = ::fork();
    if (daemon < 0) return errno_error("cannot fork");
    if (daemon > 0) std::_Exit(EXIT_SUCCESS);
    if (::chdir("/") != 0) return errno_error("cannot change to '/'");
    ::umask(022);
    const UniqueFd null = TRY(open_file("/dev/null", O_RDWR));
    if (::dup2(null.get(), STDIN_FILENO) < 0 || ::dup2(null.get(), STDOUT_FILENO) < 0) {
        return errno_error("cannot redirect standard input and output");
    }
    return Background(std::move(write_end));
}

Result<void> Background::ready(const std::string& log_path) {
    const UniqueFd log_file = TRY(open_file(log_path, O_WRONLY | O_CREAT | O_APPEND, 0640));
    if (::dup2(log_file.get(), STDERR_FILENO) < 0) return errno_error(fmt::format("cannot log to '{}'", log_path));
    [[maybe_unused]] const auto written = ::write(report_.get(), &mark_ready, 1);
    report_.reset();
    return {};
}

void Background::failed(const std::string& message) {
    const std::string text = mark_error + message;
    [[maybe_unused]] const auto written = ::write(report_.get(), text.data(), text.size());
    report_.reset();
}

}  // namespace storctl
