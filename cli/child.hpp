#pragma once
// A command as a child process that gets this process' signals. One thread; the process must have no other.

#include <string>
#include <vector>

#include <signal.h>
#include <sys/types.h>

#include "base/result.hpp"

namespace storctl::cli {

/// Keeps SIGINT, SIGTERM, SIGHUP and SIGCHLD waiting for `Child::wait`, as long as it lives.
class HeldSignals {
 public:
    HeldSignals();
    HeldSignals(const HeldSignals&) = delete;
    HeldSignals& operator=(const HeldSignals&) = delete;
    ~HeldSignals();

    const sigset_t& held() const { return held_; }
    const sigset_t& before() const { return before_; }
    /// A held signal that would have ended the process; 0: none came.
    int pending() const;

 private:
    sigset_t held_{}, before_{};
};

class Child {
 public:
    /// `words`: the command, found as a shell finds it, and its arguments. Of this process' descriptors beyond the
    /// standard ones it inherits those without close-on-exec, and `descriptor`. An error: it was not started.
    static Result<Child> start(const std::vector<std::string>& words, int descriptor, const HeldSignals& signals);

    /// Passes signals on until the command ends. Its exit status, or 128+N after signal N.
    int wait(const HeldSignals& signals) const;

 private:
    explicit Child(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

}  // namespace storctl::cli
