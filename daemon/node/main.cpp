// stor-node: the data plane of one mediated node. Composes; see node_process.hpp and usb_node_process.hpp.

#include <cstdio>

#include <fmt/format.h>
#include <getopt.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "base/event_loop.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/node/node_process.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node/usb_node_process.hpp"
#include "storctl_version.hpp"

namespace {

using namespace storctl;

// What the supervisor makes of our end: this is worth another try soon, unlike node::exit_refused.
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

constexpr std::string_view usage =
    "Usage: stor-node --spec FILE\n"
    "Serve one mediated node, as a specification written by stord says.\n\n"
    "  --spec FILE      the node's specification (RUN_DIR/node/NAME.json)\n"
    "  --log-level LEVEL  error, warning, notice, info or debug (default info)\n"
    "  --help           this text\n"
    "  --version        the version\n\n"
    "Exit status: 0 stopped on request, 1 failed, 2 usage, 8 the backing is in use.\n";

/// FILE.json -> FILE.error, where stord looks for the reason of a failed start.
std::string error_path(const std::string& spec_path) {
    const std::string_view stem = spec_path;
    return std::string(stem.ends_with(".json") ? stem.substr(0, stem.size() - 5) : stem) + ".error";
}

int fail(const std::string& spec_path, const Error& error) {
    log::error("{}", error.message());
    // best effort: the same sentence stands in the log
    [[maybe_unused]] const auto written = write_file_atomic(error_path(spec_path), error.message() + "\n", 0644, false);
    ::sd_notifyf(0, "STATUS=%s\nERRNO=%d", error.message().c_str(), error.value());
    return error.code == std::errc::device_or_resource_busy ? node::exit_refused : exit_failed;
}

Result<int> run(const std::string& spec_path) {
    node::Spec spec = TRY(node::Spec::load(spec_path));
    EventLoop loop = TRY(EventLoop::create());
    std::unique_ptr<node::NodeProcess> block;
    std::unique_ptr<node::UsbNodeProcess> usb;
    const auto end = [&block, &usb] {
        if (block) [[maybe_unused]]
            const auto none = block->stop(true);
        if (usb) [[maybe_unused]]
            const auto none = usb->stop(true);
    };
    // signals are blocked before the data plane's threads start and inherit the mask
    const EventSource terminate = TRY(loop.add_signal(SIGTERM, 0, end));
    const EventSource interrupt = TRY(loop.add_signal(SIGINT, 0, end));
    switch (spec.kind) {
        case node::NodeKind::block:
            block = TRY(node::NodeProcess::start(loop, std::move(spec)));
            break;
        case node::NodeKind::usb:
            usb = TRY(node::UsbNodeProcess::start(loop, std::move(spec)));
            break;
    }
    ::unlink(error_path(spec_path).c_str());
    ::sd_notify(0, "READY=1\nSTATUS=serving");
    return loop.run();
}

}  // namespace

int main(int argc, char** argv) {
    enum { option_spec = 's', option_log_level = 'l', option_help = 'h', option_version = 'v' };
    static constexpr option options[] = {{"spec", required_argument, nullptr, option_spec},
                                         {"log-level", required_argument, nullptr, option_log_level},
                                         {"help", no_argument, nullptr, option_help},
                                         {"version", no_argument, nullptr, option_version},
                                         {}};
    log::open("stor-node");
    std::string spec_path;
    for (int option = 0; (option = ::getopt_long(argc, argv, "", options, nullptr)) != -1;) {
        switch (option) {
            case option_spec:
                spec_path = optarg;
                break;
            case option_log_level:
                if (const auto level = log::parse_level(optarg)) {
                    log::set_level(*level);
                    break;
                }
                log::error("--log-level '{}' is not error, warning, notice, info or debug", optarg);
                return exit_usage;
            case option_help:
                fmt::print("{}", usage);
                return 0;
            case option_version:
                fmt::print("stor-node {}\n", STORCTL_VERSION);
                return 0;
            default:
                fmt::print(stderr, "{}", usage);
                return exit_usage;
        }
    }
    if (spec_path.empty() || optind != argc) {
        fmt::print(stderr, "{}", usage);
        return exit_usage;
    }
    ::signal(SIGPIPE, SIG_IGN);
    const auto result = run(spec_path);
    return result ? *result : fail(spec_path, result.error());
}
