#pragma once
// Runs stor-actuate for stord: one process per job, since moving a driver may block for as long as a virtual machine or
// a broken disk likes. Loop thread only.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "daemon/priorities.hpp"
#include "usbarb/actuation.hpp"

namespace storctl {

/// stor-actuate of this stord's own build tree; else the installed one.
std::string actuate_program();

/// The second job must wait for the first: they name the same device or function, the same hub node, or one names
/// something above what the other names.
bool must_wait(const usbarb::Job& second, const usbarb::Job& first);

class Actuator {
 public:
    struct Options {
        std::string program = actuate_program();
        size_t max_running = 32;
        size_t max_waiting = 4096;  ///< the newest beyond these fail
        int64_t priority = priority::actuation;
    };
    /// `held`: see usbarb::carry_out.
    using Done = std::function<void(usbarb::Outcome outcome, std::vector<UniqueFd> held)>;

    /// Jobs that an earlier stord left running are found and waited for where order matters.
    static Result<std::unique_ptr<Actuator>> open(EventLoop& loop, Options options);
    /// Abandons what runs, which goes on to its end by itself, and forgets what waits. No callback comes any more.
    ~Actuator();
    Actuator(const Actuator&) = delete;
    Actuator& operator=(const Actuator&) = delete;

    /// `done` comes exactly once and never before this returns, whatever happens to the program; it may run further
    /// jobs. Of jobs that must wait for each other, in the order given. `in`: the hubs of free_port and attach; closed
    /// when done.
    void run(usbarb::Job job, std::vector<UniqueFd> in, Done done);

    size_t running() const;  ///< without those of an earlier stord
    size_t waiting() const;

 private:
    struct State;
    explicit Actuator(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
};

}  // namespace storctl
