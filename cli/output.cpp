#include "cli/output.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/result.hpp"
#include "base/text.hpp"
#include "cli/display.hpp"
#include "cli/exit.hpp"

namespace storctl::cli {
namespace {

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : value;
}

/// The terminal's width; COLUMNS where it does not know it (a serial line).
size_t terminal_columns() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return parse_unsigned(environment("COLUMNS"), "COLUMNS").value_or(80);
}

bool locale_is_utf8() {
    const locale_t locale = ::newlocale(LC_CTYPE_MASK, "", nullptr);
    if (locale == nullptr) return false;  // named and not installed: as C
    const bool utf8 = std::strcmp(::nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    ::freelocale(locale);
    return utf8;
}

}  // namespace

std::optional<ColourChoice> parse_colour(std::string_view text) {
    if (text == "auto") return ColourChoice::automatic;
    if (text == "always") return ColourChoice::always;
    if (text == "never") return ColourChoice::never;
    return std::nullopt;
}

Screen detect_screen(ColourChoice choice) {
    Screen screen;
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    if (terminal) screen.columns = terminal_columns();
    screen.utf8 = locale_is_utf8();
    screen.colour =
        choice == ColourChoice::always || (choice == ColourChoice::automatic && terminal &&
                                           environment("NO_COLOR").empty() && environment("TERM") != "dumb");
    return screen;
}

void put(std::string_view data) {
    while (!data.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, data.data(), data.size());
        if (written >= 0) {
            data.remove_prefix(static_cast<size_t>(written));
        } else if (errno == EPIPE) {
            std::exit(static_cast<int>(Exit::done));
        } else if (errno != EINTR) {
            report(errno_error("cannot write to standard output").message());
            std::exit(static_cast<int>(Exit::failed));
        }
    }
}

void report(std::string_view message, const std::vector<std::string>& items) {
    std::string text = fmt::format("storctl: {}\n", printable(message));
    for (const auto& item : items) text += fmt::format("  {}\n", printable(item));
    std::fputs(text.c_str(), stderr);
}

}  // namespace storctl::cli
