#pragma once
// stord's command line.

#include <optional>
#include <string>
#include <variant>

namespace storctl {

struct Options {
    std::string config_path;
    bool config_given = false;  ///< then the file must be there
    std::string state_dir;
    std::string run_dir;
    std::optional<std::string> supervisor;  ///< auto, systemd, fork; empty: as configured
    bool foreground = false;
};

/// What to do: run, or end at once with this exit code (--help, --version, a usage error; the text is out already).
using ParsedOptions = std::variant<Options, int>;
ParsedOptions parse_options(int argc, char** argv);

}  // namespace storctl
