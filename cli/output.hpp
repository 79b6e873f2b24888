#pragma once
// Standard output and standard error of storctl: data goes to one, messages to the other. Main thread.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace storctl::cli {

enum class ColourChoice { automatic, always, never };
std::optional<ColourChoice> parse_colour(std::string_view text);

/// How the terminal, if there is one, wants its text.
struct Screen {
    bool colour = false;
    std::optional<size_t> columns;  ///< set: standard output is a terminal of that width
    bool utf8 = false;              ///< the locale's encoding
};

/// `automatic`: colour on a terminal, unless NO_COLOR (https://no-color.org) is set or TERM is dumb.
Screen detect_screen(ColourChoice choice);

/// Writes data at once. A reader that has closed the pipe has had enough: the program ends there with 0.
/// Any other failure (a full disk) is reported and ends it with 1.
void put(std::string_view data);

/// "storctl: MESSAGE", then one indented line per item.
void report(std::string_view message, const std::vector<std::string>& items = {});

}  // namespace storctl::cli
