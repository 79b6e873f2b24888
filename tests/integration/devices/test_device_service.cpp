// The device service on mocked events, over its own Varlink interface: events, names, sharing decisions, rescan.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <optional>

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "control/client.hpp"
#include "control/server.hpp"
#include "daemon/device_service.hpp"
#include "tests/integration/devices/hotplug.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace storctl::test;
using nlohmann::json;

namespace {

const std::string one = "5000c50000000001", two = "5000c50000000002";

/// A stord of nothing but the device service.
struct Host {
    EventLoop loop = EventLoop::create().value();
    StateDb db;
    EventHub hub;
    std::vector<Event> events;
    std::vector<std::string> heard;
    std::unique_ptr<DeviceService> service;
    std::unique_ptr<control::Server> server;
    std::unique_ptr<control::AsyncClient> client;

    explicit Host(const TemporaryFolder& folder) : db(StateDb::open(folder / "state.db").value()) {
        hub.listen([this](const Event& event) { events.push_back(event); });
        service = DeviceService::open(loop, db, hub, {.host = "h1"}).value();
        service->on_device_event([this](const std::string& id) { heard.push_back(id); });
        REQUIRE(service->coldplug().has_value());
        server = control::Server::listen(loop, {.socket_path = folder / "socket"}).value();
        REQUIRE(service->serve(*server).has_value());
        client = control::AsyncClient::connect(loop, folder / "socket", 0).value();
    }

    control::Reply call(const std::string& method, json parameters) {
        std::optional<Result<control::Reply>> reply;
        client->call("io.storctl.Device." + method, std::move(parameters), std::chrono::seconds(10),
                     [&](Result<control::Reply> got) { reply = std::move(got); });
        run_until(loop, "an answer", [&] { return reply.has_value(); });
        REQUIRE(reply->has_value());
        return std::move(**reply);
    }
    json device(const std::string& name) {
        const auto reply = call("Show", {{"id", name}});
        REQUIRE_FALSE(reply.error.has_value());
        return reply.parameters["device"];
    }
    void wait_for(const std::string& event, const std::string& subject) {
        run_until(loop, event + " of " + subject, [&] {
            for (const auto& seen : events) {
                if (seen.event == event && seen.subject == subject) return true;
            }
            return false;
        });
    }
};

}  // namespace

TEST_CASE("devices that come, change and go are told") {
    Testbed testbed;
    TemporaryFolder folder;
    const auto first = testbed.add_disk(1, one);
    Host host(folder);
    CHECK(host.events.empty());  // what is there at start is no news
    CHECK(host.service->total() == 1);

    const auto second = testbed.add_disk(2, two);
    host.wait_for("device-added", "naa5." + two);
    CHECK(host.events.back().detail["name"] == "sd2");
    CHECK(host.heard == std::vector<std::string>{"naa5." + two});

    testbed.set(first, "size", "4096");
    testbed.event(first, "change");
    host.wait_for("device-changed", "naa5." + one);
    CHECK(host.events.back().detail["size_bytes"] == 4096 * 512);

    const auto count = host.events.size();
    testbed.event(first, "change");  // nothing has changed: nothing is told
    testbed.remove(second);
    host.wait_for("device-removed", "naa5." + two);
    CHECK(host.events.size() == count + 1);
    CHECK(host.events.back().detail.is_null());
    CHECK(host.service->total() == 1);
}

TEST_CASE("a twin puts both into conflict until it goes") {
    Testbed testbed;
    TemporaryFolder folder;
    testbed.add_disk(1, one);
    Host host(folder);
    CHECK(host.service->conflicts() == 0);
    const auto twin = testbed.add_disk(2, one);
    host.wait_for("device-removed", "naa5." + one);
    CHECK(host.service->conflicts() == 2);
    CHECK(host.service->findings().size() == 2);
    const auto match = host.service->find(one);
    CHECK(match.outcome == DeviceMatch::Outcome::ambiguous);
    CHECK(match.candidates.size() == 2);
    const auto refused = host.call("SetSharing", {{"id", "sd1"}, {"value", "true"}});
    CHECK(refused.error == "io.storctl.Device.Refused");
    CHECK(refused.parameters["blockers"].size() == 1);
    CHECK_FALSE(host.call("SetSharing", {{"id", "sd1"}, {"value", "false"}}).error.has_value());

    testbed.remove(twin);
    host.wait_for("device-added", "naa5." + one);
    CHECK(host.service->conflicts() == 0);
    CHECK(host.service->find(one).outcome == DeviceMatch::Outcome::found);
}

TEST_CASE("a decision about sharing survives rescans, absence and restarts") {
    Testbed testbed;
    TemporaryFolder folder;
    const auto path = testbed.add_disk(1, one);
    {
        Host host(folder);
        CHECK(host.device("sd1")["sharing"]["basis"] == "default");
        const auto reply = host.call("SetSharing", {{"id", "sd1"}, {"value", "true"}, {"reason", "two hosts cabled"}});
        REQUIRE_FALSE(reply.error.has_value());
        const auto& sharing = reply.parameters["device"]["sharing"];
        CHECK(sharing["shared"] == true);
        CHECK(sharing["basis"] == "admin");
        CHECK(sharing["reason"] == "two hosts cabled");
        CHECK(sharing["author"].get<std::string>().find("uid ") != std::string::npos);
        CHECK_FALSE(sharing["time"].is_null());
        CHECK(host.service->shared() == 1);
        host.wait_for("device-changed", "naa5." + one);
        CHECK(host.call("Rescan", json::object()).parameters ==
              json{{"added", json::array()}, {"removed", json::array()}, {"changed", json::array()}});
        CHECK(host.device("sd1")["sharing"]["basis"] == "admin");
        testbed.remove(path);
        host.wait_for("device-removed", "naa5." + one);
    }
    Host host(folder);
    testbed.add_disk(5, one);
    host.wait_for("device-added", "naa5." + one);
    CHECK(host.device("sd5")["sharing"]["shared"] == true);
    CHECK(host.device("sd5")["sharing"]["basis"] == "admin");
    REQUIRE_FALSE(host.call("SetSharing", {{"id", "sd5"}, {"value", "auto"}}).error.has_value());
    CHECK(host.device("sd5")["sharing"]["basis"] == "default");
    CHECK(host.db.sharing_overrides().value().empty());
}

TEST_CASE("a decision follows a device that learns a better identifier") {
    Testbed testbed;
    TemporaryFolder folder;
    const auto path = testbed.add_disk(1, "");
    testbed.set_property(path, "ID_SERIAL_SHORT", "S-1");
    Host host(folder);
    CHECK(host.device("sd1")["id"] == "model-serial.ACME_Disk_S-1");
    REQUIRE_FALSE(host.call("SetSharing", {{"id", "sd1"}, {"value", "true"}}).error.has_value());
    testbed.set(dir_name(path), "wwid", "naa." + one);
    testbed.event(path, "change");
    host.wait_for("device-added", "naa5." + one);
    CHECK(host.device("sd1")["sharing"]["basis"] == "admin");
    // a new decision takes the old one's place
    REQUIRE_FALSE(host.call("SetSharing", {{"id", "sd1"}, {"value", "false"}}).error.has_value());
    const auto stored = host.db.sharing_overrides().value();
    REQUIRE(stored.size() == 1);
    CHECK(stored[0].device_id == "naa5." + one);
}

TEST_CASE("mistakes change nothing and say what is wrong") {
    Testbed testbed;
    TemporaryFolder folder;
    testbed.add_disk(1, one);
    Host host(folder);
    CHECK(host.call("Show", {{"id", "nothing"}}).error == "io.storctl.Device.NotFound");
    CHECK(host.call("SetSharing", {{"id", "nothing"}, {"value", "true"}}).error == "io.storctl.Device.NotFound");
    auto reply = host.call("SetSharing", {{"id", "sd1"}, {"value", "maybe"}});
    CHECK(reply.error == "io.storctl.Device.InvalidValue");
    CHECK(reply.parameters["parameter"] == "value");
    for (const auto& reason : {std::string("two\nlines"), std::string(300, 'x'), std::string("bell\a")}) {
        reply = host.call("SetSharing", {{"id", "sd1"}, {"value", "true"}, {"reason", reason}});
        CHECK(reply.error == "io.storctl.Device.InvalidValue");
        CHECK(reply.parameters["parameter"] == "reason");
    }
    CHECK(host.db.sharing_overrides().value().empty());
    CHECK(host.events.empty());
}

TEST_CASE("rescan answers with what it found") {
    Testbed testbed;
    TemporaryFolder folder;
    const auto first = testbed.add_disk(1, one);
    Host host(folder);
    testbed.set(first, "ro", "1");  // without an event
    const auto reply = host.call("Rescan", json::object());
    CHECK(reply.parameters["changed"] == json{"naa5." + one});
    CHECK(host.device(one)["read_only"] == true);
    CHECK(host.call("List", json::object()).parameters["devices"].size() == 1);
}

TEST_CASE("a node is shown on its device") {
    Testbed testbed;
    TemporaryFolder folder;
    testbed.add_disk(1, one);
    Host host(folder);
    host.service->set_node_on("naa5." + one, "web1");
    CHECK(host.device("sd1")["in_use"] == json{"node web1"});
    host.wait_for("device-changed", "naa5." + one);
    REQUIRE(host.call("Rescan", json::object()).parameters["changed"].empty());
    CHECK(host.device("sd1")["in_use"] == json{"node web1"});
    host.service->set_node_on("naa5." + one, "");
    CHECK(host.device("sd1")["in_use"].empty());
}

TEST_CASE("a device that its maker gave no clean name is still described") {
    Testbed testbed;
    TemporaryFolder folder;
    const auto path = testbed.add_disk(1, one);
    testbed.set(dir_name(path), "model", "D\xff\xfe");
    Host host(folder);
    CHECK(host.device("sd1")["model"] == "D\\xff\\xfe");
}
