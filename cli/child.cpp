#include "cli/child.hpp"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.hpp"

namespace storctl::cli {
namespace {

constexpr int signal_status = 128;

/// In the child: everything as the command expects it, then the command. Only async-signal-safe calls.
[[noreturn]] void become(char* const* words, int descriptor, const HeldSignals& signals, int report) {
    ::signal(SIGPIPE, SIG_DFL);
    ::fcntl(descriptor, F_SETFD, 0);
    ::pthread_sigmask(SIG_SETMASK, &signals.before(), nullptr);
    ::execvp(words[0], words);
    const int error = errno;
    [[maybe_unused]] const auto told = ::write(report, &error, sizeof error);
    ::_exit(signal_status - 1);
}

}  // namespace

HeldSignals::HeldSignals() {
    ::sigemptyset(&held_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&held_, signal);
    ::pthread_sigmask(SIG_BLOCK, &held_, &before_);
}

HeldSignals::~HeldSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int HeldSignals::pending() const {
    sigset_t waiting;
    ::sigpending(&waiting);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        if (::sigismember(&waiting, signal) == 1) return signal;
    }
    return 0;
}

Result<Child> Child::start(const std::vector<std::string>& words, int descriptor, const HeldSignals& signals) {
    std::vector<char*> pointers;
    for (const auto& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot create a pipe");
    const UniqueFd report(ends[0]);
    UniqueFd theirs(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0) return errno_error("cannot create a process");
    if (pid == 0) become(pointers.data(), descriptor, signals, theirs.get());
    theirs.reset();
    int error = 0;
    ssize_t got = 0;
    do {
        got = ::read(report.get(), &error, sizeof error);
    } while (got < 0 && errno == EINTR);
    if (got != sizeof error) return Child(pid);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return errno_error(fmt::format("cannot start '{}'", words.front()), error);
}

int Child::wait(const HeldSignals& signals) const {
    for (;;) {
        int status = 0;
        const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
        if (ended == pid_ && WIFEXITED(status)) return WEXITSTATUS(status);
        if (ended == pid_ && WIFSIGNALED(status)) return signal_status + WTERMSIG(status);
        siginfo_t info{};
        const int signal = ::sigwaitinfo(&signals.held(), &info);
        // what a terminal sends goes to all of its foreground processes, so the command has it already
        const bool theirs_too = info.si_code == SI_KERNEL;
        if (signal > 0 && signal != SIGCHLD && !theirs_too) ::kill(pid_, signal);
    }
}

}  // namespace storctl::cli
