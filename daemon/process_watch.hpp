#pragma once
// A process followed by its pidfd, ours or not: told once when it has ended. Reaps it when it is our child.
// Loop thread only.

#include <functional>
#include <optional>

#include <sys/types.h>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

/// How a process ended. Of a process that is not our child only that it ended is known.
struct ExitStatus {
    std::optional<int> code;    ///< exit(2)'s
    std::optional<int> signal;  ///< that killed it

    /// "exited with status 1", "was killed by signal 9 (Killed)", "ended".
    std::string describe() const;
};

class ProcessWatch {
 public:
    /// no_such_process: it has ended already.
    static Result<ProcessWatch> open(EventLoop& loop, pid_t pid, int64_t priority,
                                     std::function<void(ExitStatus)> on_exit);

    pid_t pid() const { return pid_; }
    /// To this very process, never to one that got its number later.
    void kill(int signal) const;

 private:
    ProcessWatch() = default;
    pid_t pid_ = 0;
    UniqueFd fd_;
    EventSource source_;
};

}  // namespace storctl
