#include "daemon/spawn.hpp"

#include <array>
#include <string_view>

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

namespace storctl {
namespace {

constexpr mode_t log_mode = 0640;

/// What systemd gave to stord alone must not reach a child.
constexpr auto private_variables =
    std::to_array<std::string_view>({"NOTIFY_SOCKET=", "WATCHDOG_PID=", "WATCHDOG_USEC=", "LISTEN_FDS=", "LISTEN_PID=",
                                     "LISTEN_FDNAMES=", "INVOCATION_ID=", "MAINPID=", "FDSTORE="});
/// Says what standard error is.
constexpr std::string_view journal_variable = "JOURNAL_STREAM=";

std::vector<char*> child_environment(bool own_log) {
    std::vector<char*> out;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        bool keep = !(own_log && text.starts_with(journal_variable));
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

}  // namespace

Result<pid_t> spawn(const SpawnOptions& options) {
    SpawnAttributes with;
    // stord blocks the signals that its loop reads; the child starts with none blocked and all at their defaults
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&with.attributes, &none);
    ::posix_spawnattr_setsigdefault(&with.attributes, &all);
    ::posix_spawnattr_setflags(&with.attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (options.input >= 0) {
        ::posix_spawn_file_actions_adddup2(&with.files, options.input, STDIN_FILENO);
    } else {
        ::posix_spawn_file_actions_addopen(&with.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (options.log_path) {
        ::posix_spawn_file_actions_addopen(&with.files, STDOUT_FILENO, options.log_path->c_str(),
                                           O_WRONLY | O_CREAT | O_APPEND, log_mode);
        ::posix_spawn_file_actions_adddup2(&with.files, STDOUT_FILENO, STDERR_FILENO);
    }
    // after the input, which could have this number
    if (options.channel >= 0) ::posix_spawn_file_actions_adddup2(&with.files, options.channel, spawn_channel);

    std::vector<const char*> arguments{options.program.c_str()};
    for (const auto& argument : options.arguments) arguments.push_back(argument.c_str());
    arguments.push_back(nullptr);
    const auto environment = child_environment(options.log_path.has_value());
    pid_t pid = 0;
    const int error = ::posix_spawn(&pid, options.program.c_str(), &with.files, &with.attributes,
                                    const_cast<char* const*>(arguments.data()), environment.data());
    if (error != 0) return errno_error(fmt::format("cannot start '{}'", options.program), error);
    return pid;
}

}  // namespace storctl
