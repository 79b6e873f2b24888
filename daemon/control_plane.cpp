#include "daemon/control_plane.hpp"

#include <array>

#include <fmt/format.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/priorities.hpp"
#include "daemon/service_manager.hpp"
#include "storctl_version.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::string_view udev_run_dir = "/run/storctl";
constexpr mode_t state_folder_mode = 0700;
constexpr mode_t run_folder_mode = 0755;
constexpr rlim_t wanted_descriptors = 65536;
constexpr std::chrono::milliseconds drain_grace{500};
constexpr std::chrono::milliseconds drain_interval{10};

/// Each node and each client takes descriptors; the usual soft limit of 1024 is for programs that use select(2).
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    const rlim_t wanted = std::min(limit.rlim_max, wanted_descriptors);
    if (limit.rlim_cur >= wanted) return;
    limit.rlim_cur = wanted;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        log::warning("cannot raise the limit of open files, it stays low: {}", errno_error("").message());
    }
}

std::string kernel_host_name() {
    std::array<char, 256> name{};
    ::gethostname(name.data(), name.size() - 1);
    return name.data();
}

Result<gid_t> change_group(const std::string& name) {
    if (name.empty()) return static_cast<gid_t>(-1);
    std::array<char, 16384> buffer;
    group entry{};
    group* found = nullptr;
    ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found == nullptr) {
        return make_error(std::errc{},
                          fmt::format("key 'change_group': there is no group '{}'", escape_unprintable(name)));
    }
    return found->gr_gid;
}

/// As configured; else the one of this stord's own build tree; else the installed one.
std::string node_program(const Config& config) {
    if (!config.node_program.empty()) return config.node_program;
    const std::string built = dir_name(read_link("/proc/self/exe")) + "/node/stor-node";
    return ::access(built.c_str(), X_OK) == 0 ? built : STOR_NODE_PROGRAM;
}

/// The sandbox of stord's unit mounts its own folders once more; users should see the host's mounts.
locality::KernelPaths kernel_paths() {
    locality::KernelPaths paths;
    const std::string of_init = "/proc/1/mountinfo";
    if (sd_booted() > 0 && read_file(of_init)) paths.mountinfo = of_init;
    return paths;
}

/// Of this machine and no other.
std::string machine_id(const std::string& host) {
    const auto text = read_file("/etc/machine-id");
    const auto id = text ? trim(*text) : std::string_view();
    return id.empty() ? host : std::string(id);
}

NodeSettings node_settings(const Config& config, const std::string& host) {
    return {.start_timeout = config.node_start_timeout,
            .reply_timeout = config.node_reply_timeout,
            .poll_limit_us = config.poll_limit_us,
            .restart = {.first_delay = config.restart_delay,
                        .longest_delay = config.restart_delay_max,
                        .failed_after = config.failed_after,
                        .window = config.failed_window,
                        .failed_delay = config.failed_delay},
            .sg = from_text<SgDefault>(config.node_sg).value_or(SgDefault::automatic),
            .host = host,
            .machine_id = machine_id(host)};
}

ArbiterSettings arbiter_settings(const Config& config) {
    return {.grace = std::chrono::floor<std::chrono::seconds>(config.usb_grace),
            .provisional_timeout = std::chrono::floor<std::chrono::seconds>(config.usb_provisional_timeout),
            .consoles_are_used = config.usb_host_console == "use",
            .return_drivers = config.usb_return_drivers == "yes"};
}

control::ServerOptions server_options(const Config& config, const std::string& run_dir, gid_t group) {
    return {.socket_path = run_dir + "/io.storctl",
            .change_group = group,
            .max_message_bytes = config.max_message_bytes,
            .max_clients = config.max_clients,
            .max_clients_per_uid = config.max_clients_per_uid,
            .max_queued_bytes = config.max_queued_bytes,
            .max_pending_calls = config.max_pending_calls,
            .partial_message_timeout = config.partial_message_timeout,
            .priority = priority::control,
            .version = STORCTL_VERSION};
}

}  // namespace

// ---- coming up

Result<std::unique_ptr<ControlPlane>> ControlPlane::open(const Options& options) {
    EventLoop loop = TRY(EventLoop::create());
    std::unique_ptr<ControlPlane> plane(new ControlPlane(options, std::move(loop)));
    TRY(plane->start());
    return plane;
}

/// Each step needs those before it. Devices come before nodes, which look for their backing among them, and so do
/// claims, which may have taken a node's disk away; all before clients, who must not see half a host.
Result<void> ControlPlane::start() {
    config_ = TRY(read_config());
    apply_config();
    host_ = config_.host.empty() ? kernel_host_name() : config_.host;
    raise_descriptor_limit();
    TRY(lock_directories());
    TRY(listen_to_signals());
    auto db = TRY(StateDb::open(options_.state_dir + "/state.db"));
    db_ = std::move(db);
    TRY(start_devices());
    TRY(start_arbiter());
    TRY(start_nodes());
    TRY(start_control());
    TRY(start_udev_publisher());
    TRY(state_file_->write());
    TRY(loop_.enable_watchdog());
    return {};
}

Result<Config> ControlPlane::read_config() const {
    auto config = load_config(options_.config_path);
    const bool may_be_missing = !options_.config_given;
    if (!config && may_be_missing && config.error().code == std::errc::no_such_file_or_directory)
        return default_config();
    return config;
}

void ControlPlane::apply_config() {
    log::set_level(log::parse_level(config_.log_level).value_or(log::Level::info));
    if (nodes_) nodes_->set_settings(node_settings(config_, host_));
    if (arbiter_) arbiter_->set_settings(arbiter_settings(config_));
}

Result<void> ControlPlane::lock_directories() {
    TRY(make_directories(options_.state_dir, state_folder_mode));
    TRY(make_directories(options_.run_dir, run_folder_mode));
    auto state_lock = TRY(InstanceLock::take(options_.state_dir, "state directory"));
    locks_.push_back(std::move(state_lock));
    const bool same = real_path(options_.state_dir).value_or("") == real_path(options_.run_dir).value_or("");
    if (same) return {};
    auto run_lock = TRY(InstanceLock::take(options_.run_dir, "run directory"));
    locks_.push_back(std::move(run_lock));
    return {};
}

Result<void> ControlPlane::listen_to_signals() {
    ::signal(SIGPIPE, SIG_IGN);
    for (const int stop : {SIGTERM, SIGINT}) {
        auto source = TRY(loop_.add_signal(stop, priority::stop_signal, [this] { shut_down(); }));
        signals_.push_back(std::move(source));
    }
    auto source = TRY(loop_.add_signal(SIGHUP, priority::reload_signal, [this] {
        if (auto done = reload(); !done) log::error("{}", done.error().message());
    }));
    signals_.push_back(std::move(source));
    return {};
}

Result<void> ControlPlane::start_devices() {
    devices_ = TRY(DeviceService::open(loop_, *db_, hub_,
                                       {.host = host_,
                                        .extra_placeholders = config_.extra_placeholders,
                                        .monitor_buffer_bytes = config_.monitor_buffer_bytes,
                                        .priority = priority::discovery,
                                        .kernel = kernel_paths()}));
    return devices_->coldplug();
}

Result<void> ControlPlane::start_arbiter() {
    const usbarb::KernelPaths paths;
    auto kernel =
        TRY(open_this_host(loop_, {.discovery = {.monitor_buffer_bytes = config_.monitor_buffer_bytes,
                                                 .priority = priority::discovery,
                                                 .kernel = paths},
                                   .uses = {.kernel = paths, .block = kernel_paths(), .priority = priority::discovery},
                                   .actuator = {}}));
    arbiter_ = TRY(ArbiterService::open(loop_, *db_, hub_, std::move(kernel),
                                        {.settings = arbiter_settings(config_),
                                         .boot_id = read_attribute(paths.proc + "/sys/kernel/random/boot_id"),
                                         .seen_plugs = seen_plugs(options_.run_dir + "/state.json"),
                                         .kernel = paths}));
    // nodes that an earlier stord left serving are not adopted yet
    const auto records = TRY(db_->nodes());
    std::map<std::string, std::string> disks;
    for (const auto& record : records) {
        if (const std::string block = block_name(record); !block.empty()) disks[block] = record.name;
    }
    arbiter_->set_nodes([disks] { return disks; });
    usb_nodes_ = TRY(UsbNodes::open(loop_, *db_, hub_, *arbiter_));
    arbiter_->set_usb_nodes([this] { return usb_nodes_->devices(); });
    arbiter_->set_node_processes([this] { return usb_nodes_->processes(); });
    arbiter_->set_claim_nodes(*usb_nodes_);
    // the object outlives a start that is given up
    const auto settled = std::make_shared<bool>(false);
    TRY(arbiter_->start([settled] { *settled = true; }));
    while (!*settled && state_ == State::starting) TRY(loop_.run_once(std::chrono::seconds(1)));
    return {};
}

Result<void> ControlPlane::start_nodes() {
    const NodePaths paths{.run_dir = options_.run_dir, .dev_dir = config_.dev_dir};
    std::string who = options_.supervisor.value_or(config_.supervisor);
    if (who == "auto") who = sd_booted() > 0 ? "systemd" : "fork";
    supervisor_ = who == "systemd" ? make_systemd_supervisor(loop_, priority::node_messages)
                                   : make_fork_supervisor(paths, [this] { return node_program(config_); });
    reservations_ = TRY(open_reservation_store(*db_, read_attribute("/proc/sys/kernel/random/boot_id")));
    nodes_ = TRY(NodeService::open(loop_, *db_, hub_, *devices_, *supervisor_, *reservations_, paths,
                                   node_settings(config_, host_)));
    nodes_->set_claims([this](const std::string& block) { return arbiter_->claimed_below(block); });
    arbiter_->set_nodes([this] { return nodes_->disks(); });
    usb_nodes_->attach(*nodes_);
    const auto settled = std::make_shared<bool>(false);
    TRY(nodes_->resume([settled] { *settled = true; }));
    // who waits for stord to be ready (a virtual machine manager) finds the nodes serving, as far as they can
    while (!*settled && state_ == State::starting) TRY(loop_.run_once(std::chrono::seconds(1)));
    usb_nodes_->resume();
    return {};
}

Result<void> ControlPlane::start_control() {
    const gid_t group = TRY(change_group(config_.change_group));
    server_ = TRY(control::Server::listen(loop_, server_options(config_, options_.run_dir, group)));
    status_service_.emplace(
        hub_, [this] { return status(); }, [this] { return reload(); });
    state_file_ = TRY(StateFile::open(loop_, options_.run_dir + "/state.json", [this] { return state(); }));
    hub_.listen([this](const Event&) { changed(); });
    TRY(status_service_->serve(*server_));
    TRY(devices_->serve(*server_));
    TRY(arbiter_->serve(*server_));
    return nodes_->serve(*server_);
}

/// Only for the run directory that the udev rules read: their helper would not see what another one says.
Result<void> ControlPlane::start_udev_publisher() {
    if (options_.run_dir != udev_run_dir || devices_->event_source() != "udev") return {};
    auto publisher = TRY(UdevPublisher::for_this_host());
    udev_publisher_ = std::move(publisher);
    state_file_->on_written([this](const json& contents) { udev_publisher_->compare(contents.at("devices")); });
    return {};
}

Result<int> ControlPlane::run() {
    if (state_ == State::starting) {
        set_state(State::running);
        notify_ready(status_line());
        log::notice("ready: {}", status_line());
    }
    return loop_.run();
}

// ---- while up

Result<void> ControlPlane::reload() {
    if (state_ != State::running) return make_error(std::errc{}, fmt::format("stord is {}", state_name()));
    set_state(State::reloading);
    notify_reloading();
    auto config = read_config();
    if (config) {
        needs_restart_ = restart_only_changes(config_, *config);
        // a key that waits for a restart keeps its old value in force, also for the next comparison
        config_ = adopt_reloadable(config_, *config);
        apply_config();
        if (!needs_restart_.empty()) {
            log::warning("configuration read again; {} take effect only when stord is restarted",
                         join(needs_restart_, ", "));
        } else {
            log::notice("configuration read again");
        }
    }
    set_state(State::running);
    notify_ready(config ? status_line() : "The configuration has a mistake, the old one is in force; " + status_line());
    if (!config) return std::move(config).error().within("the old configuration stays in force");
    TRY(arbiter_->rescan());
    return devices_->rescan();
}

/// The one place that says how stord ends. Node processes are left running on purpose: their guests' I/O goes on, and
/// the next stord adopts them. Claims stay, and so does what they did to drivers; the service manager keeps the hubs
/// that are held until the next stord takes them over.
void ControlPlane::shut_down() {
    if (state_ == State::stopping) return;
    log::notice("stopping; nodes keep running, claims stay");
    notify_stopping();
    // 1. monitors learn of it and their streams end
    state_ = State::stopping;
    if (status_service_) {
        status_service_->end_streams(
            {.event = "status-changed", .subject = "stord", .summary = "stord is stopping", .detail = status()});
    }
    // 2. no new clients; the connected ones get what is queued for them
    if (server_) server_->close(drain_grace);
    // 3. readers of the state file find the last state
    if (state_file_) {
        if (auto written = state_file_->write(); !written) log::error("{}", written.error().message());
    }
    // 4. the loop ends when the clients have been served; then connections to nodes, discovery, the database and the
    // locks
    //    go, in the order in which the members are destroyed
    drain_deadline_ = Clock::now() + drain_grace;
    auto timer = loop_.add_timer(std::chrono::microseconds(0), priority::control, [this] { finish_when_drained(); });
    if (!timer) return loop_.exit(EXIT_SUCCESS);
    drain_timer_ = std::move(*timer);
}

void ControlPlane::finish_when_drained() {
    const bool drained = !server_ || server_->clients() == 0 || Clock::now() >= drain_deadline_;
    if (drained) return loop_.exit(EXIT_SUCCESS);
    drain_timer_.arm(drain_interval);
}

// ---- what is shown

std::string_view ControlPlane::state_name() const {
    switch (state_) {
        case State::starting:
            return "starting";
        case State::running:
            return "running";
        case State::reloading:
            return "reloading";
        case State::stopping:
            return "stopping";
    }
    return "?";
}

void ControlPlane::set_state(State state) {
    state_ = state;
    hub_.publish({.event = "status-changed",
                  .subject = "stord",
                  .summary = fmt::format("stord is {}", state_name()),
                  .detail = status()});
}

void ControlPlane::changed() {
    state_file_->touch();
    if (state_ != State::running) return;
    const std::string line = status_line();
    if (line != last_status_line_) notify_status(line);
    last_status_line_ = line;
}

std::string ControlPlane::status_line() const {
    const auto nodes = nodes_->counts();
    const auto claims = arbiter_->counts();
    return fmt::format(
        "{} devices ({} shared, {} in conflict), {} nodes ({} serving, {} failed), {} claims ({} lost, {} failed)",
        devices_->total(), devices_->shared(), devices_->conflicts(), nodes.total, nodes.serving, nodes.failed,
        claims.total, claims.lost, claims.failed);
}

json ControlPlane::status() const {
    const auto nodes = nodes_->counts();
    const auto claims = arbiter_->counts();
    const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_steady_);
    std::vector<std::string> findings = devices_->findings();
    for (auto& finding : nodes_->findings()) findings.push_back(std::move(finding));
    for (auto& finding : arbiter_->findings()) findings.push_back(std::move(finding));
    for (const auto& key : needs_restart_) {
        findings.push_back(
            fmt::format("configuration key '{}' has changed and takes effect when stord is restarted", key));
    }
    return {
        {"version", STORCTL_VERSION},
        {"pid", ::getpid()},
        {"host", host_},
        {"state", state_name()},
        {"started", format_time(started_)},
        {"uptime_seconds", uptime.count()},
        {"config", options_.config_path},
        {"state_dir", options_.state_dir},
        {"run_dir", options_.run_dir},
        {"supervisor", supervisor_->name()},
        {"udev", devices_->event_source()},
        {"registry", "embedded"},
        {"devices",
         {{"total", devices_->total()}, {"shared", devices_->shared()}, {"conflicts", devices_->conflicts()}}},
        {"nodes", {{"total", nodes.total}, {"serving", nodes.serving}, {"failed", nodes.failed}}},
        {"claims", {{"total", claims.total}, {"lost", claims.lost}, {"failed", claims.failed}}},
        {"findings", findings},
    };
}

json ControlPlane::state() const {
    return {
        {"version", 1},
        {"written", format_time(wall_now())},
        {"daemon", {{"version", STORCTL_VERSION}, {"pid", ::getpid()}, {"host", host_}}},
        {"devices", devices_->describe_all()},
        {"nodes", nodes_->describe_all()},
        {"claims", arbiter_->describe_claims()},
        {"usb", arbiter_->describe_devices()},
    };
}

}  // namespace storctl
