// storctl monitor: the event stream, one line each.
#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

/// Ends the program when the reader of our pipe goes away, which a wait for events would not notice until the next one.
void end_with_reader() {
    std::thread([] {
        pollfd output{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
        while (::poll(&output, 1, -1) < 0) {
        }
        if ((output.revents & (POLLERR | POLLHUP)) != 0) std::_Exit(static_cast<int>(Exit::done));
    }).detach();
}

Style style_of(const std::string& event) {
    if (event.ends_with("-added") || event.ends_with("-restored")) return Style::good;
    if (event.ends_with("-removed") || event.ends_with("-lost") || event.ends_with("-failed")) return Style::bad;
    return event == "overflow" ? Style::warning : Style::plain;
}

std::string event_line(const Json& event, const Screen& screen) {
    const std::string kind = text_of(event, "event");
    return fmt::format("{}  {}{}  {}  {}\n", printable(text_of(event, "time")),
                       styled(printable(kind), style_of(kind), screen.colour),
                       std::string(kind.size() < 14 ? 14 - kind.size() : 0, ' '), printable(text_of(event, "subject")),
                       printable(text_of(event, "summary")));
}

}  // namespace

Exit monitor(const Invocation& invocation) {
    const bool json = invocation.has("json");
    const Screen screen = invocation.screen();
    Connection stord(invocation.run_dir());
    end_with_reader();
    return stord.stream("io.storctl.Monitor", [&](const Json& answer) {
        Json event = member(answer, "event");
        if (json) {
            event["version"] = 1;
            put(to_line(event) + "\n");
        } else {
            put(event_line(event, screen));
        }
        return true;
    });
}

}  // namespace storctl::cli
