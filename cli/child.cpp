#include "cli/child.hpp"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

namespace storctl::cli {
namespace {

constexpr int signal_status = 128;
constexpr int unknown_status = 1;

bool is_ignored(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

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
    // inherited as ignored it would have the kernel forget how the child ended
    ::signal(SIGCHLD, SIG_DFL);
    ::sigemptyset(&ending_);
    for (const int signal : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) {
        if (!is_ignored(signal)) ::sigaddset(&ending_, signal);
    }
    held_ = ending_;
    ::sigaddset(&held_, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &held_, &before_);
    descriptor_.reset(::signalfd(-1, &ending_, SFD_CLOEXEC));
}

HeldSignals::~HeldSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int HeldSignals::take() const {
    const timespec at_once{};
    int first = 0;
    for (int signal = 0; (signal = ::sigtimedwait(&ending_, nullptr, &at_once)) > 0;) {
        if (first == 0) first = signal;
    }
    return first;
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
        if (ended < 0 && errno == ECHILD) return unknown_status;  // somebody else has taken its status
        siginfo_t info{};
        const int signal = ::sigwaitinfo(&signals.held(), &info);
        // what a terminal sends goes to all of its foreground group, so a command in it has it already
        const bool theirs_too = info.si_code == SI_KERNEL && ::getpgid(pid_) == ::getpgrp();
        if (signal > 0 && signal != SIGCHLD && !theirs_too) ::kill(pid_, signal);
    }
}

}  // namespace storctl::cli
