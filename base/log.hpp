#pragma once
// Messages to standard error, one line each; with the journal's <priority> prefix where standard error is the journal.
// error: the operation failed. warning: it went on all the same, and says how. notice: the operator should know.
// info: ordinary course. debug: free. Any thread.

#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace storctl::log {

enum class Level { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };

/// `program` stands before each message when standard error is not the journal.
void open(std::string program);
void set_level(Level level);
Level level();
std::optional<Level> parse_level(std::string_view text);

void write(Level level, std::string_view message);
void vformat(Level level, fmt::string_view format, fmt::format_args args);

template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
    vformat(Level::error, format, fmt::make_format_args(args...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
    vformat(Level::warning, format, fmt::make_format_args(args...));
}
template <class... Args>
void notice(fmt::format_string<Args...> format, Args&&... args) {
    vformat(Level::notice, format, fmt::make_format_args(args...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
    vformat(Level::info, format, fmt::make_format_args(args...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
    if (level() >= Level::debug) vformat(Level::debug, format, fmt::make_format_args(args...));
}

}  // namespace storctl::log
