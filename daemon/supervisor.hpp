#pragma once
// Who runs node processes: stord itself (fork) or systemd. ManagedNode decides when; this does it. Loop thread only.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/node_files.hpp"

namespace storctl {

class Supervisor {
 public:
    /// What the supervisor knows of a process that has not answered yet.
    struct Status {
        bool running = false;
        pid_t pid = 0;                 ///< 0: none or unknown
        std::optional<int> exit_code;  ///< of the last end
    };

    virtual ~Supervisor() = default;

    /// Starts the process of a node whose specification is written. `done` may be called before this returns; pid 0:
    /// not known yet, ask `status`.
    virtual void start(const std::string& name, std::function<void(Result<pid_t>)> done) = 0;
    /// It ended or was told to end: nothing may start it again.
    virtual void stop(const std::string& name) = 0;
    /// False: this supervisor knows nothing beyond the pids that it gave out; `status` is never called.
    virtual bool has_status() const = 0;
    virtual void status(const std::string& name, std::function<void(Result<Status>)> done) = 0;
    /// "systemd" or "fork".
    virtual std::string_view name() const = 0;
};

/// `program`: asked at each start, so that a reload can change it.
std::unique_ptr<Supervisor> make_fork_supervisor(NodePaths paths, std::function<std::string()> program);

/// `bus_address`: of systemd's own socket; works before a system bus does.
std::unique_ptr<Supervisor> make_systemd_supervisor(EventLoop& loop, int64_t priority,
                                                    std::string bus_address = "unix:path=/run/systemd/private");

}  // namespace storctl
