// Persistent reservations between a node's process, stord and what it stores.

#include "tests/unit/run_sql.hpp"
#include "tests/unit/usb_node_host.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;
using nlohmann::json;
using node::scsi::Registration;
using node::scsi::ReservationState;

namespace {

const std::string disk = "naa6.60014050001";
const Registration by_host{{"alpha:host", 1}, 0xabc};
const Registration by_machine{{"alpha:vm:web1", 1}, 0xdef};

ReservationState state(uint64_t version, std::vector<Registration> registrations) {
    return {
        .version = version, .generation = static_cast<uint32_t>(version), .registrations = std::move(registrations)};
}

/// stord's side of nodes over one device, without the services around; processes outlive it.
struct Scene {
    TemporaryFolder folder;
    EventLoop loop = *EventLoop::create();
    std::map<std::string, FakeNode> behaviour;
    std::vector<pid_t> started;
    NodePaths paths{.run_dir = folder.path(), .dev_dir = folder / "dev"};
    NodeSupervisor supervisor{paths, behaviour, started};
    std::optional<StateDb> db;
    std::unique_ptr<ReservationStore> store;
    std::optional<NodeEnvironment> environment;
    std::map<std::string, std::unique_ptr<ManagedNode>> nodes;
    std::vector<std::string> changed;

    Scene() {
        REQUIRE(make_directories(folder / "node").has_value());
        start();
    }
    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;
    ~Scene() {
        kill_stord();
        for (const pid_t pid : started) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    }
    void kill_stord() {
        nodes.clear();
        environment.reset();
        store.reset();
        db.reset();
    }
    void start(const std::string& boot_id = "boot-1") {
        kill_stord();
        auto opened = StateDb::open(folder / "state.db");
        REQUIRE(opened.has_value());
        db.emplace(std::move(*opened));
        auto made = open_reservation_store(*db, boot_id);
        REQUIRE_MESSAGE(made, made.error().message());
        store = std::move(*made);
        environment.emplace(NodeEnvironment{
            .loop = loop,
            .supervisor = supervisor,
            .reservations = *store,
            .paths = paths,
            .settings = {.start_timeout = 20s, .restart = {.first_delay = 1ms, .longest_delay = 4ms}, .host = "alpha"},
            .changed = [this](const std::string& name) { changed.push_back(name); },
            .save = [](const NodeRecord&) {},
            .locate = [](const NodeRecord&) { return std::optional<std::string>("/dev/fake"); }});
    }
    bool until(const std::function<bool()>& condition) { return wait_for(loop, condition); }
    ManagedNode& open(const std::string& name) {
        auto node = ManagedNode::open(
            *environment,
            {.name = name, .device_id = disk, .backing_path = "/dev/fake", .backing_kind = "block", .open = "shared"});
        REQUIRE(node.has_value());
        return *(nodes[name] = std::move(*node));
    }
    void create(const std::string& name) {
        bool served = false;
        open(name).create([&](const auto& failure) {
            REQUIRE_FALSE(failure.has_value());
            served = true;
        });
        REQUIRE(until([&] { return served; }));
    }
    void adopt(const std::string& name) {
        bool settled = false;
        open(name).resume([&] { settled = true; });
        REQUIRE(until([&] { return settled; }));
    }
    /// As the process itself says.
    json described(const std::string& name) {
        auto client = control::AsyncClient::connect(loop, paths.socket(name), 0);
        if (!client) return nullptr;
        std::optional<json> out;
        (*client)->call("io.storctl.NodeProcess.Describe", json::object(), 10s, [&](const auto& reply) {
            out = reply ? reply->parameters.value("description", json()) : json();
        });
        REQUIRE(until([&] { return out.has_value(); }));
        return *out;
    }
    bool until_in_force(const std::string& name, const ReservationState& expected) {
        const auto deadline = std::chrono::steady_clock::now() + 10s;
        const json wanted = node::reservations_json(expected);
        while (std::chrono::steady_clock::now() < deadline) {
            const json now = described(name);
            if (now.is_object() && now["reservations"] == wanted && now["proposed"].is_null()) return true;
        }
        return false;
    }
    std::vector<ReservationRecord> stored() {
        auto records = db->reservations();
        REQUIRE_MESSAGE(records, records.error().message());
        return *records;
    }
    ReservationState in_spec(const std::string& name) {
        const auto spec = node::Spec::load(paths.spec(name));
        REQUIRE(spec.has_value());
        return spec->reservations;
    }
    Result<ReservationState> propose(const ReservationState& proposed, const std::string& device = disk) {
        std::optional<Result<ReservationState>> out;
        store->propose(device, proposed, [&](auto result) { out = std::move(result); });
        REQUIRE(out.has_value());
        return *out;
    }
};

}  // namespace

TEST_CASE("what a node proposes is stored and in its specification before the node is answered") {
    Scene scene;
    scene.behaviour["a"].registers = by_host;
    scene.create("a");
    const auto expected = state(1, {by_host});
    REQUIRE(scene.until_in_force("a", expected));
    CHECK(scene.described("a")["message"] == "stored, version 1, specification 1");
    REQUIRE(scene.stored().size() == 1);
    CHECK(scene.stored()[0].device == disk);
    CHECK(scene.stored()[0].state == expected);
    CHECK(scene.stored()[0].boot_id == "boot-1");
    CHECK(scene.in_spec("a") == expected);
    CHECK(scene.nodes["a"]->describe()["reservations"] == node::reservations_json(expected));
}

TEST_CASE("a node that proposed a change of an older version gets the stored one, and decides again") {
    Scene scene;
    REQUIRE(scene.propose(state(1, {by_machine})).has_value());
    scene.behaviour["a"].registers = by_host;
    scene.behaviour["a"].old_spec = true;
    scene.create("a");
    const auto expected = state(2, {by_host, by_machine});
    REQUIRE(scene.until_in_force("a", expected));
    CHECK(scene.described("a")["message"] == "stored, version 2, specification 2");
    REQUIRE(scene.stored().size() == 1);
    CHECK(scene.stored()[0].state == expected);
}

TEST_CASE("what cannot be stored is told to the node with the reason, and nothing has changed") {
    Scene scene;
    run_sql(scene.folder / "state.db",
            "CREATE TRIGGER no BEFORE INSERT ON reservation BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    scene.behaviour["a"].registers = by_host;
    scene.create("a");
    REQUIRE(scene.until_in_force("a", state(0, {})));
    const std::string message = scene.described("a")["message"];
    CHECK(message.starts_with("failed: state database"));
    CHECK(message.find("disk full") != std::string::npos);
    CHECK(message.ends_with("version 0, specification 0"));
    CHECK(scene.stored().empty());
    CHECK(scene.nodes["a"]->describe()["reservations"] == node::reservations_json({}));
}

TEST_CASE("a stord that was killed after it stored a change left it to the next one to say so") {
    Scene scene;
    const auto expected = state(1, {by_host});
    scene.behaviour["a"].registers = by_host;
    scene.behaviour["a"].old_spec = true;
    // the process runs, has proposed, and nobody has answered
    {
        node::Spec spec{.name = "a",
                        .backing_path = "/dev/fake",
                        .control_socket = scene.paths.socket("a"),
                        .mount_path = scene.paths.mount("a")};
        REQUIRE(write_file_atomic(scene.paths.spec("a"), spec.to_json()).has_value());
        scene.supervisor.start("a", [](const auto&) {});
        REQUIRE(scene.until([&] { return scene.described("a").is_object() || ::usleep(1000) != 0; }));
    }
    REQUIRE(scene.propose(expected).has_value());
    scene.start();
    scene.adopt("a");
    REQUIRE(scene.until_in_force("a", expected));
    CHECK(scene.described("a")["message"] == "stored, version 1, specification 1");
    CHECK(scene.stored()[0].state == expected);
    CHECK(scene.started.size() == 1);
}

TEST_CASE("a node that was started from an older specification is brought up to date") {
    Scene scene;
    const auto expected = state(5, {by_host, by_machine});
    REQUIRE(scene.propose(expected).has_value());
    scene.behaviour["a"].old_spec = true;
    scene.create("a");
    REQUIRE(scene.until_in_force("a", expected));
    CHECK(scene.described("a")["message"] == "set, version 5, specification 5");
}

TEST_CASE("a node whose process dies starts again with what was stored") {
    Scene scene;
    scene.behaviour["a"].registers = by_host;
    scene.create("a");
    const auto expected = state(1, {by_host});
    REQUIRE(scene.until_in_force("a", expected));
    ::kill(scene.started.back(), SIGKILL);
    REQUIRE(
        scene.until([&] { return scene.started.size() == 2 && scene.nodes["a"]->describe()["state"] == "serving"; }));
    REQUIRE(scene.until_in_force("a", expected));
    CHECK(scene.described("a")["message"] == "");  // it was told nothing: its specification had it
}

TEST_CASE("two nodes of one device have the same reservations") {
    Scene scene;
    SUBCASE("one of them registers") {
        scene.create("b");
        scene.behaviour["a"].registers = by_host;
        scene.create("a");
        const auto expected = state(1, {by_host});
        REQUIRE(scene.until_in_force("a", expected));
        REQUIRE(scene.until_in_force("b", expected));
        CHECK(scene.described("b")["message"] == "set, version 1, specification 1");
        CHECK(scene.in_spec("b") == expected);
        CHECK(std::count(scene.changed.begin(), scene.changed.end(), "b") > 0);
    }
    SUBCASE("both register, each of them without knowing of the other") {
        for (const char* name : {"a", "b"}) scene.behaviour[name].old_spec = true;
        scene.behaviour["a"].registers = by_host;
        scene.behaviour["b"].registers = by_machine;
        scene.create("a");
        scene.create("b");
        const auto expected = state(2, {by_host, by_machine});
        REQUIRE(scene.until_in_force("a", expected));
        REQUIRE(scene.until_in_force("b", expected));
        REQUIRE(scene.stored().size() == 1);
        CHECK(scene.stored()[0].state == expected);
        CHECK(scene.in_spec("a") == expected);
        CHECK(scene.in_spec("b") == expected);
    }
}

TEST_CASE("what a living node has comes back when the database has lost it") {
    Scene scene;
    scene.behaviour["a"].registers = by_host;
    scene.create("a");
    const auto expected = state(1, {by_host});
    REQUIRE(scene.until_in_force("a", expected));
    scene.kill_stord();
    run_sql(scene.folder / "state.db", "DELETE FROM reservation");
    scene.start();
    CHECK(scene.stored().empty());
    scene.adopt("a");
    REQUIRE(scene.until([&] { return !scene.stored().empty(); }));
    CHECK(scene.stored()[0].state == expected);
    CHECK(scene.in_spec("a") == expected);
    REQUIRE(scene.until_in_force("a", expected));
}

TEST_CASE("the store takes the version after its own, and says what it has to everything else") {
    Scene scene;
    CHECK_FALSE(scene.store->known(disk).has_value());
    int told = 0;
    const auto watch = scene.store->watch(disk, [&] { ++told; });
    const auto first = state(1, {by_host}), second = state(2, {by_host, by_machine});
    CHECK(*scene.propose(first) == first);
    CHECK(*scene.propose(state(1, {by_machine})) == first);
    CHECK(*scene.propose(state(3, {by_machine})) == first);
    CHECK(told == 1);
    CHECK(*scene.propose(second) == second);
    CHECK(*scene.propose(first, "another") == first);
    CHECK(told == 2);
    CHECK(scene.store->known(disk) == second);
    run_sql(scene.folder / "state.db", "UPDATE reservation SET version = 77");
    const auto refused = scene.propose(state(3, {by_machine}));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message().find(disk) != std::string::npos);
    CHECK(scene.store->known(disk) == second);
    CHECK(told == 2);
}

TEST_CASE("a watch that has ended hears nothing, also when it ends while others are told") {
    Scene scene;
    int told = 0;
    std::optional<ReservationStore::Watch> second;
    const auto first = scene.store->watch(disk, [&] {
        ++told;
        second.reset();
    });
    second = scene.store->watch(disk, [&] { told += 100; });
    REQUIRE(scene.propose(state(1, {})).has_value());
    CHECK(told == 1);
}

TEST_CASE("registrations without APTPL end with the host's reboot, and with nothing else") {
    Scene scene;
    auto lasting = state(4, {by_host});
    lasting.persists = true;
    lasting.type = node::scsi::ReservationType::write_exclusive;
    lasting.holder = by_host.nexus;
    const auto passing = state(3, {by_machine});
    REQUIRE(scene.propose(passing, "passing").has_value());
    REQUIRE(scene.propose(lasting, "lasting").has_value());
    SUBCASE("stord was restarted") {
        scene.start("boot-1");
        CHECK(scene.store->known("passing") == passing);
        CHECK(scene.store->known("lasting") == lasting);
    }
    SUBCASE("which boot it is cannot be told") {
        scene.start("");
        CHECK(scene.store->known("passing") == passing);
        CHECK(scene.store->known("lasting") == lasting);
    }
    SUBCASE("the host was restarted") {
        scene.start("boot-2");
        CHECK_FALSE(scene.store->known("passing").has_value());
        const auto left = node::scsi::after_power_loss(lasting);
        REQUIRE(left.registrations.size() == 1);
        CHECK(scene.store->known("lasting") == left);
        REQUIRE(scene.stored().size() == 1);
        CHECK(scene.stored()[0].boot_id == "boot-2");
        scene.start("boot-2");
        CHECK(scene.store->known("lasting") == left);
    }
}

TEST_CASE("of a device without nodes only registrations are kept") {
    Scene scene;
    REQUIRE(scene.propose(state(3, {by_host}), "registered").has_value());
    REQUIRE(scene.propose(state(9, {}), "empty").has_value());
    for (const char* device : {"registered", "empty", "never"}) scene.store->released(device);
    CHECK(scene.store->known("registered").has_value());
    CHECK_FALSE(scene.store->known("empty").has_value());
    REQUIRE(scene.stored().size() == 1);
    CHECK(scene.stored()[0].device == "registered");
}

TEST_CASE("reservations are summed up in a line") {
    CHECK(reservations_summary(node::reservations_json({})) == "no persistent reservations");
    CHECK(reservations_summary(nullptr) == "no persistent reservations");
    auto some = state(1, {by_host, by_machine});
    CHECK(reservations_summary(node::reservations_json(some)) == "nothing reserved, 2 registered");
    some.type = node::scsi::ReservationType::write_exclusive;
    some.holder = by_host.nexus;
    CHECK(reservations_summary(node::reservations_json(some)) == "write-exclusive for alpha:host, 2 registered");
    some.type = node::scsi::ReservationType::exclusive_access_all_registrants;
    some.holder.reset();
    CHECK(reservations_summary(node::reservations_json(some)) ==
          "exclusive-access-all-registrants for all who are registered, 2 registered");
}
