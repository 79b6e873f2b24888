#include "base/log.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <sys/stat.h>
#include <unistd.h>

#include "base/enum_text.hpp"

namespace storctl {

template <>
struct EnumNames<log::Level> {
    static constexpr auto table = std::to_array<EnumName<log::Level>>({
        {log::Level::error, "error"},
        {log::Level::warning, "warning"},
        {log::Level::notice, "notice"},
        {log::Level::info, "info"},
        {log::Level::debug, "debug"},
    });
};

}  // namespace storctl

namespace storctl::log {
namespace {

std::string program_name = "storctl";
std::atomic<Level> threshold = Level::info;

/// systemd sets JOURNAL_STREAM=DEVICE:INODE of the stream that it connected (systemd.exec(5)).
bool stderr_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    if (stream == nullptr || ::fstat(STDERR_FILENO, &status) != 0) return false;
    return fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

}  // namespace

void open(std::string program) { program_name = std::move(program); }
void set_level(Level level) { threshold = level; }
Level level() { return threshold; }
std::optional<Level> parse_level(std::string_view text) { return from_text<Level>(text); }

void write(Level level, std::string_view message) {
    if (level > threshold) return;
    static const bool journal = stderr_is_journal();
    std::string line = journal ? fmt::format("<{}>", static_cast<int>(level)) : program_name + ": ";
    if (!journal && level != Level::info && level != Level::notice) line += fmt::format("{}: ", to_text(level));
    for (const char c : message) line += (c == '\n' || c == '\r') ? ' ' : c;  // one message is one line
    line += '\n';
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

void vformat(Level level, fmt::string_view format, fmt::format_args args) {
    if (level <= threshold) write(level, fmt::vformat(format, args));
}

}  // namespace storctl::log
