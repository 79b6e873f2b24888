#include "daemon/managed_node.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/node/reservation_json.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node_identity.hpp"
#include "daemon/node_spec.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds poll_interval{100};
constexpr std::chrono::milliseconds reopen_interval{2000};
constexpr size_t last_words_limit_bytes = 4096;

std::string describe_opener(const json& opener) {
    const auto pid = opener.value("pid", int64_t{0});
    const std::string who = pid == 0 ? "the kernel" : fmt::format("{} (pid {})", opener.value("program", "?"), pid);
    return fmt::format("{} has it open for {} since {}", who, opener.value("mode", "?"), opener.value("since", "?"));
}

}  // namespace

ManagedNode::ManagedNode(NodeEnvironment& environment, NodeRecord record)
    : environment_(environment), record_(std::move(record)), policy_(environment.settings.restart) {}

Result<std::unique_ptr<ManagedNode>> ManagedNode::open(NodeEnvironment& environment, NodeRecord record) {
    std::unique_ptr<ManagedNode> node(new ManagedNode(environment, std::move(record)));
    ManagedNode* const raw = node.get();
    node->link_ = TRY(NodeLink::open(environment.loop, environment.paths.socket(raw->record_.name),
                                     {.connected = [raw](pid_t pid) { raw->on_connected(pid); },
                                      .description = [raw](const json& text) { raw->on_description(text); },
                                      .lost = [raw] { raw->on_lost(); }}));
    if (raw->record_.kind() == node::NodeKind::block) raw->keep_reservations();
    const auto timer = [&](std::function<void()> callback) -> Result<EventSource> {
        EventSource source = TRY(environment.loop.add_timer(poll_interval, priority::node_timers, std::move(callback)));
        source.enable(false);
        return source;
    };
    node->restart_timer_ = TRY(timer([raw] { raw->start_process(); }));
    node->poll_timer_ = TRY(timer([raw] { raw->poll_supervisor(); }));
    node->deadline_ = TRY(timer([raw] { raw->on_deadline(); }));
    node->reopen_timer_ = TRY(timer([raw] { raw->reopen_when_back(); }));
    return node;
}

void ManagedNode::keep_reservations() {
    reservations_ = std::make_unique<NodeReservations>(
        environment_.reservations, record_.name, reservations_key(record_),
        NodeReservations::Actions{.write_spec = [this] { return write_spec(); },
                                  .set =
                                      [this](json parameters, auto done) {
                                          link_->call("SetReservations", std::move(parameters),
                                                      environment_.settings.reply_timeout, std::move(done));
                                      },
                                  .changed = [this] { environment_.changed(record_.name); }});
}

// ---- starting

void ManagedNode::create(Started done) {
    start_done_ = std::move(done);
    deadline_.arm(environment_.settings.start_timeout);
    start_process();
}

void ManagedNode::resume(std::function<void()> settled) {
    settled_ = std::move(settled);
    deadline_.arm(environment_.settings.reply_timeout);
    start_process();
}

void ManagedNode::settle() {
    if (auto settled = std::exchange(settled_, nullptr)) settled();
}

void ManagedNode::start_process() {
    if (link_->connect_now()) return;  // it lives: started by somebody else, or by a stord before this one
    const std::string& name = record_.name;
    ::unlink(environment_.paths.error(name).c_str());
    if (const auto path = environment_.locate(record_)) record_.backing_path = *path;
    if (auto written = write_spec(); !written) return process_gone({}, written.error().message());
    log::info("starting node '{}' over '{}'", name, record_.backing_path);
    coming_up_ = true;
    environment_.supervisor.start(name, guarded([this](Result<pid_t> pid) {
                                      if (!pid) return process_gone({}, pid.error().message());
                                      if (*pid != 0) watch_process(*pid);
                                      if (environment_.supervisor.has_status()) poll_timer_.arm(poll_interval);
                                  }));
    if (coming_up_) link_->seek();
}

Result<void> ManagedNode::write_spec() const {
    const auto spec =
        TRY(spec_of(record_, environment_.paths,
                    {.first_start = start_done_ != nullptr,
                     .located = environment_.locate(record_),
                     .poll_limit_us = environment_.settings.poll_limit_us,
                     .host = initiator_host(environment_.settings.host),
                     .reservations = reservations_ ? reservations_->state() : node::scsi::ReservationState{}}));
    return write_file_atomic(environment_.paths.spec(record_.name), spec.to_json(), 0600, false);
}

void ManagedNode::watch_process(pid_t pid) {
    if (process_ && process_->pid() == pid) return;
    auto watch = ProcessWatch::open(environment_.loop, pid, priority::node_exit,
                                    [this, pid](ExitStatus status) { on_exit(pid, status); });
    if (!watch) return process_gone({}, watch.error().message());
    if (process_) stray_ = std::move(process_);
    process_ = std::move(*watch);
}

void ManagedNode::poll_supervisor() {
    if (!coming_up_) return;
    environment_.supervisor.status(record_.name, guarded([this](Result<Supervisor::Status> status) {
                                       if (!coming_up_) return;
                                       if (!status) return process_gone({}, status.error().message());
                                       if (!status->running) return process_gone({.code = status->exit_code}, "");
                                       if (status->pid != 0) watch_process(status->pid);
                                       poll_timer_.arm(poll_interval);
                                   }));
}

void ManagedNode::on_connected(pid_t pid) {
    coming_up_ = false;
    poll_timer_.enable(false);
    restart_timer_.enable(false);
    watch_process(pid);
}

void ManagedNode::on_description(const json& description) {
    description_ = description;
    save_backing();
    if (reservations_) reservations_->described(description);
    const bool serving = description.value("state", "") == "serving";
    const std::string message = description.value("message", "");
    if (stop_done_) {
        if (std::exchange(stop_when_up_, false)) request_stop();
        return environment_.changed(record_.name);
    }
    if (serving) {
        policy_.serving(RestartPolicy::Clock::now());
        reopen_timer_.enable(false);
        set_state(NodeState::serving, message);
    } else {
        const bool told_before = state_ == NodeState::backing_lost;
        set_state(NodeState::backing_lost, message);
        // it may have come back elsewhere before the process noticed that it went
        const bool elsewhere = !told_before && is_elsewhere();
        if (!reopening_) reopen_timer_.arm(elsewhere ? std::chrono::milliseconds(0) : reopen_interval);
    }
    settle();
    if (!start_done_) {
        deadline_.enable(false);
    } else if (!start_failure_) {
        end_start(std::nullopt);
    }
}

void ManagedNode::save_backing() {
    const NodeRecord before = record_;
    const std::string path = description_.value("backing_path", "");
    if (!path.empty()) record_.backing_path = path;  // empty: started while its device was away
    record_.backing_kind = description_.value("backing_kind", record_.backing_kind);
    record_.size_bytes = description_.value("size_bytes", record_.size_bytes);
    record_.logical_block_bytes = description_.value("logical_block_bytes", record_.logical_block_bytes);
    const bool same = before.backing_path == record_.backing_path && before.backing_kind == record_.backing_kind &&
                      before.size_bytes == record_.size_bytes &&
                      before.logical_block_bytes == record_.logical_block_bytes;
    if (!same) environment_.save(record_);
}

void ManagedNode::end_start(std::optional<StartFailure> failure) {
    deadline_.enable(false);
    const auto done = std::exchange(start_done_, nullptr);
    if (failure) {
        environment_.supervisor.stop(record_.name);
    } else if (auto written = write_spec(); !written) {
        // the process's next start would lack its size and would not wait for its backing
        log::warning("{}", written.error().message());
    }
    done(std::move(failure));
}

// ---- the process's end

void ManagedNode::on_lost() {
    if (reservations_) reservations_->disconnected();
    if (!process_) return process_gone({}, "its connection broke");
    if (stop_done_) return;  // it is ending
    log::debug("node '{}': connection lost, looking for it again", record_.name);
    link_->seek();
}

void ManagedNode::on_exit(pid_t pid, const ExitStatus& status) {
    if (stray_ && stray_->pid() == pid) return stray_.reset();
    process_.reset();
    link_->close();
    if (status.code || status.signal || !environment_.supervisor.has_status()) return process_gone(status, "");
    // not our child: how it ended is the supervisor's knowledge
    environment_.supervisor.status(record_.name, guarded([this](Result<Supervisor::Status> known) {
                                       process_gone({.code = known ? known->exit_code : std::nullopt}, "");
                                   }));
}

std::string ManagedNode::last_words() const {
    const auto text = read_file(environment_.paths.error(record_.name), last_words_limit_bytes);
    return text ? std::string(trim(*text)) : std::string();
}

void ManagedNode::process_gone(const ExitStatus& status, std::string reason) {
    coming_up_ = false;
    link_->close();
    if (reservations_) reservations_->disconnected();
    poll_timer_.enable(false);
    if (description_.is_object()) description_["openers"] = json::array();
    if (stop_done_) return end_stop(std::nullopt);
    if (reason.empty()) reason = last_words();
    if (reason.empty()) reason = fmt::format("its process {}", status.describe());
    const bool refused = status.code == node::exit_refused;
    if (start_done_) {
        return end_start(start_failure_ ? *start_failure_ : StartFailure{.refused = refused, .message = reason});
    }
    restart_later(reason, refused ? RestartPolicy::Death::refused : RestartPolicy::Death::crash);
}

void ManagedNode::restart_later(const std::string& reason, RestartPolicy::Death death) {
    ++restarts_;
    policy_.set_limits(environment_.settings.restart);
    const auto decision = policy_.died(RestartPolicy::Clock::now(), death);
    const std::string message = fmt::format("{}; starting it again in {}", reason, format_duration(decision.delay));
    log::warning("node '{}': {}", record_.name, message);
    set_state(decision.failed ? NodeState::failed : NodeState::restarting, message);
    restart_timer_.arm(decision.delay);
    settle();
    if (environment_.supervisor.has_status()) link_->seek();  // the supervisor may be quicker
}

void ManagedNode::on_deadline() {
    if (start_done_) {
        start_failure_ = StartFailure{
            .message = fmt::format("it did not serve within {}", format_duration(environment_.settings.start_timeout))};
        return end_by_force();
    }
    if (stop_done_ && may_kill_) {
        log::warning("node '{}': its process did not end after it was stopped, killing it", record_.name);
        return end_by_force();
    }
    if (stop_done_) return end_stop(not_stopped("its process does not answer"));
    settle();
    if (!link_->connected() && !coming_up_) return;  // it waits for its next start
    set_state(state_, "its process does not answer yet");
}

void ManagedNode::end_by_force() {
    environment_.supervisor.stop(record_.name);
    if (process_) return process_->kill(SIGKILL);
    process_gone({}, "");
}

// ---- stopping

void ManagedNode::stop(bool force, Stopped done) {
    if (start_done_ || stop_done_) {
        const std::string message =
            fmt::format("node '{}' is being {}", record_.name, start_done_ ? "created" : "removed");
        return done(StopFailure{.message = message});
    }
    stop_done_ = std::move(done);
    may_kill_ = force;
    restart_timer_.enable(false);
    if (link_->connected()) return request_stop();
    if (coming_up_) {
        stop_when_up_ = true;
        return deadline_.arm(stop_limit());
    }
    if (!process_) return end_by_force();  // nothing runs; the supervisor is told not to start it
    if (!force) return end_stop(not_stopped(fmt::format("its process {} does not answer", process_->pid())));
    set_state(NodeState::stopping, "being killed");
    end_by_force();
}

void ManagedNode::hurry() {
    if (!stop_done_ || may_kill_) return;
    may_kill_ = true;
    if (stop_when_up_) return deadline_.arm(stop_limit());
    request_stop();
}

/// Without force it may write first what it has taken; who means force is not kept waiting by a process that is stuck.
std::chrono::milliseconds ManagedNode::stop_limit() const {
    return may_kill_ ? environment_.settings.reply_timeout : environment_.settings.start_timeout;
}

void ManagedNode::request_stop() {
    deadline_.enable(false);  // the call has its own
    link_->call("Stop", {{"force", may_kill_}}, stop_limit(),
                guarded([this, number = ++stop_call_](const Result<control::Reply>& reply) {
                    if (number == stop_call_) on_stop_reply(reply);
                }));
}

ManagedNode::StopFailure ManagedNode::not_stopped(const std::string& why) const {
    return {.message =
                fmt::format("node '{}' could not be stopped ({}); remove it by force to kill it", record_.name, why)};
}

void ManagedNode::on_stop_reply(const Result<control::Reply>& reply) {
    if (!stop_done_) return;  // the process has ended already
    if (!reply && reply.error().code != std::errc::timed_out) {
        return deadline_.arm(environment_.settings.reply_timeout);  // most likely it has ended: that is told soon
    }
    if (reply && !reply->error) {
        may_kill_ = true;  // it agreed
        deadline_.arm(environment_.settings.reply_timeout);
        return set_state(NodeState::stopping, "its process is ending");
    }
    if (reply && reply->error == "io.storctl.NodeProcess.Busy") {
        StopFailure failure{.why = StopFailure::Why::busy, .message = fmt::format("node '{}' is open", record_.name)};
        for (const auto& opener : reply->parameters.value("openers", json::array())) {
            failure.openers.push_back(describe_opener(opener));
        }
        return end_stop(std::move(failure));
    }
    if (!may_kill_) return end_stop(not_stopped(reply ? *reply->error : reply.error().message()));
    set_state(NodeState::stopping, "being killed");
    end_by_force();
}

void ManagedNode::end_stop(std::optional<StopFailure> failure) {
    deadline_.enable(false);
    stop_when_up_ = false;
    ++stop_call_;
    if (!failure) environment_.supervisor.stop(record_.name);
    std::exchange(stop_done_, nullptr)(std::move(failure));
}

// ---- the backing

bool ManagedNode::is_elsewhere() const {
    const auto path = environment_.locate(record_);
    const bool described = description_.is_object();
    return path && *path != (described ? description_.value("backing_path", "") : record_.backing_path);
}

/// A USB device that came back is another file, though its node may not have noticed that it went.
void ManagedNode::backing_changed() {
    const bool moved = record_.usb && is_elsewhere();
    if (link_->connected() && (state_ == NodeState::backing_lost || moved)) return reopen();
    if (link_->connected()) {
        return link_->call("Refresh", json::object(), environment_.settings.reply_timeout, [](const auto&) {});
    }
    if (state_ == NodeState::failed && environment_.locate(record_)) restart_timer_.arm(std::chrono::microseconds(0));
}

void ManagedNode::reopen_when_back() {
    if (state_ == NodeState::backing_lost && link_->connected()) reopen();
}

void ManagedNode::reopen() {
    if (reopening_ || stop_done_) return;
    const auto path = environment_.locate(record_);
    if (!path) return reopen_timer_.arm(reopen_interval);
    reopening_ = true;
    link_->call("Reopen", {{"path", *path}}, environment_.settings.reply_timeout,
                guarded([this, path](const Result<control::Reply>& reply) {
                    reopening_ = false;
                    const bool done = reply && !reply->error;
                    if (done) log::notice("node '{}': its backing is back at '{}'", record_.name, *path);
                    if (!done) {
                        const std::string why =
                            reply ? reply->parameters.value("message", "") : reply.error().message();
                        log::debug("node '{}': '{}' is not usable yet: {}", record_.name, *path, why);
                    }
                    if (state_ == NodeState::backing_lost) reopen_timer_.arm(reopen_interval);
                }));
}

// ---- what is shown

void ManagedNode::stat(std::function<void(Result<json>)> done) {
    link_->call("Stat", json::object(), environment_.settings.reply_timeout,
                [name = record_.name, done = std::move(done)](Result<control::Reply> reply) {
                    if (!reply) return done(std::move(reply).error());
                    if (reply->error) {
                        return done(make_error(std::errc::io_error, fmt::format("node '{}': {}", name, *reply->error)));
                    }
                    done(std::move(reply->parameters));
                });
}

void ManagedNode::set_state(NodeState state, std::string message) {
    const bool told_by_its_cause = state == NodeState::restarting || state == NodeState::failed;
    if (state != state_ && !told_by_its_cause) {
        log::info("node '{}': {}{}", record_.name, to_text(state), message.empty() ? "" : ", " + message);
    }
    state_ = state;
    message_ = std::move(message);
    environment_.changed(record_.name);
}

std::optional<pid_t> ManagedNode::process() const {
    if (process_) return process_->pid();
    // a supervisor may start it again by itself
    const bool may_come = coming_up_ || state_ == NodeState::restarting;
    return may_come ? std::nullopt : std::optional<pid_t>(0);
}

/// A process that has lost its device knows no more than that.
std::string ManagedNode::message_with(const std::string& trouble) const {
    if (trouble.empty()) return message_;
    return message_.empty() || state_ == NodeState::backing_lost ? trouble : message_ + "; " + trouble;
}

json ManagedNode::describe() const {
    const bool described = description_.is_object();
    const auto standing = record_.usb && environment_.standing ? environment_.standing(record_) : UsbStanding{};
    const json backing = {
        {"kind", record_.backing_kind},
        {"path", record_.backing_path},
        {"device", record_.device_id ? json(*record_.device_id) : json()},
        {"size_bytes", record_.size_bytes},
        {"logical_block_bytes", record_.logical_block_bytes},
        {"direct", described && description_.value("direct", false)},
        {"present", state_ == NodeState::serving},
    };
    return {
        {"name", record_.name},
        {"kind", std::string(to_text(record_.kind()))},
        {"usb", record_.usb ? usb_json(record_, standing.devnode) : json()},
        {"device", record_.device_id ? json(*record_.device_id) : json()},
        {"backing", backing},
        {"open", record_.open},
        {"loop", record_.loop},
        {"sg", record_.scsi.sg.has_value()},
        {"forms", described ? description_.value("forms", json::array()) : json::array()},
        {"reservations", reservations_ ? node::reservations_json(reservations_->state()) : json()},
        {"state", std::string(to_text(state_))},
        {"message", message_with(standing.trouble)},
        {"pid", process_ ? json(process_->pid()) : json()},
        {"restarts", restarts_},
        {"openers", described ? description_.value("openers", json::array()) : json::array()},
        {"created", format_time(record_.created)},
        {"created_by", record_.created_by},
    };
}

}  // namespace storctl
