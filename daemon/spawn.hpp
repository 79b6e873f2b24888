#pragma once
// Starts a program that outlives stord, in a session of its own, with none of stord's signals, descriptors or private
// environment. Any thread.

#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"

namespace storctl {

struct SpawnOptions {
    std::string program;
    std::vector<std::string> arguments;
    int input = -1;                       ///< becomes standard input; -1: /dev/null
    std::optional<std::string> log_path;  ///< standard output and error are appended to it; none: stord's own
    int channel = -1;                     ///< becomes descriptor 3
};

inline constexpr int spawn_channel = 3;

Result<pid_t> spawn(const SpawnOptions& options);

}  // namespace storctl
