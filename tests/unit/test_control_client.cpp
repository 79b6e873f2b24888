// Both clients, against the test server.

#include "tests/unit/test_control.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;

namespace {

void release(TestServer& server, const std::string& text) {
    server.on_loop([&] {
        server.kept.front().reply({{"text", text}});
        server.kept.erase(server.kept.begin());
    });
}

/// Turns the loop until it is true.
template <class Condition>
bool run_until(EventLoop& loop, Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        if (!loop.run_once(10ms)) return false;
    }
    return true;
}

struct AsyncFixture {
    TestServer server;
    EventLoop loop = std::move(*EventLoop::create());
    std::unique_ptr<control::AsyncClient> client = std::move(*control::AsyncClient::connect(loop, server.path(), 0));
    std::vector<std::string> heard;  ///< answers in the order in which they came

    std::function<void(Result<control::Reply>)> listen(const std::string& name) {
        return [this, name](Result<control::Reply> reply) {
            if (!reply) {
                heard.push_back(name + ": " + std::make_error_code(reply.error().code).message());
            } else if (reply->error) {
                heard.push_back(name + ": " + *reply->error);
            } else {
                heard.push_back(name + ": " + reply->parameters.dump() + (reply->continues ? " …" : ""));
            }
        };
    }
    bool hear(size_t count) {
        return run_until(loop, [&] { return heard.size() >= count; });
    }
};

}  // namespace

TEST_CASE("connecting tells why it is not possible") {
    const TemporaryFolder folder;
    const auto missing = control::Client::connect(folder / "none");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == std::errc::no_such_file_or_directory);
    CHECK(missing.error().context.find(folder / "none") != std::string::npos);
    REQUIRE(write_file_atomic(folder / "file", ""));
    CHECK(control::Client::connect(folder / "file").error().code == std::errc::connection_refused);
    auto loop = EventLoop::create();
    CHECK(control::AsyncClient::connect(*loop, folder / "none", 0).error().code ==
          std::errc::no_such_file_or_directory);
}

TEST_CASE("a blocking call ends in time, and the next one is not given its answer") {
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    const auto late = client->call("org.example.test.Later", Json::object(), 50ms);
    REQUIRE_FALSE(late);
    CHECK(late.error().code == std::errc::timed_out);
    CHECK(late.error().context == "'" + server.path() + "' did not answer org.example.test.Later within 50 ms");
    const auto next = client->call("org.example.test.Echo", {{"text", "next"}}, patience);
    REQUIRE(next);
    CHECK(next->parameters["text"] == "next");
}

TEST_CASE("a blocking call hears that the server is gone") {
    auto server = std::make_unique<TestServer>();
    auto client = std::move(*control::Client::connect(server->path()));
    std::thread([&] { server->on_loop([&] { server->server->close(0ms); }); }).join();
    const auto reply = client->call("org.example.test.Later", Json::object(), patience);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == std::errc::connection_reset);
    const auto again = client->call("org.example.test.Later", Json::object(), patience);
    REQUIRE_FALSE(again);
    CHECK(again.error().code == std::errc::no_such_file_or_directory);
}

TEST_CASE("after a restart of the server a client gets one error, and then answers") {
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    REQUIRE(client->call("org.example.test.Echo", {{"text", "before"}}, patience));
    RawClient waiting(server.path());
    REQUIRE(waiting.call("org.example.test.Later"));
    REQUIRE(eventually([&] { return server.later() == 1; }));
    server.restart();
    CHECK(server.disconnects == 1);
    CHECK_FALSE(waiting.receive());
    const auto lost = client->call("org.example.test.Echo", {{"text", "lost"}}, patience);
    REQUIRE_FALSE(lost);
    CHECK(lost.error().code == std::errc::connection_reset);
    const auto reply = client->call("org.example.test.Echo", {{"text", "after"}}, patience);
    REQUIRE_MESSAGE(reply, reply.error().message());
    CHECK(reply->parameters["text"] == "after");
    server.on_loop([&] { CHECK_FALSE(server.kept.front().alive()); });
}

TEST_CASE("a subscriber may stop, and call something else") {
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    int count = 0;
    REQUIRE(client->subscribe("org.example.test.Flood", Json::object(), [&](const auto&) { return ++count < 3; }));
    CHECK(count == 3);
    const auto next = client->call("org.example.test.Echo", {{"text", "next"}}, patience);
    REQUIRE(next);
    CHECK(next->parameters["text"] == "next");
}

TEST_CASE("a large answer arrives whole") {
    TestServer server({.max_message_bytes = 8 << 20, .max_queued_bytes = 1 << 20});
    auto client = std::move(*control::Client::connect(server.path()));
    const std::string text(7 << 20, 'x');
    const auto reply = client->call("org.example.test.Echo", {{"text", text}}, patience);
    REQUIRE_MESSAGE(reply, reply.error().message());
    CHECK(reply->parameters["text"] == text);
}

TEST_CASE_FIXTURE(AsyncFixture, "asynchronous calls are answered in order, and never from inside the call") {
    CHECK(client->peer_pid() == ::getpid());
    client->call("org.example.test.Echo", {{"text", "1"}}, patience, listen("one"));
    client->call("org.example.test.Fail", {{"error", "Known"}, {"parameters", {{"name", "x"}}}}, 0ms, listen("two"));
    client->call("org.example.test.Echo", {{"text", "3"}}, patience, listen("three"));
    CHECK(heard.empty());
    REQUIRE(hear(3));
    CHECK(heard ==
          std::vector<std::string>{R"(one: {"text":"1"})", "two: org.example.test.Known", R"(three: {"text":"3"})"});
}

TEST_CASE_FIXTURE(AsyncFixture, "a late answer is not taken for the next call's") {
    client->call("org.example.test.Later", Json::object(), 20ms, listen("late"));
    client->call("org.example.test.Echo", {{"text", "next"}}, patience, listen("next"));
    REQUIRE(hear(1));
    CHECK(heard.back() == "late: Connection timed out");
    REQUIRE(eventually([&] { return server.later() == 1; }));
    release(server, "too late");
    REQUIRE(hear(2));
    CHECK(heard.back() == R"(next: {"text":"next"})");
}

TEST_CASE_FIXTURE(AsyncFixture, "a stream does not hold up calls") {
    client->call("org.example.test.Stream", {{"count", 2}}, patience, listen("short"), true);
    REQUIRE(hear(2));
    CHECK(heard == std::vector<std::string>{R"(short: {"number":1} …)", R"(short: {"number":2})"});
    REQUIRE(eventually([&] { return server.clients() == 1; }));

    client->call("org.example.test.Later", Json::object(), 0ms, listen("open"), true);
    client->call("org.example.test.Echo", {{"text", "x"}}, patience, listen("call"));
    REQUIRE(hear(3));
    CHECK(heard.back() == R"(call: {"text":"x"})");
    server.on_loop([&] { server.kept.front().reply_continues({{"text", "1"}}); });
    REQUIRE(hear(4));
    CHECK(heard.back() == R"(open: {"text":"1"} …)");
}

TEST_CASE_FIXTURE(AsyncFixture, "when the server goes, open calls and streams hear it before the end is told, once") {
    int ends = 0;
    client->on_disconnect([&] {
        ++ends;
        heard.push_back("end");
    });
    client->call("org.example.test.Later", Json::object(), 0ms, listen("stream"), true);
    client->call("org.example.test.Later", Json::object(), patience, listen("first"));
    client->call("org.example.test.Echo", {{"text", ""}}, patience, listen("second"));
    REQUIRE(eventually([&] { return server.later() == 2; }));
    server.on_loop([&] { server.server->close(0ms); });
    REQUIRE(hear(4));
    CHECK(ends == 1);
    CHECK(heard.back() == "end");
    std::sort(heard.begin(), heard.end());
    const std::string why = ": Connection reset by peer";
    CHECK(heard == std::vector<std::string>{"end", "first" + why, "second" + why, "stream" + why});

    heard.clear();
    client->call("org.example.test.Echo", {{"text", ""}}, patience, listen("afterwards"));
    client->call("org.example.test.Echo", {{"text", ""}}, patience, listen("stream afterwards"), true);
    CHECK(heard.empty());
    REQUIRE(hear(2));
    CHECK(heard == std::vector<std::string>{"afterwards" + why, "stream afterwards" + why});
    CHECK(ends == 1);
}

TEST_CASE_FIXTURE(AsyncFixture, "a callback may destroy the client") {
    SUBCASE("from an answer, forgetting the other calls") {
        client->call("org.example.test.Echo", {{"text", "1"}}, patience, [&](Result<control::Reply>) {
            client.reset();
            heard.push_back("gone");
        });
        client->call("org.example.test.Echo", {{"text", "2"}}, patience, listen("forgotten"));
    }
    SUBCASE("from a stream's answer") {
        client->call(
            "org.example.test.Stream", {{"count", 5}}, patience,
            [&](Result<control::Reply>) {
                client.reset();
                heard.push_back("gone");
            },
            true);
    }
    SUBCASE("from a timeout") {
        client->call("org.example.test.Later", Json::object(), 10ms, [&](Result<control::Reply>) {
            client.reset();
            heard.push_back("gone");
        });
    }
    SUBCASE("from an error at the end") {
        client->call("org.example.test.Later", Json::object(), 0ms, [&](Result<control::Reply> reply) {
            CHECK_FALSE(reply);
            client.reset();
            heard.push_back("gone");
        });
        client->call("org.example.test.Later", Json::object(), 0ms, listen("forgotten"));
        client->on_disconnect([&] { heard.push_back("end"); });
        REQUIRE(eventually([&] { return server.later() == 1; }));
        server.on_loop([&] { server.server->close(0ms); });
    }
    SUBCASE("from the end itself") {
        client->on_disconnect([&] {
            client.reset();
            heard.push_back("gone");
        });
        server.on_loop([&] { server.server->close(0ms); });
    }
    REQUIRE(run_until(loop, [&] { return !client; }));
    // the server has heard of it, and nobody here is called any more
    REQUIRE(eventually([&] { return server.clients() == 0; }));
    for (int i = 0; i < 10; ++i) REQUIRE(loop.run_once(0ms));
    CHECK(heard == std::vector<std::string>{"gone"});
}
