// stor-actuate: one job of usbarb/actuation.hpp, for stord. The job comes on standard input, as one line of JSON; open
// hubs that it needs lie in the socket at descriptor 3 as a message with descriptors, where the outcome goes as one
// message with what was opened: the hubs that hold their ports, or a device. It goes on to the end though nobody
// listens any more.

#include <array>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.hpp"
#include "usbarb/actuation.hpp"
#include "usbarb/actuation_socket.hpp"

namespace {

using namespace storctl;

constexpr int exit_usage = 2;
constexpr size_t longest_job = 4 << 20;

constexpr std::string_view usage =
    "Usage: stor-actuate < JOB 3<>SOCKET\n"
    "Move host drivers as one job of stord says; stord runs it.\n";

Result<std::string> read_job() {
    std::string text;
    for (std::array<char, 4096> piece;;) {
        const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno_error("cannot read the job");
        if (got == 0) return text;
        text.append(piece.data(), static_cast<size_t>(got));
        if (text.size() > longest_job) return make_error(std::errc::file_too_large, "cannot read the job");
    }
}

int run() {
    std::vector<UniqueFd> held;
    const auto text = read_job();
    auto arrived = usbarb::receive_message(usbarb::actuation_socket);
    usbarb::Outcome outcome;
    if (!text) {
        outcome.message = text.error().message();
    } else if (const auto job = usbarb::parse_job(*text); !job) {
        outcome.message = "cannot read the job: " + job.error().message();
    } else {
        if (arrived) held = std::move(arrived->descriptors);
        log::debug("begins: {}", *text);
        outcome = usbarb::carry_out(*job, held);
        const bool gives_files = job->action == usbarb::Action::hold_hub || job->action == usbarb::Action::open_device;
        if (!gives_files) held.clear();
    }
    const auto sent =
        usbarb::send_message(usbarb::actuation_socket, {.text = outcome_text(outcome), .descriptors = std::move(held)});
    if (!sent) log::warning("nobody takes the outcome ({}): {}", sent.error().message(), outcome_text(outcome));
    return outcome.done ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    log::open("stor-actuate");
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
        fmt::print("{}", usage);
        return EXIT_SUCCESS;
    }
    const bool called_right = argc == 1 && ::fcntl(usbarb::actuation_socket, F_SETFD, FD_CLOEXEC) == 0;
    if (!called_right) {
        fmt::print(stderr, "{}", usage);
        return exit_usage;
    }
    ::signal(SIGPIPE, SIG_IGN);
    return run();
}
