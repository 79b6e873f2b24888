// Node processes as children of stord, each in a session of its own, so that nothing that happens to stord or its
// terminal reaches them. They outlive stord on purpose; the next stord adopts them by their sockets.

#include <array>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "daemon/supervisor.hpp"

namespace storctl {
namespace {

constexpr mode_t log_mode = 0640;

/// What systemd gave to stord alone must not reach a child.
constexpr auto private_variables =
    std::to_array<std::string_view>({"NOTIFY_SOCKET=", "WATCHDOG_PID=", "WATCHDOG_USEC=", "LISTEN_FDS=", "LISTEN_PID=",
                                     "LISTEN_FDNAMES=", "JOURNAL_STREAM=", "INVOCATION_ID=", "MAINPID="});

std::vector<char*> child_environment() {
    std::vector<char*> out;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        bool keep = true;
        for (const auto variable : private_variables) keep = keep && !text.starts_with(variable);
        if (keep) out.push_back(*entry);
    }
    out.push_back(nullptr);
    return out;
}

struct SpawnAttributes {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    SpawnAttributes() {
        ::posix_spawnattr_init(&attributes);
        ::posix_spawn_file_actions_init(&files);
    }
    SpawnAttributes(const SpawnAttributes&) = delete;
    SpawnAttributes& operator=(const SpawnAttributes&) = delete;
    ~SpawnAttributes() {
        ::posix_spawn_file_actions_destroy(&files);
        ::posix_spawnattr_destroy(&attributes);
    }
};

class ForkSupervisor : public Supervisor {
 public:
    ForkSupervisor(NodePaths paths, std::function<std::string()> program)
        : paths_(std::move(paths)), program_(std::move(program)) {}

    void start(const std::string& name, std::function<void(Result<pid_t>)> done) override { done(spawn(name)); }
    void stop(const std::string&) override {}
    bool has_status() const override { return false; }
    void status(const std::string&, std::function<void(Result<Status>)> done) override { done(Status{}); }
    std::string_view name() const override { return "fork"; }

 private:
    Result<pid_t> spawn(const std::string& name) {
        const std::string program = program_();
        const std::string spec = paths_.spec(name);
        const std::string log = paths_.log(name);
        SpawnAttributes spawn;
        // stord blocks the signals that its loop reads; the child starts with none blocked and all at their defaults
        sigset_t none, all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&spawn.attributes, &none);
        ::posix_spawnattr_setsigdefault(&spawn.attributes, &all);
        ::posix_spawnattr_setflags(&spawn.attributes,
                                   POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        ::posix_spawn_file_actions_addopen(&spawn.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&spawn.files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                           log_mode);
        ::posix_spawn_file_actions_adddup2(&spawn.files, STDOUT_FILENO, STDERR_FILENO);

        std::array<const char*, 4> arguments{program.c_str(), "--spec", spec.c_str(), nullptr};
        const auto environment = child_environment();
        pid_t pid = 0;
        const int error = ::posix_spawn(&pid, program.c_str(), &spawn.files, &spawn.attributes,
                                        const_cast<char* const*>(arguments.data()), environment.data());
        if (error != 0) return errno_error(fmt::format("cannot start '{}' for node '{}'", program, name), error);
        return pid;
    }

    NodePaths paths_;
    std::function<std::string()> program_;
};

}  // namespace

std::unique_ptr<Supervisor> make_fork_supervisor(NodePaths paths, std::function<std::string()> program) {
    return std::make_unique<ForkSupervisor>(std::move(paths), std::move(program));
}

}  // namespace storctl
