#pragma once
// A process that speaks io.storctl.NodeProcess and serves nothing: what a ManagedNode needs to be tested. Forked, so
// that it can be killed, and reaped, like a real one.

#include <algorithm>
#include <cstdlib>
#include <list>
#include <optional>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/file.hpp"
#include "control/interfaces.hpp"
#include "control/server.hpp"
#include "daemon/node/reservation_json.hpp"
#include "daemon/node/spec.hpp"

namespace storctl::test {

struct FakeNode {
    std::string socket;
    std::string error_file;
    int exit_at_once = -1;          ///< with this status instead of serving
    std::string last_words;         ///< written to error_file before that
    bool silent = false;            ///< never serves, never ends
    bool ignores_stop = false;      ///< agrees to Stop and goes on
    std::string state = "serving";  ///< of its description
    bool busy = false;              ///< refuses Stop without force
    bool hides_openers = false;     ///< of its description: as if it had been opened since
    std::string spec_file;          ///< given: it describes the backing that it was told
    std::string other_device;       ///< at this path: Reopen fails
    std::string backing_path = "/dev/fake", backing_kind = "block";
    bool reopen_works = true;
    /// Given: it proposes to register that, as a disk does whose initiator asks for it.
    std::optional<node::scsi::Registration> registers = std::nullopt;
    bool old_spec = false;  ///< as if the reservations had not been in its specification
    std::optional<node::scsi::ReservationState> reservations = std::nullopt, proposed = std::nullopt;  ///< of a disk
    std::string message;

    /// Runs in the child; never returns.
    [[noreturn]] void run() {
        if (!spec_file.empty()) take_spec();
        if (!last_words.empty()) (void)write_file_atomic(error_file, last_words, 0600, false);
        if (exit_at_once >= 0) ::_exit(exit_at_once);
        for (;;) {
            if (silent) ::pause();
            ::_exit(serve());
        }
    }

 private:
    void take_spec() {
        const auto spec = node::Spec::load(spec_file);
        if (!spec) ::_exit(99);
        backing_path = spec->backing_path;
        backing_kind = spec->backing_kind;
        if (backing_path.empty()) state = "backing-lost";
        if (spec->kind != node::NodeKind::block) return;
        reservations = old_spec ? node::scsi::ReservationState{} : spec->reservations;
        decide();
    }
    /// What it wants is there already, or proposed.
    void decide() {
        proposed.reset();
        if (!registers || reservations->registration(registers->nexus) != nullptr) return;
        proposed = reservations;
        ++proposed->version;
        ++proposed->generation;
        proposed->registrations.push_back(*registers);
        std::sort(proposed->registrations.begin(), proposed->registrations.end(),
                  [](const auto& a, const auto& b) { return a.nexus < b.nexus; });
    }
    /// Says in its message what it was told, and what its specification said at that moment.
    void set_reservations(const nlohmann::json& parameters) {
        const auto given = node::parse_reservations(parameters.at("reservations"));
        const auto spec = node::Spec::load(spec_file);
        if (!given || !spec || !reservations) ::_exit(98);
        const auto error = parameters.find("error");
        const bool failed = error != parameters.end() && !error->is_null();
        const std::string what = failed               ? "failed: " + error->get<std::string>()
                                 : proposed == *given ? "stored"
                                                      : "set";
        message = fmt::format("{}, version {}, specification {}", what, given->version, spec->reservations.version);
        reservations = *given;
        if (failed) registers.reset();
        decide();
    }
    nlohmann::json opener() const {
        return {{"pid", 4711}, {"program", "qemu"}, {"mode", "write"}, {"since", "2026-11-22T12:00:00Z"}};
    }
    nlohmann::json description() const {
        const auto openers = busy && !hides_openers ? nlohmann::json::array({opener()}) : nlohmann::json::array();
        return {{"description",
                 {{"name", "n"},
                  {"pid", ::getpid()},
                  {"version", "0"},
                  {"state", state},
                  {"message", message},
                  {"backing_path", backing_path},
                  {"backing_kind", backing_kind},
                  {"size_bytes", 1 << 20},
                  {"logical_block_bytes", 4096},
                  {"direct", true},
                  {"forms", {{{"type", "fuse"}, {"path", "/run/block/n"}}}},
                  {"openers", openers},
                  {"reservations", reservations ? node::reservations_json(*reservations) : nlohmann::json()},
                  {"proposed", proposed ? node::reservations_json(*proposed) : nlohmann::json()}}}};
    }

    int serve() {
        auto loop = EventLoop::create();
        auto server = control::Server::listen(*loop, {.socket_path = socket});
        if (!server) return 1;
        std::list<control::Call> watchers;
        EventSource end;
        const auto tell = [&] {
            for (auto& watcher : watchers) watcher.reply_continues(description());
        };
        using control::Access;
        using control::Call;
        std::vector<control::Method> methods;
        methods.push_back({"Describe", Access::read, [&](Call call) { call.reply(description()); }});
        methods.push_back({"Watch", Access::read, [&](Call call) {
                               call.reply_continues(description());
                               watchers.push_back(std::move(call));
                           }});
        methods.push_back({"Stat", Access::read, [&](Call call) {
                               call.reply({{"time_ns", 1},
                                           {"started_ns", 0},
                                           {"refused_opens", 0},
                                           {"operations", nlohmann::json::array()}});
                           }});
        methods.push_back({"Reopen", Access::change, [&](Call call) {
                               const std::string path = call.parameters().at("path");
                               if (!reopen_works || path == other_device)
                                   return call.error("ReopenFailed", {{"message", "not yet"}});
                               state = "serving";
                               if (!spec_file.empty()) backing_path = path;
                               call.reply(description());
                               tell();
                           }});
        methods.push_back({"Refresh", Access::change, [&](Call call) { call.reply(description()); }});
        methods.push_back({"SetReservations", Access::change, [&](Call call) {
                               set_reservations(call.parameters());
                               call.reply(nlohmann::json::object());
                               tell();
                           }});
        methods.push_back({"Stop", Access::change, [&](Call call) {
                               if (busy && !call.parameters().at("force").get<bool>()) {
                                   return call.error("Busy", {{"openers", {opener()}}});
                               }
                               call.reply(nlohmann::json::object());
                               if (ignores_stop) return;
                               auto later = loop->add_timer(std::chrono::milliseconds(1), 10, [&] { loop->exit(0); });
                               end = std::move(*later);
                           }});
        if (!(*server)->add_interface(control::io_storctl_node_process, std::move(methods))) return 1;
        const auto code = loop->run();
        return code ? *code : 1;
    }
};

inline pid_t spawn(FakeNode node) {
    const pid_t pid = ::fork();
    if (pid == 0) node.run();
    return pid;
}

}  // namespace storctl::test
