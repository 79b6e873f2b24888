#include <algorithm>

#include <doctest/doctest.h>

#include "base/file.hpp"
#include "daemon/process_watch.hpp"
#include "daemon/supervisor.hpp"
#include "tests/unit/fake_systemd.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/wait_for.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

struct Systemd {
    TemporaryFolder folder;
    EventLoop loop = *EventLoop::create();
    FakeSystemd manager{loop, folder / "private"};
    std::unique_ptr<Supervisor> supervisor = make_systemd_supervisor(loop, 0, "unix:path=" + (folder / "private"));

    Result<pid_t> start() {
        std::optional<Result<pid_t>> out;
        supervisor->start("n", [&](Result<pid_t> pid) { out.emplace(std::move(pid)); });
        REQUIRE(wait_for(loop, [&] { return out.has_value(); }));
        return *out;
    }
    Result<Supervisor::Status> status() {
        std::optional<Result<Supervisor::Status>> out;
        supervisor->status("n", [&](auto status) { out.emplace(std::move(status)); });
        REQUIRE(wait_for(loop, [&] { return out.has_value(); }));
        return *out;
    }
    bool called(const std::string& call) {
        return wait_for(loop, [&] { return std::count(manager.calls.begin(), manager.calls.end(), call) > 0; });
    }
};

}  // namespace

TEST_CASE("under systemd a node is a unit that is started with a clean record") {
    Systemd scene;
    const auto pid = scene.start();
    REQUIRE_MESSAGE(pid.has_value(), pid.error().message());
    CHECK(*pid == 0);
    CHECK(scene.manager.calls ==
          std::vector<std::string>{"ResetFailedUnit stor-node@n.service", "StartUnit stor-node@n.service replace"});
    CHECK(scene.supervisor->has_status());
    CHECK(scene.supervisor->name() == "systemd");
}

TEST_CASE("a unit that cannot be started is an error in systemd's words") {
    Systemd scene;
    scene.manager.refuses = "StartUnit";
    const auto pid = scene.start();
    REQUIRE_FALSE(pid.has_value());
    CHECK(pid.error().message().find("Unit is not there.") != std::string::npos);
}

TEST_CASE("a stopped unit keeps no failure") {
    Systemd scene;
    scene.supervisor->stop("n");
    CHECK(scene.called("StopUnit stor-node@n.service replace"));
    CHECK(scene.called("ResetFailedUnit stor-node@n.service"));
}

TEST_CASE("a unit's state tells whether its process runs, and how it ended") {
    Systemd scene;
    struct Row {
        const char* name;
        const char* active;
        const char* sub;
        bool running;
    };
    const Row rows[] = {
        {"it starts", "activating", "start", true},
        {"it runs", "active", "running", true},
        {"it waits for its restart", "activating", "auto-restart", false},
        {"it has failed", "failed", "failed", false},
        {"it is stopped", "inactive", "dead", false},
        {"it stops", "deactivating", "stop-sigterm", true},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            scene.manager.active_state = row.active;
            scene.manager.sub_state = row.sub;
            scene.manager.main_pid = 4711;
            scene.manager.exit_status = 8;
            const auto status = scene.status();
            REQUIRE_MESSAGE(status.has_value(), status.error().message());
            CHECK(status->running == row.running);
            CHECK(status->pid == 4711);
            CHECK(status->exit_code == 8);
        }
    }
}

TEST_CASE("a connection that systemd closed is made again") {
    Systemd scene;
    REQUIRE(scene.start().has_value());
    scene.manager.drop();
    scene.manager.calls.clear();
    // the end of the connection has to be noticed first; a call that meets it is an error, not a hang
    CHECK(wait_for(scene.loop, [&] { return scene.start().has_value(); }));
    CHECK(scene.called("StartUnit stor-node@n.service replace"));
}

TEST_CASE("without systemd every call is an error that names its socket") {
    EventLoop loop = *EventLoop::create();
    const auto supervisor = make_systemd_supervisor(loop, 0, "unix:path=/nonexistent/private");
    std::optional<Result<pid_t>> out;
    supervisor->start("n", [&](Result<pid_t> pid) { out.emplace(std::move(pid)); });
    REQUIRE(wait_for(loop, [&] { return out.has_value(); }));
    REQUIRE_FALSE(out->has_value());
    CHECK(out->error().message().find("/nonexistent/private") != std::string::npos);
}

TEST_CASE("a forked node has a session, a log and clean signals of its own") {
    TemporaryFolder folder;
    EventLoop loop = *EventLoop::create();
    const auto hang_up = loop.add_signal(SIGHUP, 0, [] {});  // blocked here, and SIGPIPE ignored, as in stord
    ::signal(SIGPIPE, SIG_IGN);
    const NodePaths paths{.run_dir = folder.path(), .dev_dir = folder.path()};
    REQUIRE(make_directories(paths.folder()).has_value());
    const std::string program = folder / "program";
    REQUIRE(write_file_atomic(program,
                              "#!/bin/sh\nread -r pid comm state parent group session rest < /proc/$$/stat\n"
                              "grep -E 'SigBlk|SigIgn' /proc/self/status\n"
                              "echo session $((session == $$)) \"$@\" notify=$NOTIFY_SOCKET\n",
                              0755)
                .has_value());
    ::setenv("NOTIFY_SOCKET", "/private/to/stord", 1);
    std::optional<ExitStatus> ended;
    std::optional<ProcessWatch> watch;
    const auto supervisor = make_fork_supervisor(paths, [&] { return program; });
    supervisor->start("n", [&](Result<pid_t> pid) {
        REQUIRE_MESSAGE(pid.has_value(), pid.error().message());
        auto opened = ProcessWatch::open(loop, *pid, 0, [&](ExitStatus status) { ended = status; });
        REQUIRE(opened.has_value());
        watch = std::move(*opened);
    });
    ::unsetenv("NOTIFY_SOCKET");
    REQUIRE(wait_for(loop, [&] { return ended.has_value(); }));
    CHECK(ended->code == 0);
    const std::string log = *read_file(paths.log("n"));
    INFO(log);
    CHECK(log.find("session 1 --spec " + paths.spec("n") + " notify=\n") != std::string::npos);
    CHECK(log.find("SigBlk:\t0000000000000000") != std::string::npos);
    const auto ignored = log.find("SigIgn:\t");
    REQUIRE(ignored != std::string::npos);
    // the C library keeps the first two real-time signals to itself
    CHECK((std::stoull(log.substr(ignored + 8, 16), nullptr, 16) & 0x7fffffff) == 0);
}

TEST_CASE("a program that is not there is named") {
    TemporaryFolder folder;
    const NodePaths paths{.run_dir = folder.path(), .dev_dir = folder.path()};
    REQUIRE(make_directories(paths.folder()).has_value());
    const auto supervisor = make_fork_supervisor(paths, [] { return "/nonexistent/stor-node"; });
    bool told = false;
    supervisor->start("n", [&](Result<pid_t> pid) {
        told = true;
        REQUIRE_FALSE(pid.has_value());
        CHECK(pid.error().code == std::errc::no_such_file_or_directory);
        CHECK(pid.error().message().find("/nonexistent/stor-node") != std::string::npos);
    });
    CHECK(told);
}
