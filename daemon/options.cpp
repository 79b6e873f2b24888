#include "daemon/options.hpp"

#include <cstdio>

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/text.hpp"
#include "daemon/config.hpp"
#include "storctl_version.hpp"

namespace storctl {
namespace {

constexpr int exit_usage = 2;

constexpr const char* summary =
    "stord, the control plane of storctl: knows this host's storage devices, keeps mediated nodes running and answers "
    "storctl. See stord(8).";

std::string not_absolute(const std::string& path) {
    return path.starts_with('/') ? std::string()
                                 : fmt::format("'{}' is not an absolute path", escape_unprintable(path));
}

}  // namespace

ParsedOptions parse_options(int argc, char** argv) {
    Options options{
        .config_path = "/etc/storctl/stord.toml", .state_dir = "/var/lib/storctl", .run_dir = "/run/storctl"};
    std::string supervisor;
    bool print_reference = false;

    CLI::App app{summary, "stord"};
    auto* config = app.add_option("--config", options.config_path, "Configuration file")
                       ->type_name("FILE")
                       ->capture_default_str()
                       ->check(not_absolute);
    app.add_option("--state-dir", options.state_dir, "Where the state database is kept")
        ->type_name("DIR")
        ->capture_default_str()
        ->check(not_absolute);
    app.add_option("--run-dir", options.run_dir, "Where the control socket, the state file and nodes are")
        ->type_name("DIR")
        ->capture_default_str()
        ->check(not_absolute);
    app.add_option("--supervisor", supervisor,
                   "Who runs node processes: systemd, fork (stord itself) or auto (default: as configured)")
        ->type_name("WHO")
        ->check(CLI::IsMember({"auto", "systemd", "fork"}));
    app.add_flag("--foreground", options.foreground, "Stay in the foreground, log to standard error");
    app.add_flag("--print-config-reference", print_reference, "Print a commented configuration with every default");
    app.set_version_flag("--version", std::string("stord ") + STORCTL_VERSION, "Print the version");
    app.set_help_flag("--help", "Print this help");

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : exit_usage;
    }
    if (print_reference) {
        std::fputs(config_reference().c_str(), stdout);
        return 0;
    }
    options.config_given = config->count() > 0;
    if (!supervisor.empty()) options.supervisor = supervisor;
    return options;
}

}  // namespace storctl
