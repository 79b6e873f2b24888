#pragma once
// The command line checked against the table of verbs. Main thread.

#include <string>
#include <variant>
#include <vector>

#include "cli/verbs.hpp"

namespace storctl::cli {

struct ShowText {  ///< --help or --version: print it and end well
    std::string text;
};
struct UsageError {
    std::string message;
    std::string hint;  ///< what to do
};

using Parsed = std::variant<Invocation, ShowText, UsageError>;

/// `words`: argv without the program's name.
Parsed parse_command_line(const std::vector<std::string>& words);

}  // namespace storctl::cli
