#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
        {.name = "Give",
         .handler =
             [this](Call call) {
                 const std::string text = call.parameters()["text"];
                 const int count = call.parameters()["count"];
                 Json indexes = Json::array();
                 std::vector<UniqueFd> files;
                 for (int i = 0; i < count; ++i) {
                     indexes.push_back(i);
                     files.push_back(file_with(fmt::format("{} {}", text, i)));
                 }
                 ++gifts;
                 const std::string padding(call.parameters()["padding"].get<size_t>(), 'p');
                 call.reply({{"text", text}, {"descriptors", indexes}, {"padding", padding}}, std::move(files));
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

TEST_CASE("calls of one connection are answered one after the other, in order") {
    TestServer server;
    RawClient client(server.path());
    constexpr int count = 300;
    std::string stream;
    for (int i = 0; i < count; ++i) {
        stream +=
            control::to_wire({{"method", "org.example.test.Echo"}, {"parameters", {{"text", std::to_string(i)}}}});
    }
    REQUIRE(client.send(stream));
    for (int i = 0; i < count; ++i) REQUIRE((*client.receive())["parameters"]["text"] == std::to_string(i));

    REQUIRE(client.call("org.example.test.Later"));
    REQUIRE(client.call("org.example.test.Echo", {{"text", "second"}}));
    REQUIRE(eventually([&] { return server.later() == 1; }));
    RawClient other(server.path());
    other.ask("org.example.test.Echo", {{"text", "x"}});
    CHECK(server.echoes == count + 1);
    server.on_loop([&] {
        server.kept.front().reply({{"text", "first"}});
        server.kept.clear();
    });
    CHECK((*client.receive())["parameters"]["text"] == "first");
    CHECK((*client.receive())["parameters"]["text"] == "second");
}

TEST_CASE("a oneway call gets no answer, not even an error") {
    TestServer server;
    RawClient client(server.path());
    const Json oneway{{"oneway", true}};
    REQUIRE(client.call("org.example.test.Change", {{"value", 1}}, oneway));
    REQUIRE(client.call("org.example.test.Change", {{"value", "x"}}, oneway));
    REQUIRE(client.call("org.example.test.None", Json::object(), oneway));
    REQUIRE(client.call("org.example.test.Drop", Json::object(), oneway));
    CHECK(client.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");
    CHECK(server.changes == 1);
}

TEST_CASE("changes are made although the client has gone, reads are not") {
    TestServer server;
    const auto send_and_go = [&](const Json& extra) {
        RawClient client(server.path());
        std::string stream;
        for (int i = 0; i < 40; ++i) {
            stream += control::to_wire({{"method", "org.example.test.Echo"}, {"parameters", {{"text", "x"}}}});
            Json change{{"method", "org.example.test.Change"}, {"parameters", {{"value", i}}}};
            change.update(extra);
            stream += control::to_wire(change);
        }
        // the server is busy until everything is sent and the client gone
        server.on_loop([&] {
            REQUIRE(client.send(stream));
            client = RawClient(RawClient::connect(server.path()));
        });
    };
    send_and_go({{"oneway", true}});
    REQUIRE(eventually([&] { return server.changes == 40; }));
    send_and_go(Json::object());
    REQUIRE(eventually([&] { return server.changes == 80; }));
    REQUIRE(eventually([&] { return server.clients() == 0; }));
    CHECK(server.echoes == 0);
}

TEST_CASE("who has only shut down its sending side gets its answers") {
    TestServer server;
    RawClient client(server.path());
    REQUIRE(client.call("org.example.test.Later"));
    REQUIRE(client.call("org.example.test.Stream", {{"count", 2}}, {{"more", true}}));
    client.finish_sending();
    REQUIRE(eventually([&] { return server.later() == 1; }));
    server.on_loop([&] {
        server.kept.front().reply({{"text", "late"}});
        server.kept.clear();
    });
    CHECK((*client.receive())["parameters"]["text"] == "late");
    CHECK((*client.receive())["parameters"]["number"] == 1);
    CHECK((*client.receive())["parameters"]["number"] == 2);
    CHECK_FALSE(client.receive());
}

TEST_CASE("a handler that kept a call hears of the client's end, once, and may answer all the same") {
    TestServer server;
    {
        RawClient client(server.path());
        REQUIRE(client.call("org.example.test.Later"));
        REQUIRE(eventually([&] { return server.later() == 1; }));
        server.on_loop([&] { CHECK(server.kept.front().alive()); });
    }
    REQUIRE(eventually([&] { return server.disconnects == 1; }));
    server.on_loop([&] {
        CHECK_FALSE(server.kept.front().alive());
        server.kept.front().reply({{"text", "nobody"}});
        server.kept.clear();
    });
    CHECK(server.clients() == 0);
    CHECK(server.disconnects == 1);
}

TEST_CASE("a handler may drop the kept call from inside on_disconnect") {
    TestServer server;
    {
        RawClient client(server.path());
        REQUIRE(client.call("org.example.test.Later"));
        REQUIRE(eventually([&] { return server.later() == 1; }));
        server.on_loop([&] { server.kept.front().on_disconnect([&server] { server.kept.clear(); }); });
    }
    REQUIRE(eventually([&] { return server.later() == 0; }));
}

TEST_CASE("closing delivers what is queued, tells the streams and frees the path") {
    TestServer server;
    RawClient reader(server.path());
    RawClient waiting(server.path());
    const std::string text(700 << 10, 'x');
    REQUIRE(waiting.call("org.example.test.Later"));
    REQUIRE(reader.call("org.example.test.Echo", {{"text", text}}));
    REQUIRE(eventually([&] { return server.echoes == 1 && server.later() == 1; }));
    server.on_loop([&] { server.server->close(patience); });
    CHECK(control::Client::connect(server.path()).error().code == std::errc::no_such_file_or_directory);
    CHECK((*reader.receive())["parameters"]["text"] == text);
    CHECK_FALSE(reader.receive());
    CHECK_FALSE(waiting.receive());
    REQUIRE(eventually([&] { return server.clients() == 0; }));
    CHECK(server.disconnects == 1);
}

TEST_CASE("closing does not wait for a client that does not read") {
    TestServer server;
    RawClient stuck(server.path());
    REQUIRE(stuck.call("org.example.test.Echo", {{"text", std::string(700 << 10, 'x')}}));
    REQUIRE(eventually([&] { return server.echoes == 1; }));
    server.on_loop([&] { server.server->close(20ms); });
    REQUIRE(eventually([&] { return server.clients() == 0; }));
}

TEST_CASE("the socket file") {
    const TemporaryFolder folder;
    const std::string path = folder / "s";
    auto loop = EventLoop::create();
    REQUIRE(loop);
    const auto listen = [&] { return control::Server::listen(*loop, {.socket_path = path, .socket_mode = 0640}); };

    SUBCASE("has the mode that was asked for, and goes with its server") {
        {
            const auto server = listen();
            REQUIRE(server);
            struct stat status {};
            REQUIRE(::stat(path.c_str(), &status) == 0);
            CHECK((status.st_mode & 07777) == 0640);
        }
        CHECK(::access(path.c_str(), F_OK) != 0);
    }
    SUBCASE("of a dead server is replaced") {
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            const auto socket = control::ListeningSocket::open(path, 0600);
            ::_exit(socket ? 0 : 1);  // without the destructor: as if it had been killed
        }
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(status == 0);
        REQUIRE(::access(path.c_str(), F_OK) == 0);
        CHECK(control::Client::connect(path).error().code == std::errc::connection_refused);
        const auto server = listen();
        REQUIRE_MESSAGE(server, server.error().message());
        CHECK(control::connect_unix(path, 0ms));
    }
    SUBCASE("stays when it is another's by now") {
        auto first = listen();
        REQUIRE(first);
        REQUIRE(::unlink(path.c_str()) == 0);
        const auto second = listen();
        REQUIRE(second);
        first->reset();
        CHECK(control::connect_unix(path, 0ms));
    }
    SUBCASE("of a live server is refused") {
        const auto first = listen();
        REQUIRE(first);
        const auto second = listen();
        REQUIRE_FALSE(second);
        CHECK(second.error().code == std::errc::address_in_use);
        CHECK(second.error().context.find(path) != std::string::npos);
    }
    SUBCASE("is not made of another file") {
        REQUIRE(write_file_atomic(path, "precious"));
        const auto server = listen();
        REQUIRE_FALSE(server);
        CHECK(server.error().code == std::errc::file_exists);
        CHECK(*read_file(path) == "precious");
    }
    SUBCASE("has a limited name") {
        const auto server = control::Server::listen(*loop, {.socket_path = folder / std::string(200, 'x')});
        REQUIRE_FALSE(server);
        CHECK(server.error().code == std::errc::filename_too_long);
    }
}

TEST_CASE("interfaces whose methods and description do not agree are refused") {
    const TemporaryFolder folder;
    auto loop = EventLoop::create();
    REQUIRE(loop);
    auto server = control::Server::listen(*loop, {.socket_path = folder / "s"});
    REQUIRE(server);
    const std::string text = "interface a.b\nmethod One() -> ()\nmethod Two() -> ()";
    const auto problem = [&](std::string_view description, std::vector<control::Method> methods) {
        const auto added = (*server)->add_interface(description, std::move(methods));
        if (!added) CHECK(added.error().code == std::errc::invalid_argument);
        return added ? "" : added.error().context;
    };
    CHECK(problem("interface a.b\nmethod", {}) ==
          "line 2: expected the method's name, beginning with a capital, not the end");
    CHECK(problem(text, {{.name = "One"}}) == "a.b.Two is described and not given");
    CHECK(problem(text, {{.name = "One"}, {.name = "Three"}}) == "a.b.Three is not described");
    CHECK(problem(text, {{.name = "One"}, {.name = "One"}, {.name = "Two"}}) == "a.b.One is given twice");
    CHECK(problem(text, {{.name = "One"}, {.name = "Two"}}).empty());
    CHECK(problem(text, {{.name = "One"}, {.name = "Two"}}) == "interface 'a.b' is already there");
}
