#include <set>

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/file.hpp"
#include "daemon/managed_node.hpp"
#include "daemon/node/spec.hpp"
#include "tests/unit/fake_node.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/wait_for.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;

namespace {

/// Starts fake nodes as children, as the fork supervisor starts real ones.
class TestSupervisor : public Supervisor {
 public:
    FakeNode behaviour;
    std::string fails;                 ///< start fails with this
    bool like_systemd = false;         ///< tells pids and ends only when it is asked
    std::optional<Status> unit_state;  ///< then: what it says, and nothing is started
    int started = 0, stopped = 0;
    pid_t last = 0;

    void start(const std::string&, std::function<void(Result<pid_t>)> done) override {
        ++started;
        if (!fails.empty()) return done(make_error(std::errc::no_such_file_or_directory, fails));
        if (unit_state.has_value()) return done(0);
        last = spawn(behaviour);
        done(like_systemd ? 0 : last);
    }
    void stop(const std::string&) override { ++stopped; }
    bool has_status() const override { return like_systemd; }
    void status(const std::string&, std::function<void(Result<Status>)> done) override {
        done(unit_state.value_or(Status{.running = true, .pid = last}));
    }
    std::string_view name() const override { return "test"; }
};

struct Scene {
    TemporaryFolder folder;
    EventLoop loop = *EventLoop::create();
    TestSupervisor supervisor;
    StateDb db = *StateDb::open(folder / "state.db");
    std::unique_ptr<ReservationStore> reservations = *open_reservation_store(db, "boot-1");
    std::optional<std::string> located = "/dev/fake";
    std::vector<NodeRecord> saved;
    int changes = 0;
    NodeEnvironment environment{
        .loop = loop,
        .supervisor = supervisor,
        .reservations = *reservations,
        .paths = {.run_dir = folder.path(), .dev_dir = folder / "dev"},
        .settings = {.start_timeout = 20s,
                     .reply_timeout = 5s,
                     .restart = {.first_delay = 1ms,
                                 .longest_delay = 4ms,
                                 .failed_after = 5,
                                 .window = 60s,
                                 .failed_delay = 50ms}},
        .changed = [this](const std::string&) { ++changes; },
        .save = [this](const NodeRecord& record) { saved.push_back(record); },
        .locate = [this](const NodeRecord&) { return located; },
    };
    std::unique_ptr<ManagedNode> node;
    pid_t adopted = 0;  // a process of an earlier life, not started by the supervisor

    Scene() {
        REQUIRE(make_directories(folder / "node").has_value());
        supervisor.behaviour.socket = environment.paths.socket("n");
        supervisor.behaviour.error_file = environment.paths.error("n");
        NodeRecord record{.name = "n",
                          .backing_path = "/dev/old",
                          .backing_kind = "block",
                          .open = "single-writer",
                          .size_bytes = 4096};
        auto opened = ManagedNode::open(environment, record);
        REQUIRE(opened.has_value());
        node = std::move(*opened);
    }
    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;
    ~Scene() {
        const std::set<pid_t> left{pid(), supervisor.last, adopted};
        node.reset();
        for (const pid_t process : left) {
            if (process <= 0) continue;
            ::kill(process, SIGKILL);
            ::waitpid(process, nullptr, 0);
        }
    }

    bool until(const std::function<bool()>& condition) { return wait_for(loop, condition); }
    bool until_state(NodeState state) {
        return until([&] { return node->state() == state; });
    }
    pid_t pid() const {
        const auto description = node->describe();
        return description["pid"].is_null() ? 0 : description["pid"].get<pid_t>();
    }
    std::optional<ManagedNode::StartFailure> create() {
        bool done = false;
        std::optional<ManagedNode::StartFailure> out;
        node->create([&](auto failure) { done = true, out = failure; });
        REQUIRE(until([&] { return done; }));
        return out;
    }
    std::optional<ManagedNode::StopFailure> stop(bool force) {
        bool done = false;
        std::optional<ManagedNode::StopFailure> out;
        node->stop(force, [&](auto failure) { done = true, out = failure; });
        REQUIRE(until([&] { return done; }));
        return out;
    }
    node::Spec spec() const {
        const auto spec = node::Spec::load(environment.paths.spec("n"));
        REQUIRE(spec.has_value());
        return *spec;
    }
    void adopt() {
        adopted = spawn(supervisor.behaviour);
        REQUIRE(until([&] { return ::access(supervisor.behaviour.socket.c_str(), F_OK) == 0 && connectable(); }));
        bool settled = false;
        node->resume([&] { settled = true; });
        REQUIRE(until([&] { return settled; }));
    }
    bool connectable() {
        const auto client = control::AsyncClient::connect(loop, supervisor.behaviour.socket, 0);
        // a connection that is tried too early must not make a busy loop of the waiting
        if (!client) ::usleep(1000);
        return client.has_value();
    }
};

}  // namespace

TEST_CASE("a new node serves: its sizes are saved, and its next start would wait for the backing") {
    Scene scene;
    CHECK_FALSE(scene.create().has_value());
    CHECK(scene.node->state() == NodeState::serving);
    const auto shown = scene.node->describe();
    CHECK(shown["state"] == "serving");
    CHECK(shown["pid"] == scene.supervisor.last);
    CHECK(shown["restarts"] == 0);
    CHECK(shown["backing"]["size_bytes"] == 1 << 20);
    CHECK(shown["backing"]["present"] == true);
    CHECK(shown["forms"][0]["type"] == "fuse");
    REQUIRE_FALSE(scene.saved.empty());
    CHECK(scene.saved.back().size_bytes == 1u << 20);
    CHECK(scene.saved.back().logical_block_bytes == 4096);
    const auto spec = scene.spec();
    CHECK(spec.wait_for_backing);
    CHECK(spec.expected_size_bytes == 1u << 20);
    CHECK(spec.backing_path == "/dev/fake");
}

TEST_CASE("a first start that fails is told with the process's last words, and not tried again") {
    Scene scene;
    SUBCASE("refused by arbitration") {
        scene.supervisor.behaviour.exit_at_once = 8;
        scene.supervisor.behaviour.last_words = "'/dev/fake' is mounted on /srv\n";
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK(failure->refused);
        CHECK(failure->message == "'/dev/fake' is mounted on /srv");
    }
    SUBCASE("failed with a sentence") {
        scene.supervisor.behaviour.exit_at_once = 1;
        scene.supervisor.behaviour.last_words = "no /dev/fuse";
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK_FALSE(failure->refused);
        CHECK(failure->message == "no /dev/fuse");
    }
    SUBCASE("failed without a word") {
        scene.supervisor.behaviour.exit_at_once = 3;
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK(failure->message.find("exited with status 3") != std::string::npos);
    }
    SUBCASE("the words of an earlier process are not taken for its own") {
        REQUIRE(write_file_atomic(scene.environment.paths.error("n"), "old trouble").has_value());
        scene.supervisor.behaviour.exit_at_once = 1;
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK(failure->message.find("old trouble") == std::string::npos);
    }
    SUBCASE("the program cannot be started") {
        scene.supervisor.fails = "cannot start '/none'";
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK(failure->message.find("cannot start '/none'") != std::string::npos);
    }
    SUBCASE("it never serves: it is killed at the deadline") {
        scene.environment.settings.start_timeout = 20ms;
        scene.supervisor.behaviour.silent = true;
        const auto failure = scene.create();
        REQUIRE(failure.has_value());
        CHECK(failure->message.find("did not serve within") != std::string::npos);
        CHECK(::kill(scene.supervisor.last, 0) == -1);
    }
    CHECK(scene.supervisor.started == 1);
    CHECK(scene.supervisor.stopped >= 1);
}

TEST_CASE("a process that dies is started again and counted") {
    Scene scene;
    REQUIRE_FALSE(scene.create().has_value());
    const pid_t first = scene.pid();
    ::kill(first, SIGKILL);
    REQUIRE(scene.until([&] { return scene.node->state() == NodeState::serving && scene.pid() != first; }));
    CHECK(scene.node->describe()["restarts"] == 1);
    CHECK(scene.supervisor.started == 2);
}

TEST_CASE("a process that dies too often makes the node failed, and a slow attempt brings it back") {
    Scene scene;
    REQUIRE_FALSE(scene.create().has_value());
    scene.supervisor.behaviour.exit_at_once = 1;
    scene.supervisor.behaviour.last_words = "broken";
    const pid_t first = scene.pid();
    ::kill(first, SIGKILL);
    REQUIRE(scene.until_state(NodeState::failed));
    CHECK(scene.node->describe()["message"].get<std::string>().find("broken") != std::string::npos);
    CHECK(scene.node->describe()["pid"].is_null());
    scene.supervisor.behaviour.exit_at_once = -1;
    scene.supervisor.behaviour.last_words.clear();
    REQUIRE(scene.until_state(NodeState::serving));
    CHECK(scene.node->describe()["restarts"].get<int>() >= 5);
}

TEST_CASE("a live process is adopted, whatever its path") {
    Scene scene;
    scene.adopt();
    CHECK(scene.supervisor.started == 0);
    CHECK(scene.node->state() == NodeState::serving);
    CHECK(scene.pid() == scene.adopted);
    CHECK(scene.saved.back().backing_path == "/dev/fake");

    ::kill(scene.adopted, SIGKILL);
    REQUIRE(scene.until([&] { return scene.supervisor.started == 1 && scene.node->state() == NodeState::serving; }));
    CHECK(scene.pid() == scene.supervisor.last);
}

TEST_CASE("a node without a live process is started and waits for its backing") {
    Scene scene;
    scene.located.reset();
    bool settled = false;
    scene.node->resume([&] { settled = true; });
    CHECK_FALSE(settled);
    REQUIRE(scene.until_state(NodeState::serving));
    CHECK(settled);
    CHECK(scene.supervisor.started == 1);
    CHECK(scene.spec().wait_for_backing);
    CHECK(scene.spec().expected_size_bytes == 4096);
}

TEST_CASE("a node that cannot be started does not hold up the start of the others") {
    Scene scene;
    bool settled = false;
    SUBCASE("it ends") { scene.supervisor.behaviour.exit_at_once = 1; }
    SUBCASE("it is silent") {
        scene.environment.settings.reply_timeout = 20ms;
        scene.supervisor.behaviour.silent = true;
    }
    scene.node->resume([&] { settled = true; });
    REQUIRE(scene.until([&] { return settled; }));
    CHECK(scene.node->state() != NodeState::serving);
}

TEST_CASE("a node that is just starting is asked to stop once it can be") {
    Scene scene;
    scene.node->resume([] {});
    CHECK_FALSE(scene.stop(false).has_value());
    CHECK(scene.supervisor.started == 1);
    CHECK(::kill(scene.supervisor.last, 0) == -1);
}

TEST_CASE("under a supervisor that tells no pid the process is found by its socket") {
    Scene scene;
    scene.supervisor.like_systemd = true;
    CHECK_FALSE(scene.create().has_value());
    CHECK(scene.pid() == scene.supervisor.last);
    CHECK_FALSE(scene.stop(false).has_value());
    CHECK(scene.supervisor.stopped == 1);
}

TEST_CASE("a first start that ended is known from the supervisor's word, with its reason") {
    Scene scene;
    scene.supervisor.like_systemd = true;
    scene.supervisor.unit_state = Supervisor::Status{.running = false, .exit_code = 8};
    const auto failure = scene.create();
    REQUIRE(failure.has_value());
    CHECK(failure->refused);
    CHECK(failure->message == "its process exited with status 8");
    CHECK(scene.supervisor.stopped == 1);
}

TEST_CASE("a process that the supervisor started again by itself is taken over") {
    Scene scene;
    scene.supervisor.like_systemd = true;
    scene.environment.settings.restart.first_delay = 1h;
    scene.environment.settings.restart.longest_delay = 1h;
    REQUIRE_FALSE(scene.create().has_value());
    ::kill(scene.pid(), SIGKILL);
    REQUIRE(scene.until_state(NodeState::restarting));
    scene.adopted = spawn(scene.supervisor.behaviour);
    REQUIRE(scene.until_state(NodeState::serving));
    CHECK(scene.supervisor.started == 1);
    CHECK(scene.pid() == scene.adopted);
    CHECK(scene.node->describe()["restarts"] == 1);
}

TEST_CASE("a lost backing is opened again when it is back") {
    Scene scene;
    scene.supervisor.behaviour.state = "backing-lost";
    scene.located.reset();
    scene.node->resume([] {});
    REQUIRE(scene.until_state(NodeState::backing_lost));
    CHECK(scene.node->describe()["backing"]["present"] == false);
    scene.located = "/dev/fake2";
    scene.node->backing_changed();
    REQUIRE(scene.until_state(NodeState::serving));
}

TEST_CASE("an idle node stops; nothing of it runs and nothing starts it again") {
    Scene scene;
    REQUIRE_FALSE(scene.create().has_value());
    CHECK_FALSE(scene.stop(false).has_value());
    CHECK(::kill(scene.supervisor.last, 0) == -1);
    CHECK(scene.supervisor.started == 1);
    CHECK(scene.supervisor.stopped == 1);
}

TEST_CASE("an open node is not stopped without force, and its openers are named") {
    Scene scene;
    scene.supervisor.behaviour.busy = true;
    REQUIRE_FALSE(scene.create().has_value());
    const auto failure = scene.stop(false);
    REQUIRE(failure.has_value());
    CHECK(failure->why == ManagedNode::StopFailure::Why::busy);
    REQUIRE(failure->openers.size() == 1);
    CHECK(failure->openers[0] == "qemu (pid 4711) has it open for write since 2026-11-22T12:00:00Z");
    CHECK(scene.node->state() == NodeState::serving);
    CHECK_FALSE(scene.stop(true).has_value());
}

TEST_CASE("a process that agrees to stop and does not end is killed") {
    Scene scene;
    scene.environment.settings.reply_timeout = 30ms;
    scene.supervisor.behaviour.ignores_stop = true;
    REQUIRE_FALSE(scene.create().has_value());
    CHECK_FALSE(scene.stop(false).has_value());
    CHECK(::kill(scene.supervisor.last, 0) == -1);
}

TEST_CASE("a node whose process is gone can be stopped") {
    Scene scene;
    scene.environment.settings.restart.first_delay = 1h;
    scene.environment.settings.restart.longest_delay = 1h;
    REQUIRE_FALSE(scene.create().has_value());
    ::kill(scene.pid(), SIGKILL);
    REQUIRE(scene.until_state(NodeState::restarting));
    CHECK_FALSE(scene.stop(false).has_value());
    CHECK(scene.supervisor.started == 1);
}

TEST_CASE("a frozen process is removed by force only") {
    Scene scene;
    scene.environment.settings.start_timeout = 5s;
    REQUIRE_FALSE(scene.create().has_value());
    scene.environment.settings.start_timeout = 30ms;
    ::kill(scene.pid(), SIGSTOP);
    const auto failure = scene.stop(false);
    REQUIRE(failure.has_value());
    CHECK(failure->why == ManagedNode::StopFailure::Why::unavailable);
    CHECK(failure->message.find("by force") != std::string::npos);
    CHECK_FALSE(scene.stop(true).has_value());
    CHECK(::kill(scene.supervisor.last, 0) == -1);
}

TEST_CASE("a stop that waits is raised to one by force") {
    Scene scene;
    REQUIRE_FALSE(scene.create().has_value());
    std::optional<std::optional<ManagedNode::StopFailure>> ended;
    const auto stop = [&] { scene.node->stop(false, [&](const auto& failure) { ended = failure; }); };
    SUBCASE("of a frozen process") {
        scene.environment.settings.start_timeout = 1h;
        scene.environment.settings.reply_timeout = 30ms;
        ::kill(scene.pid(), SIGSTOP);
        stop();
    }
    SUBCASE("of a process that is coming up and does not serve") {
        scene.environment.settings.start_timeout = 1h;
        scene.environment.settings.reply_timeout = 30ms;
        scene.supervisor.behaviour.silent = true;
        ::kill(scene.pid(), SIGKILL);
        REQUIRE(scene.until([&] { return scene.supervisor.started == 2; }));
        stop();
    }
    scene.node->hurry();
    REQUIRE(scene.until([&] { return ended.has_value(); }));
    CHECK_FALSE(ended->has_value());
    CHECK(::kill(scene.supervisor.last, 0) == -1);
}

TEST_CASE("what was answered before the stop was raised does not count any more") {
    Scene scene;
    scene.supervisor.behaviour.busy = true;
    REQUIRE_FALSE(scene.create().has_value());
    int answers = 0;
    std::optional<ManagedNode::StopFailure> failed;
    scene.node->stop(false, [&](const auto& failure) { ++answers, failed = failure; });
    scene.node->hurry();
    REQUIRE(scene.until([&] { return answers == 1; }));
    CHECK_FALSE(failed.has_value());
    CHECK(::kill(scene.supervisor.last, 0) == -1);
    // nothing is left of it for the next
    scene.node->hurry();
    scene.node->resume([] {});
    REQUIRE(scene.until_state(NodeState::serving));
    CHECK(scene.stop(false).has_value());
    CHECK(answers == 1);
}

TEST_CASE("statistics come from the process, an error when there is none") {
    Scene scene;
    REQUIRE_FALSE(scene.create().has_value());
    std::optional<Result<nlohmann::json>> stat;
    scene.node->stat([&](auto result) { stat.emplace(std::move(result)); });
    REQUIRE(scene.until([&] { return stat.has_value(); }));
    REQUIRE(stat->has_value());
    CHECK((**stat)["time_ns"] == 1);
    REQUIRE_FALSE(scene.stop(false).has_value());
    stat.reset();
    scene.node->stat([&](auto result) { stat.emplace(std::move(result)); });
    REQUIRE(scene.until([&] { return stat.has_value(); }));
    CHECK_FALSE(stat->has_value());
}
