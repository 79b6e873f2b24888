#pragma once
// A server on a thread of its own with an interface made for tests, and a raw socket to talk to it. A test talks from
// the main thread and reaches into the server only by `on_loop`.

#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/file.hpp"
#include "control/client.hpp"
#include "control/framing.hpp"
#include "control/json_text.hpp"
#include "control/server.hpp"
#include "control/unix_socket.hpp"
#include "tests/unit/captured_log.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace storctl::test {

using control::Json;
constexpr std::chrono::seconds patience{20};

/// Polls until it is true; the patience is for a loaded machine.
template <class Condition>
bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
    }
    return true;
}

/// An open file with this text, and what such a file says.
inline UniqueFd file_with(const std::string& text) {
    UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
    REQUIRE(file);
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    return file;
}
inline std::string text_of(const UniqueFd& file) {
    char text[256];
    const auto got = ::pread(file.get(), text, sizeof text, 0);
    REQUIRE(got >= 0);
    return {text, static_cast<size_t>(got)};
}

inline constexpr std::string_view test_interface = R"(
interface org.example.test
type Item (name: string, size: int, tags: []string)
method Echo(text: string, item: ?Item) -> (text: string)
method Change(value: int) -> ()
method Stream(count: int) -> (number: int)
method Flood() -> (data: string)
method Later() -> (text: string)
method Give(text: string, count: int, padding: int) -> (text: string, descriptors: []int, padding: string)
method Wrong() -> (text: string)
method Drop() -> ()
method Throw() -> ()
method Fail(error: string, parameters: object) -> ()
method Missing() -> ()
error Known(name: string)
)";

class TestServer {
 public:
    explicit TestServer(control::ServerOptions options = {}) {
        options.socket_path = path();
        std::promise<void> ready;
        thread_ = std::thread([this, &ready, options] { run(options, ready); });
        ready.get_future().get();
    }
    ~TestServer() {
        box_->post([this] { loop_->exit(0); });
        thread_.join();
    }

    std::string path() const { return folder_ / "socket"; }
    const TemporaryFolder& folder() const { return folder_; }

    /// Runs on the server's thread and waits for it.
    void on_loop(const std::function<void()>& work) {
        std::promise<void> done;
        box_->post([&] {
            work();
            done.set_value();
        });
        done.get_future().get();
    }
    /// Another server on the same path; calls that were kept belong to nobody.
    void restart() {
        on_loop([this] {
            server.reset();
            start();
        });
    }
    size_t clients() {
        size_t count = 0;
        on_loop([&] { count = server->clients(); });
        return count;
    }
    size_t later() {
        size_t count = 0;
        on_loop([&] { count = kept.size(); });
        return count;
    }

    // of the server's thread
    std::unique_ptr<control::Server> server;
    std::vector<control::Call> kept;  ///< calls of Later
    // any thread
    std::atomic<int> changes = 0;
    std::atomic<int> echoes = 0;
    std::atomic<int> disconnects = 0;
    std::atomic<int> flood_ended = 0;
    std::atomic<int> gifts = 0;  ///< answers of Give

 private:
    void run(const control::ServerOptions& options, std::promise<void>& ready) {
        auto loop = EventLoop::create();
        loop_ = &*loop;
        box_ = std::move(*Mailbox::open(*loop_, 0));
        options_ = options;
        start();
        ready.set_value();
        CHECK(loop_->run());
        kept.clear();
        server.reset();
        box_.reset();
    }

    void start() {
        auto opened = control::Server::listen(*loop_, options_);
        REQUIRE_MESSAGE(opened, opened.error().message());
        server = std::move(*opened);
        const auto added = server->add_interface(test_interface, methods());
        REQUIRE_MESSAGE(added, added.error().message());
    }

    std::vector<control::Method> methods();

    control::ServerOptions options_;
    TemporaryFolder folder_;
    EventLoop* loop_ = nullptr;
    std::unique_ptr<Mailbox> box_;
    std::thread thread_;
};

/// A client that may send anything.
class RawClient {
 public:
    explicit RawClient(const std::string& path) : fd_(connect(path)) {}
    explicit RawClient(UniqueFd fd) : fd_(std::move(fd)) {}

    static UniqueFd connect(const std::string& path) {
        auto fd = control::connect_unix(path, patience);
        REQUIRE_MESSAGE(fd, fd.error().message());
        return std::move(*fd);
    }

    int fd() const { return fd_.get(); }

    /// False once the server has closed.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes.remove_prefix(static_cast<size_t>(sent));
        }
        return true;
    }
    bool call(const std::string& method, const Json& parameters = Json::object(), const Json& extra = Json::object()) {
        Json message{{"method", method}, {"parameters", parameters}};
        message.update(extra);
        return send(control::to_wire(message));
    }
    /// Calls and gives the answer, which must come.
    Json ask(const std::string& method, const Json& parameters = Json::object()) {
        REQUIRE(call(method, parameters));
        auto reply = receive();
        REQUIRE(reply);
        return *reply;
    }
    void finish_sending() { ::shutdown(fd_.get(), SHUT_WR); }

    /// The server has closed its side, or does within the time.
    bool closed_within(std::chrono::milliseconds time) {
        pollfd item{.fd = fd_.get(), .events = POLLRDHUP, .revents = 0};
        return ::poll(&item, 1, static_cast<int>(time.count())) == 1;
    }

    /// The next reply; nothing when the server has closed.
    std::optional<Json> receive() {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        for (;;) {
            if (auto text = reader_.next()) return *control::parse_json(*text, {});
            if (closed_) return std::nullopt;
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
            pollfd item{.fd = fd_.get(), .events = POLLIN, .revents = 0};
            REQUIRE_MESSAGE(::poll(&item, 1, static_cast<int>(left.count())) == 1, "the server did not answer");
            char buffer[65536];
            const auto got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
            if (got <= 0) {
                closed_ = true;
            } else {
                reader_.feed({buffer, static_cast<size_t>(got)});
            }
        }
    }

 private:
    UniqueFd fd_;
    control::FrameReader reader_{64 << 20};
    bool closed_ = false;
};

}  // namespace storctl::test
