#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.hpp"
#include "control/interfaces.hpp"
#include "tests/unit/test_control.hpp"

namespace storctl::test {

std::vector<control::Method> TestServer::methods() {
    using control::Access;
    using control::Call;
    return {
        {.name = "Echo",
         .handler =
             [this](Call call) {
                 ++echoes;
                 call.reply({{"text", call.parameters()["text"]}});
             }},
        {.name = "Change",
         .access = Access::change,
         .handler =
             [this](Call call) {
                 ++changes;
                 call.reply(Json::object());
             }},
        {.name = "Stream",
         .handler =
             [](Call call) {
                 const int count = call.parameters()["count"];
                 for (int i = 1; i < count; ++i) {
                     if (!call.reply_continues({{"number", i}})) return;
                 }
                 call.reply({{"number", count}});
             }},
        {.name = "Flood",
         .handler =
             [this](Call call) {
                 while (call.reply_continues({{"data", std::string(1 << 16, 'x')}})) {
                 }
                 ++flood_ended;
             }},
        {.name = "Later",
         .handler =
             [this](Call call) {
                 call.on_disconnect([this] { ++disconnects; });
                 kept.push_back(std::move(call));
             }},
        {.name = "Wrong",
         .handler =
             [](Call call) {
                 call.reply({{"text", 17}});
             }},
        {.name = "Drop", .handler = [](Call) {}},
        {.name = "Throw", .handler = [](Call call) { call.reply(call.parameters().at("none")); }},
        {.name = "Fail",
         .handler =
             [](Call call) {
                 call.error(call.parameters()["error"].get<std::string>(), call.parameters()["parameters"]);
             }},
        {.name = "Missing"},
    };
}

}  // namespace storctl::test

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;

TEST_CASE("a server answers calls") {
    TestServer server;
    auto client = control::Client::connect(server.path());
    REQUIRE(client);

    SUBCASE("with what the handler says") {
        const auto reply = (*client)->call("org.example.test.Echo", {{"text", "hällo\n"}}, patience);
        REQUIRE(reply);
        CHECK_FALSE(reply->error);
        CHECK(reply->parameters == Json{{"text", "hällo\n"}});
    }
    SUBCASE("GetInfo names the interfaces") {
        const auto reply = (*client)->call("org.varlink.service.GetInfo", Json::object(), patience);
        REQUIRE(reply);
        CHECK(reply->parameters["interfaces"] == Json{"org.example.test", "org.varlink.service"});
        CHECK(reply->parameters["vendor"] == "storctl");
    }
    SUBCASE("GetInterfaceDescription gives the text") {
        const std::string method = "org.varlink.service.GetInterfaceDescription";
        auto reply = (*client)->call(method, {{"interface", "org.example.test"}}, patience);
        REQUIRE(reply);
        CHECK(reply->parameters["description"] == std::string(test_interface));
        reply = (*client)->call(method, {{"interface", "org.varlink.service"}}, patience);
        REQUIRE(reply);
        CHECK(reply->parameters["description"] == std::string(control::org_varlink_service));
        reply = (*client)->call(method, {{"interface", "org.none"}}, patience);
        REQUIRE(reply);
        CHECK(reply->error == "org.varlink.service.InterfaceNotFound");
        CHECK(reply->parameters == Json{{"interface", "org.none"}});
    }
    SUBCASE("a stream in order until its end") {
        std::vector<int> numbers;
        const auto done = (*client)->subscribe("org.example.test.Stream", {{"count", 500}}, [&](const auto& reply) {
            numbers.push_back(reply.parameters["number"]);
            CHECK(reply.continues == (numbers.size() < 500));
            return true;
        });
        REQUIRE(done);
        REQUIRE(numbers.size() == 500);
        CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    }
}

TEST_CASE("what a call gets that cannot be served") {
    struct Row {
        const char* name;
        std::string method;
        Json parameters;
        std::string error;
        Json answer;
    };
    const std::string test = "org.example.test.";
    const std::string service = "org.varlink.service.";
    const std::vector<Row> rows{
        {"an interface that is not there",
         "org.none.Go",
         {},
         service + "InterfaceNotFound",
         {{"interface", "org.none"}}},
        {"a method that is not there", test + "Go", {}, service + "MethodNotFound", {{"method", test + "Go"}}},
        {"a method without a handler",
         test + "Missing",
         {},
         service + "MethodNotImplemented",
         {{"method", test + "Missing"}}},
        {"no interface",
         "Go",
         {},
         service + "InvalidParameter",
         {{"parameter", "method"}, {"message", "method: expected INTERFACE.METHOD"}}},
        {"a parameter of the wrong type",
         test + "Echo",
         {{"text", 1}},
         service + "InvalidParameter",
         {{"parameter", "text"}, {"message", "parameters.text: expected string, got int"}}},
        {"a parameter too few",
         test + "Echo",
         {},
         service + "InvalidParameter",
         {{"parameter", "text"}, {"message", "parameters.text: is missing"}}},
        {"a parameter too many",
         test + "Echo",
         {{"text", ""}, {"more", 1}},
         service + "InvalidParameter",
         {{"parameter", "more"}, {"message", "parameters.more: is not known here"}}},
        {"a wrong member deep inside",
         test + "Echo",
         {{"text", ""}, {"item", {{"name", ""}, {"size", 1}, {"tags", {"a", nullptr}}}}},
         service + "InvalidParameter",
         {{"parameter", "item"}, {"message", "parameters.item.tags[1]: expected string, got null"}}},
        {"a stream not asked for as one", test + "Stream", {{"count", 2}}, service + "ExpectedMore", Json::object()},
        {"an error of the interface, qualified",
         test + "Fail",
         {{"error", "Known"}, {"parameters", {{"name", "x"}}}},
         test + "Known",
         {{"name", "x"}}},
        {"an error of the service interface",
         test + "Fail",
         {{"error", service + "PermissionDenied"}, {"parameters", Json::object()}},
         service + "PermissionDenied",
         Json::object()},
        {"an error that is not described",
         test + "Fail",
         {{"error", "Unknown"}, {"parameters", Json::object()}},
         "io.storctl.InternalError",
         {{"message", "server and description do not agree: error 'org.example.test.Unknown' is not there"}}},
        {"an error with the wrong parameters",
         test + "Fail",
         {{"error", "Known"}, {"parameters", Json::object()}},
         "io.storctl.InternalError",
         {{"message",
           "server and description do not agree: error 'org.example.test.Known': parameters.name: is missing"}}},
        {"an answer that is not as described",
         test + "Wrong",
         {},
         "io.storctl.InternalError",
         {{"message", "server and description do not agree: answer: parameters.text: expected string, got int"}}},
        {"a call dropped without an answer",
         test + "Drop",
         {},
         "io.storctl.InternalError",
         {{"message", "the call was dropped without an answer"}}},
        {"a handler that throws",
         test + "Throw",
         {},
         "io.storctl.InternalError",
         {{"message", "the call was dropped without an answer"}}},
    };
    TestServer server;
    auto client = control::Client::connect(server.path());
    REQUIRE(client);
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto reply = (*client)->call(row.method, row.parameters, patience);
        REQUIRE(reply);
        CHECK(reply->error == row.error);
        CHECK(reply->parameters == row.answer);
    }
}
