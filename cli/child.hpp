#pragma once
// A command as a child process that gets this process' signals. One thread; the process must have no other.

#include <string>
#include <vector>

#include <signal.h>
#include <sys/types.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::cli {

/// Keeps the signals that ask a process to end (SIGINT, SIGQUIT, SIGTERM, SIGHUP; not those that are ignored) and
/// SIGCHLD waiting for `Child::wait`, as long as it lives.
class HeldSignals {
 public:
    HeldSignals();
    HeldSignals(const HeldSignals&) = delete;
    HeldSignals& operator=(const HeldSignals&) = delete;
    ~HeldSignals();

    const sigset_t& held() const { return held_; }
    const sigset_t& before() const { return before_; }
    /// The signal that would have ended the process; those that came are forgotten. 0: none came.
    int take() const;
    /// Readable while there is one to take; -1 where the kernel gave none.
    int descriptor() const { return descriptor_.get(); }

 private:
    sigset_t held_{}, ending_{}, before_{};
    UniqueFd descriptor_;
};

class Child {
 public:
    /// `words`: the command, found as a shell finds it, and its arguments. Of this process' descriptors beyond the
    /// standard ones it inherits those without close-on-exec, and `descriptor`. An error: it was not started;
    /// permission_denied where it was found.
    static Result<Child> start(const std::vector<std::string>& words, int descriptor, const HeldSignals& signals);

    /// Passes signals on until the command ends. Its exit status, or 128+N after signal N.
    int wait(const HeldSignals& signals) const;

 private:
    explicit Child(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

}  // namespace storctl::cli
