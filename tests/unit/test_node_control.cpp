#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "control/client.hpp"
#include "daemon/node/node_control.hpp"
#include "daemon/node/reservation_json.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/wait_for.hpp"

using namespace storctl;
using namespace storctl::node;
using namespace storctl::test;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

struct Scene {
    TemporaryFolder folder;
    EventLoop loop = *EventLoop::create();
    std::unique_ptr<NodeControl> control;
    Description shown{.name = "n", .state = "serving"};
    std::vector<std::pair<scsi::ReservationState, std::optional<std::string>>> told;
    std::string refusal;

    NodeControl::Handlers handlers() {
        return {
            .describe = [this] { return shown; },
            .stats = [] { return json::object(); },
            .reopen = [](const std::string&) { return Result<void>(); },
            .refresh = [] {},
            .stop = [](bool) { return std::vector<Opener>(); },
            .set_reservations = [this](scsi::ReservationState state, std::optional<std::string> error) -> Result<void> {
                if (!refusal.empty()) return make_error(std::errc::invalid_argument, refusal);
                told.emplace_back(std::move(state), std::move(error));
                return {};
            }};
    }
    void serve(NodeControl::Handlers given) {
        const std::string socket = folder / "n.socket";
        auto claimed = NodeControl::claim(loop, {.name = "n", .control_socket = socket});
        REQUIRE(claimed.has_value());
        control = std::move(*claimed);
        REQUIRE(control->serve(std::move(given)).has_value());
    }
    control::Reply call(const std::string& method, const json& parameters) {
        auto client = control::AsyncClient::connect(loop, folder / "n.socket", 0);
        REQUIRE(client.has_value());
        std::optional<control::Reply> answer;
        (*client)->call("io.storctl.NodeProcess." + method, parameters, 10s, [&](Result<control::Reply> reply) {
            REQUIRE_MESSAGE(reply, reply.error().message());
            answer = std::move(*reply);
        });
        REQUIRE(wait_for(loop, [&] { return answer.has_value(); }));
        return std::move(*answer);
    }
};

scsi::ReservationState registered() {
    return {.version = 3, .generation = 2, .registrations = {{{"alpha:host", 1}, 0xabc}}};
}

constexpr auto not_taken = "io.storctl.NodeProcess.ReservationsNotTaken";

}  // namespace

TEST_CASE("what is stored of the reservations reaches the node, with the reason why it is not what was proposed") {
    Scene scene;
    scene.serve(scene.handlers());
    const json state = reservations_json(registered());
    CHECK_FALSE(scene.call("SetReservations", {{"reservations", state}}).error.has_value());
    CHECK_FALSE(scene.call("SetReservations", {{"reservations", state}, {"error", "disk full"}}).error.has_value());
    REQUIRE(scene.told.size() == 2);
    CHECK(scene.told[0].first == registered());
    CHECK_FALSE(scene.told[0].second.has_value());
    CHECK(scene.told[1].first == registered());
    CHECK(scene.told[1].second == "disk full");
}

TEST_CASE("reservations that hold together for nobody do not reach the node") {
    Scene scene;
    scene.serve(scene.handlers());
    json state = reservations_json(registered());
    state["registrations"][0]["key"] = "0x0000000000000000";
    const auto reply = scene.call("SetReservations", {{"reservations", state}});
    CHECK(reply.error == not_taken);
    CHECK(reply.parameters.at("message").get<std::string>().find("without a key") != std::string::npos);
    CHECK(scene.told.empty());
}

TEST_CASE("why reservations are not taken is told") {
    Scene scene;
    auto handlers = scene.handlers();
    std::string expected;
    SUBCASE("by a node that has none") {
        handlers.set_reservations = {};
        expected = "has no persistent reservations";
    }
    SUBCASE("by the node") {
        scene.refusal = "it is ending";
        expected = "it is ending";
    }
    scene.serve(std::move(handlers));
    const auto reply = scene.call("SetReservations", {{"reservations", reservations_json(registered())}});
    CHECK(reply.error == not_taken);
    CHECK(reply.parameters.at("message").get<std::string>().find(expected) != std::string::npos);
}

TEST_CASE("a description carries reservations as the interface says, or none") {
    Scene scene;
    SUBCASE("none") {}
    SUBCASE("in force and proposed") {
        scene.shown.reservations = scsi::ReservationState{.version = 2};
        scene.shown.proposed = registered();
    }
    scene.serve(scene.handlers());
    const auto reply = scene.call("Describe", json::object());
    REQUIRE_FALSE(reply.error.has_value());
    CHECK(reply.parameters.at("description") == to_json(scene.shown));
}
