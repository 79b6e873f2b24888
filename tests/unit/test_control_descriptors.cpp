// Descriptors that come with answers, on real sockets.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include "base/passed_files.hpp"
#include "control/message_receiver.hpp"
#include "control/output_queue.hpp"
#include "tests/unit/test_control.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;
using control::MessageReceiver;
using control::OutputQueue;

namespace {

struct Pipe {
    UniqueFd read, write;
    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read.reset(ends[0]);
        write.reset(ends[1]);
    }
    /// Every copy of the writing end is closed, or is soon.
    bool closes() const {
        pollfd item{.fd = read.get(), .events = POLLIN, .revents = 0};
        return ::poll(&item, 1, 20000) == 1 && (item.revents & POLLHUP) != 0;
    }
    bool is_open() const {
        pollfd item{.fd = read.get(), .events = POLLIN, .revents = 0};
        return ::poll(&item, 1, 0) == 0;
    }
};

struct SocketPair {
    UniqueFd one, other;
    SocketPair() {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        one.reset(ends[0]);
        other.reset(ends[1]);
    }
};

std::vector<UniqueFd> files(const std::vector<std::string>& texts) {
    std::vector<UniqueFd> out;
    for (const auto& text : texts) out.push_back(file_with(text));
    return out;
}

std::vector<std::string> texts_of(const std::vector<UniqueFd>& files) {
    std::vector<std::string> out;
    for (const auto& file : files) out.push_back(text_of(file));
    return out;
}

using Texts = std::vector<std::string>;

Json gift(const std::string& text, int count, size_t padding = 0) {
    return {{"text", text}, {"count", count}, {"padding", padding}};
}

/// A padding that fills a socket on this machine, and leaves less behind than what stops the server's next call.
size_t more_than_fits() {
    SocketPair pair;
    int size = 0;
    socklen_t length = sizeof size;
    REQUIRE(::getsockopt(pair.one.get(), SOL_SOCKET, SO_SNDBUF, &size, &length) == 0);
    return static_cast<size_t>(size) + 100'000;
}

/// "TEXT: contents of its descriptors".
std::string told(const Result<control::Reply>& reply) {
    if (!reply) return reply.error().message();
    if (reply->error) return *reply->error;
    std::string out = reply->parameters["text"].get<std::string>() + ":";
    for (const auto& text : texts_of(reply->descriptors)) out += " " + text;
    return out;
}

/// Answers the first call that comes with what `answer` sends.
std::thread one_answer(const control::ListeningSocket& listener, std::function<void(int)> answer) {
    return std::thread([&listener, answer = std::move(answer)] {
        pollfd item{.fd = listener.get(), .events = POLLIN, .revents = 0};
        if (::poll(&item, 1, 20000) != 1) return;
        const UniqueFd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        char call[4096];
        if (::recv(client.get(), call, sizeof call, 0) > 0) answer(client.get());
    });
}

}  // namespace

TEST_CASE("descriptors come with their message, however the stream is cut") {
    struct Sent {
        std::string text;
        Texts files;
    };
    const std::vector<Sent> messages = {{"without", {}},
                                        {"one", {"1"}},
                                        {"again without", {}},
                                        {std::string(300'000, 'x'), {"2", "3"}},
                                        {"behind the long one", {"4"}},
                                        {"right behind", {"5"}},
                                        {"last", {}}};
    SocketPair pair;
    SUBCASE("in a narrow socket") {
        const int narrow = 4096;
        REQUIRE(::setsockopt(pair.one.get(), SOL_SOCKET, SO_SNDBUF, &narrow, sizeof narrow) == 0);
    }
    SUBCASE("in a wide socket") {
        const int wide = 4 << 20;
        REQUIRE(::setsockopt(pair.one.get(), SOL_SOCKET, SO_SNDBUFFORCE, &wide, sizeof wide) == 0);
    }
    OutputQueue queue;
    for (const auto& message : messages) queue.push(message.text + '\0', files(message.files));
    CHECK(queue.descriptors() == 5);
    MessageReceiver receiver(1 << 20);
    std::vector<MessageReceiver::Message> got;
    while (got.size() < messages.size()) {
        REQUIRE(queue.flush(pair.one.get()));
        const auto received = receiver.receive(pair.other.get());
        REQUIRE(received);
        REQUIRE(*received);
        while (auto message = receiver.next()) got.push_back(std::move(*message));
    }
    CHECK(queue.empty());
    CHECK(queue.descriptors() == 0);
    for (size_t i = 0; i < messages.size(); ++i) {
        CAPTURE(i);
        CHECK(got[i].text == messages[i].text);
        CHECK(texts_of(got[i].descriptors) == messages[i].files);
    }
    CHECK_FALSE(*receiver.receive(pair.other.get()));
    pair.one.reset();
    CHECK(*receiver.receive(pair.other.get()) == size_t{0});
}

TEST_CASE("a client gets the descriptors of its answer, closed on exec") {
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    const auto reply = client->call("org.example.test.Give", gift("a", 3), patience);
    CHECK(told(reply) == "a: a 0 a 1 a 2");
    for (const auto& descriptor : reply->descriptors) {
        CHECK((::fcntl(descriptor.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
    const auto none = client->call("org.example.test.Echo", {{"text", "next"}}, patience);
    CHECK(told(none) == "next:");
}

TEST_CASE("as many as an answer takes, and not one more") {
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    const auto most = client->call("org.example.test.Give", gift("most", 16), patience);
    REQUIRE(most);
    CHECK(most->descriptors.size() == 16);
    const auto more = client->call("org.example.test.Give", gift("more", 17), patience);
    REQUIRE(more);
    CHECK(more->error == "io.storctl.InternalError");
    CHECK(more->descriptors.empty());
    CHECK(told(client->call("org.example.test.Give", gift("b", 1), patience)) == "b: b 0");
}

TEST_CASE("of calls made at once every answer has its own descriptors") {
    TestServer server({.max_message_bytes = 4 << 20});
    EventLoop loop = std::move(*EventLoop::create());
    auto client = std::move(*control::AsyncClient::connect(loop, server.path(), 0));
    std::vector<std::string> heard;
    const auto listen = [&](const Result<control::Reply>& reply) { heard.push_back(told(reply)); };
    client->call("org.example.test.Give", gift("a", 2), patience, listen);
    client->call("org.example.test.Echo", {{"text", "b"}}, patience, listen);
    client->call("org.example.test.Give", gift("c", 1, 2 << 20), patience, listen);
    client->call("org.example.test.Give", gift("d", 0), patience, listen);
    client->call("org.example.test.Give", gift("e", 3), patience, listen);
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (heard.size() < 5 && std::chrono::steady_clock::now() < deadline) REQUIRE(loop.run_once(10ms));
    CHECK(heard == Texts{"a: a 0 a 1", "b:", "c: c 0", "d:", "e: e 0 e 1 e 2"});
}

TEST_CASE("who does not look at descriptors is answered as ever") {
    TestServer server;
    RawClient client(server.path());
    CHECK(client.ask("org.example.test.Give", gift("a", 4))["parameters"]["text"] == "a");
    CHECK(client.ask("org.example.test.Echo", {{"text", "b"}})["parameters"]["text"] == "b");
}

TEST_CASE("for a client that does not read, one answer with descriptors is kept, and they come in the end") {
    TestServer server;
    RawClient client(server.path());
    REQUIRE(client.call("org.example.test.Give", gift("full", 0, more_than_fits())));
    for (const auto* text : {"a", "b", "c"}) REQUIRE(client.call("org.example.test.Give", gift(text, 1)));
    REQUIRE(client.call("org.example.test.Echo", {{"text", "d"}}));
    REQUIRE(eventually([&] { return server.gifts >= 2; }));
    RawClient other(server.path());
    for (int i = 0; i < 10; ++i) other.ask("org.example.test.Echo", {{"text", "x"}});
    CHECK(server.gifts == 2);

    MessageReceiver receiver(1 << 20);
    Texts heard;
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (heard.size() < 5 && std::chrono::steady_clock::now() < deadline) {
        pollfd item{.fd = client.fd(), .events = POLLIN, .revents = 0};
        REQUIRE(::poll(&item, 1, 20000) == 1);
        REQUIRE(receiver.receive(client.fd()));
        while (auto message = receiver.next()) {
            const Json reply = *control::parse_json(message->text, {});
            std::string text = reply["parameters"]["text"];
            for (const auto& file : texts_of(message->descriptors)) text += " " + file;
            heard.push_back(text);
        }
    }
    CHECK(heard == Texts{"full", "a a 0", "b b 0", "c c 0", "d"});
}

TEST_CASE("descriptors for a client that is gone are closed") {
    Pipe pipe;
    TestServer server;
    RawClient client(server.path());
    const auto answer = [&](size_t padding) {
        std::vector<UniqueFd> one;
        one.push_back(std::move(pipe.write));
        server.kept.front().reply({{"text", std::string(padding, 'x')}}, std::move(one));
        server.kept.clear();
    };
    const auto called = [&] {
        return client.call("org.example.test.Later") && eventually([&] { return server.later() == 1; });
    };
    SUBCASE("before it was answered") {
        REQUIRE(called());
        client = RawClient(server.path());
        REQUIRE(eventually([&] { return server.disconnects == 1; }));
        server.on_loop([&] { answer(1); });
    }
    SUBCASE("with the answer in its socket") {
        REQUIRE(called());
        server.on_loop([&] { answer(1); });
        CHECK(pipe.is_open());
        client = RawClient(server.path());
    }
    SUBCASE("with the answer behind others that it did not read") {
        REQUIRE(client.call("org.example.test.Give", gift("full", 0, more_than_fits())));
        REQUIRE(called());
        server.on_loop([&] { answer(1); });
        CHECK(pipe.is_open());
        client = RawClient(server.path());
    }
    CHECK(pipe.closes());
}

TEST_CASE("a client closes the descriptors that nobody takes from its answer") {
    Pipe pipe;
    TestServer server;
    auto client = std::move(*control::Client::connect(server.path()));
    std::thread answering([&] {
        if (!eventually([&] { return server.later() == 1; })) return;
        server.on_loop([&] {
            std::vector<UniqueFd> one;
            one.push_back(std::move(pipe.write));
            server.kept.front().reply({{"text", "x"}}, std::move(one));
            server.kept.clear();
        });
    });
    CHECK(client->call("org.example.test.Later", Json::object(), patience));
    answering.join();
    CHECK(pipe.closes());
}

TEST_CASE("a client refuses answers with too many descriptors, or with some that it cannot take") {
    const TemporaryFolder folder;
    const auto listener = std::move(*control::ListeningSocket::open(folder / "socket", 0600));
    const auto few = [](size_t count) { return files(Texts(count, "x")); };
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
    std::function<void(int)> answer;
    const std::string whole = std::string(R"({"parameters":{}})") + '\0';
    SUBCASE("with one message") {
        answer = [&](int fd) { CHECK(send_with_files(fd, whole, few(17), MSG_NOSIGNAL)); };
    }
    SUBCASE("in two pieces") {
        answer = [&](int fd) {
            CHECK(send_with_files(fd, whole.substr(0, 5), few(10), MSG_NOSIGNAL));
            CHECK(send_with_files(fd, whole.substr(5), few(10), MSG_NOSIGNAL));
        };
    }
    SUBCASE("without places for them") {
        answer = [&](int fd) {
            const auto three = few(3);
            const rlimit tight{.rlim_cur = 3, .rlim_max = old.rlim_max};
            CHECK(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
            CHECK(send_with_files(fd, whole, three, MSG_NOSIGNAL));
        };
    }
    const size_t before = list_directory("/proc/self/fd").size();
    auto client = std::move(*control::Client::connect(folder / "socket"));
    auto server = one_answer(listener, answer);
    const auto reply = client->call("org.example.test.Any", Json::object(), patience);
    server.join();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == std::errc::message_size);
    CHECK(reply.error().context.find("org.example.test.Any") != std::string::npos);
    client.reset();
    CHECK(list_directory("/proc/self/fd").size() == before);
}
