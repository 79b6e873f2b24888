// Node processes as children of stord, each in a session of its own, so that nothing that happens to stord or its
// terminal reaches them. They outlive stord on purpose; the next stord adopts them by their sockets.

#include <fmt/format.h>

#include "daemon/spawn.hpp"
#include "daemon/supervisor.hpp"

namespace storctl {
namespace {

class ForkSupervisor : public Supervisor {
 public:
    ForkSupervisor(NodePaths paths, std::function<std::string()> program)
        : paths_(std::move(paths)), program_(std::move(program)) {}

    void start(const std::string& name, std::function<void(Result<pid_t>)> done) override {
        auto pid =
            spawn({.program = program_(), .arguments = {"--spec", paths_.spec(name)}, .log_path = paths_.log(name)});
        if (!pid) return done(std::move(pid).error().within(fmt::format("node '{}'", name)));
        done(*pid);
    }
    void stop(const std::string&) override {}
    bool has_status() const override { return false; }
    void status(const std::string&, std::function<void(Result<Status>)> done) override { done(Status{}); }
    std::string_view name() const override { return "fork"; }

 private:
    NodePaths paths_;
    std::function<std::string()> program_;
};

}  // namespace

std::unique_ptr<Supervisor> make_fork_supervisor(NodePaths paths, std::function<std::string()> program) {
    return std::make_unique<ForkSupervisor>(std::move(paths), std::move(program));
}

}  // namespace storctl
