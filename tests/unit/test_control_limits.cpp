// What one client may do to a server and to the other clients, over real sockets.

#include <fmt/format.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/unit/test_control.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;

namespace {

constexpr uid_t nobody = 65534;
constexpr gid_t test_group = 4242;

struct Credentials {
    uid_t uid = nobody;
    gid_t gid = nobody;
    std::vector<gid_t> groups;
};

/// Connects as another user. Linux keeps credentials per thread, and records those of the thread that connects: the
/// system calls are made directly because glibc's would change every thread.
UniqueFd connect_as(const Credentials& who, const std::string& path) {
    UniqueFd fd;
    std::string problem;
    std::thread([&] {
        if (::syscall(SYS_setgroups, who.groups.size(), who.groups.data()) != 0 ||
            ::syscall(SYS_setresgid, who.gid, who.gid, who.gid) != 0 ||
            ::syscall(SYS_setresuid, who.uid, who.uid, who.uid) != 0) {
            problem = "cannot change the thread's user";
            return;
        }
        auto connected = control::connect_unix(path, patience);
        if (connected) {
            fd = std::move(*connected);
        } else {
            problem = connected.error().message();
        }
    }).join();
    REQUIRE_MESSAGE(problem.empty(), problem);
    return fd;
}

bool root() {
    if (::geteuid() == 0) return true;
    MESSAGE("not run: only root can connect as another user");
    return false;
}

/// Others may reach the socket.
void open_folder(TestServer& server) { REQUIRE(::chmod(server.folder().path().c_str(), 0755) == 0); }

}  // namespace

TEST_CASE("anyone may read, and only the right ones change") {
    if (!root()) return;
    const CapturedLog log;
    TestServer server({.change_group = test_group});
    open_folder(server);
    struct Row {
        const char* name;
        Credentials who;
        bool may_change;
    };
    std::vector<gid_t> many;
    for (gid_t group = 5000; group < 5200; ++group) many.push_back(group);
    many.push_back(test_group);
    const std::vector<Row> rows{
        {"root", {.uid = 0, .gid = 0}, true},
        {"somebody else", {}, false},
        {"root's group, another user", {.gid = 0, .groups = {0}}, false},
        {"the group as primary", {.gid = test_group}, true},
        {"the group among others", {.groups = {100, test_group}}, true},
        {"the group as the last of many", {.groups = many}, true},
        {"a neighbouring group", {.groups = {test_group + 1}}, false},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const int before = server.changes;
        RawClient client(connect_as(row.who, server.path()));
        CHECK(client.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");
        const Json reply = client.ask("org.example.test.Change", {{"value", 1}});
        CHECK(server.changes - before == (row.may_change ? 1 : 0));
        CHECK(reply.value("error", "") == (row.may_change ? "" : "org.varlink.service.PermissionDenied"));
        const char* what = row.may_change ? "org.example.test.Change by uid" : "org.example.test.Change denied to uid";
        CHECK(log.has(fmt::format("{} {} pid {} exe '", what, row.who.uid, ::getpid())));
        // a denied oneway call is denied too, without a word
        REQUIRE(client.call("org.example.test.Change", {{"value", 1}}, {{"oneway", true}}));
        client.ask("org.example.test.Echo", {{"text", "x"}});
        CHECK(server.changes - before == (row.may_change ? 2 : 0));
    }
    CHECK(log.has("test_control'"));
}

TEST_CASE("one user cannot take all places, and root finds one in any case") {
    if (!root()) return;
    const CapturedLog log;
    TestServer server({.max_clients = 16, .max_clients_per_uid = 10});
    open_folder(server);
    std::vector<RawClient> served;
    const auto take = [&](uid_t uid, int count) {
        for (int i = 0; i < count; ++i) {
            served.emplace_back(connect_as({.uid = uid}, server.path()));
            served.back().ask("org.example.test.Echo", {{"text", ""}});
        }
    };
    take(1001, 10);
    RawClient eleventh(connect_as({.uid = 1001}, server.path()));
    CHECK_FALSE(eleventh.receive());
    take(1002, 4);
    RawClient fifteenth(connect_as({.uid = 1003}, server.path()));
    CHECK_FALSE(fifteenth.receive());
    take(0, 2);
    RawClient seventeenth(connect_as({.uid = 0}, server.path()));
    CHECK_FALSE(seventeenth.receive());
    CHECK(log.has("refused: too many clients"));
    for (auto& client : served)
        CHECK(client.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");

    served.pop_back();
    REQUIRE(eventually([&] { return server.clients() == 15; }));
    take(0, 1);
}

TEST_CASE("a reader that is too slow for its stream is dropped, others are served") {
    const CapturedLog log;
    TestServer server({.max_queued_bytes = 1 << 20});
    RawClient slow(server.path());
    RawClient good(server.path());
    REQUIRE(slow.call("org.example.test.Flood", Json::object(), {{"more", true}}));
    REQUIRE(eventually([&] { return server.flood_ended == 1; }));
    CHECK(good.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");
    REQUIRE(eventually([&] { return server.clients() == 1; }));
    CHECK(log.has("it does not read"));
}

TEST_CASE("who pipelines calls without reading is slowed down, and gets every answer") {
    TestServer server({.max_queued_bytes = 1 << 20});
    RawClient slow(server.path());
    RawClient good(server.path());
    constexpr int count = 40;
    const std::string text(200 << 10, 'x');
    std::thread sender([&] {
        for (int i = 0; i < count; ++i) slow.call("org.example.test.Echo", {{"text", fmt::format("{} {}", i, text)}});
    });
    REQUIRE(eventually([&] { return server.echoes > 0; }));
    for (int i = 0; i < 20; ++i) good.ask("org.example.test.Echo", {{"text", "x"}});
    CHECK(server.echoes < 20 + count);
    for (int i = 0; i < count; ++i) {
        const auto reply = slow.receive();
        REQUIRE(reply);
        CHECK((*reply)["parameters"]["text"] == fmt::format("{} {}", i, text));
    }
    sender.join();
}

TEST_CASE("a reader that takes nothing is dropped after its time") {
    TestServer server({.stalled_reader_timeout = 50ms});
    RawClient stalled(server.path());
    REQUIRE(stalled.call("org.example.test.Echo", {{"text", std::string(900 << 10, 'x')}}));
    REQUIRE(eventually([&] { return server.echoes == 1; }));
    REQUIRE(eventually([&] { return server.clients() == 0; }));
}

TEST_CASE("half a message and then silence ends the connection; silence alone does not") {
    TestServer server({.partial_message_timeout = 400ms});
    RawClient silent(server.path());
    RawClient half(server.path());
    REQUIRE(half.send("{\"method\""));
    CHECK_FALSE(half.receive());

    // the time runs from the message's first byte
    RawClient trickle(server.path());
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!trickle.closed_within(1ms) && std::chrono::steady_clock::now() < deadline) trickle.send(" ");
    CHECK(std::chrono::steady_clock::now() < deadline);

    // and is a message's, not the connection's: here half a message is always waiting for its rest
    RawClient busy(server.path());
    const std::string call = control::to_wire({{"method", "org.example.test.Echo"}, {"parameters", {{"text", "x"}}}});
    const size_t middle = call.size() / 2;
    REQUIRE(busy.send(call.substr(0, middle)));
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < 600ms) {
        REQUIRE(busy.send(call.substr(middle) + call.substr(0, middle)));
        REQUIRE(busy.receive());
    }
    CHECK(silent.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");
}

TEST_CASE("half a message that came while reading was paused has its time afterwards") {
    TestServer server({.max_pending_calls = 1, .partial_message_timeout = 50ms});
    RawClient client(server.path());
    REQUIRE(client.call("org.example.test.Later"));
    REQUIRE(eventually([&] { return server.later() == 1; }));
    REQUIRE(client.send(control::to_wire({{"method", "org.example.test.Later"}}) + "{\"method\""));
    RawClient other(server.path());
    for (int i = 0; i < 10; ++i) other.ask("org.example.test.Echo", {{"text", "x"}});
    const auto release = [&] {
        server.on_loop([&] {
            server.kept.front().reply({{"text", "late"}});
            server.kept.clear();
        });
    };
    release();
    REQUIRE(eventually([&] { return server.later() == 1; }));
    CHECK(client.receive());
    release();
    CHECK(client.receive());
    CHECK_FALSE(client.receive());
}

TEST_CASE("reading pauses beyond the calls that may wait") {
    TestServer server({.max_pending_calls = 8});
    RawClient client(server.path());
    REQUIRE(client.call("org.example.test.Later"));
    REQUIRE(eventually([&] { return server.later() == 1; }));
    std::atomic<int> sent = 0;
    constexpr int count = 1000;
    const std::string text(4096, 'x');
    std::thread sender([&] {
        for (int i = 0; i < count; ++i) {
            client.call("org.example.test.Echo", {{"text", text}});
            ++sent;
        }
    });
    // the socket is full when the sender gets no further while the server answers somebody else, again and again
    RawClient other(server.path());
    int quiet = 0;
    REQUIRE(eventually([&] {
        const int before = sent;
        for (int i = 0; i < 50; ++i) other.ask("org.example.test.Echo", {{"text", ""}});
        quiet = before == sent ? quiet + 1 : 0;
        return quiet == 5;
    }));
    CHECK(sent < count);
    server.on_loop([&] {
        server.kept.front().reply({{"text", "late"}});
        server.kept.clear();
    });
    CHECK((*client.receive())["parameters"]["text"] == "late");
    for (int i = 0; i < count; ++i) REQUIRE((*client.receive())["parameters"]["text"] == text);
    sender.join();
}

TEST_CASE("what is no call is answered with the reason, and the connection ends") {
    struct Row {
        const char* name;
        std::string bytes;
        std::string reason;
    };
    const std::vector<Row> rows{
        {"no JSON", std::string("GET / HTTP/1.1\r\n\r\n\0", 19), "malformed message: not usable JSON"},
        {"an empty message", std::string("\0", 1), "unexpected end of input"},
        {"too long", std::string(5000, ' '), "longer than 4096 bytes"},
        {"too deep", std::string(4000, '[') + '\0', "nested deeper than 64 levels"},
        {"cut off", "{\"method\":", "the connection ended inside the message"},
        {"a misspelt member", control::to_wire({{"methd", "x"}}), "'methd' is no member of a call"},
    };
    TestServer server({.max_message_bytes = 4096});
    RawClient good(server.path());
    for (const auto& row : rows) {
        CAPTURE(row.name);
        RawClient bad(server.path());
        REQUIRE(bad.call("org.example.test.Echo", {{"text", "before"}}));
        bad.send(row.bytes);
        bad.finish_sending();
        CHECK((*bad.receive())["parameters"]["text"] == "before");
        const auto reply = bad.receive();
        REQUIRE(reply);
        CHECK((*reply)["error"] == "org.varlink.service.InvalidParameter");
        const std::string message = (*reply)["parameters"]["message"];
        CHECK_MESSAGE(message.find(row.reason) != std::string::npos, message);
        CHECK_FALSE(bad.receive());
        CHECK(good.ask("org.example.test.Echo", {{"text", "x"}})["parameters"]["text"] == "x");
    }
}

TEST_CASE("without descriptors the server waits, and goes on") {
    const CapturedLog log;
    TestServer server;
    RawClient good(server.path());
    good.ask("org.example.test.Echo", {{"text", "x"}});
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
    UniqueFd next(::dup(STDOUT_FILENO));
    const rlimit tight{.rlim_cur = static_cast<rlim_t>(next.get() + 1), .rlim_max = old.rlim_max};
    next.reset();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    RawClient waiting(server.path());
    const bool called = waiting.call("org.example.test.Echo", {{"text", "y"}});
    for (int i = 0; i < 10; ++i) good.ask("org.example.test.Echo", {{"text", "x"}});
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(called);
    CHECK((*waiting.receive())["parameters"]["text"] == "y");
    CHECK(log.has("cannot accept clients"));
}
