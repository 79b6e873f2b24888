#include "control/client.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <poll.h>

#include "control/message.hpp"
#include "control/message_receiver.hpp"
#include "control/output_queue.hpp"
#include "control/unix_socket.hpp"

namespace storctl::control {
namespace {

using Clock = std::chrono::steady_clock;

// An inventory of ten thousand devices has some 30 MB.
constexpr size_t max_reply_bytes = 256 << 20;
constexpr JsonLimits reply_limits{.nul_in_strings = true};

class BlockingClient final : public Client {
 public:
    BlockingClient(std::string path, std::chrono::milliseconds patience)
        : path_(std::move(path)), connect_patience_(patience) {}

    Result<void> open();
    Result<Reply> call(const std::string& method, Json parameters, std::chrono::milliseconds timeout) override;
    void when_slow(std::chrono::milliseconds after, std::function<void()> tell) override {
        slow_after_ = after;
        tell_slow_ = std::move(tell);
    }
    void stop_waiting_at(int descriptor) override { stop_ = descriptor; }
    Result<void> subscribe(const std::string& method, Json parameters,
                           const std::function<bool(const Reply&)>& on_reply) override;

 private:
    struct Deadline {
        std::optional<Clock::time_point> at;
        std::chrono::milliseconds allowed{};
        std::optional<Clock::time_point> slow_at;  ///< nothing: nobody wants to hear of it, or it has been said

        std::optional<Clock::time_point> next() const { return slow_at && (!at || *slow_at < *at) ? slow_at : at; }
    };

    Result<void> send(const CallMessage& message, Deadline& deadline);
    Result<Reply> receive(const std::string& method, Deadline& deadline);
    Result<void> wait(short events, const std::string& method, Deadline& deadline);
    Error lost(const std::string& method) const;

    std::string path_;
    std::chrono::milliseconds connect_patience_;
    std::chrono::milliseconds slow_after_{};
    std::function<void()> tell_slow_;
    int stop_ = -1;
    UniqueFd fd_;
    MessageReceiver receiver_{max_reply_bytes};
};

Result<void> BlockingClient::open() {
    fd_ = TRY(connect_unix(path_, connect_patience_));
    receiver_ = MessageReceiver(max_reply_bytes);
    return {};
}

Result<Reply> BlockingClient::call(const std::string& method, Json parameters, std::chrono::milliseconds timeout) {
    if (!fd_) TRY(open());
    Deadline deadline{.allowed = timeout};
    if (timeout.count() > 0) deadline.at = Clock::now() + timeout;
    if (tell_slow_) deadline.slow_at = Clock::now() + slow_after_;
    const auto run = [&]() -> Result<Reply> {
        TRY(send({.method = method, .parameters = std::move(parameters)}, deadline));
        Reply reply = TRY(receive(method, deadline));
        if (reply.continues) {
            return make_error(std::errc::bad_message,
                              fmt::format("'{}' answered {} with a stream that nobody asked for", path_, method));
        }
        return reply;
    };
    auto reply = run();
    // a late answer must not be taken for the next call's: that one connects anew
    if (!reply) fd_.reset();
    return reply;
}

Result<void> BlockingClient::subscribe(const std::string& method, Json parameters,
                                       const std::function<bool(const Reply&)>& on_reply) {
    if (!fd_) TRY(open());
    Deadline never;
    const auto run = [&]() -> Result<bool> {
        TRY(send({.method = method, .parameters = std::move(parameters), .more = true}, never));
        for (;;) {
            const Reply reply = TRY(receive(method, never));
            if (!on_reply(reply)) return reply.continues;
            if (!reply.continues) return false;
        }
    };
    const auto unfinished = run();
    if (!unfinished || *unfinished) fd_.reset();
    if (!unfinished) return unfinished.error();
    return {};
}

Result<void> BlockingClient::send(const CallMessage& message, Deadline& deadline) {
    OutputQueue output;
    output.push(encode_call(message));
    for (;;) {
        if (auto sent = output.flush(fd_.get()); !sent) {
            return {};  // the server may have said why before it closed: receive() finds out
        }
        if (output.empty()) return {};
        TRY(wait(POLLOUT, message.method, deadline));
    }
}

Result<Reply> BlockingClient::receive(const std::string& method, Deadline& deadline) {
    for (;;) {
        if (auto message = receiver_.next()) {
            auto reply = parse_reply(message->text, reply_limits);
            if (!reply) return std::move(reply).error().within(fmt::format("'{}' answering {}", path_, method));
            reply->descriptors = std::move(message->descriptors);
            return reply;
        }
        if (receiver_.overflowed()) {
            return make_error(std::errc::message_size,
                              fmt::format("'{}' answered {} with more than {} bytes", path_, method, max_reply_bytes));
        }
        TRY(wait(POLLIN, method, deadline));
        auto got = receiver_.receive(fd_.get());
        if (!got && got.error().code == std::errc::message_size) {
            return std::move(got).error().within(fmt::format("'{}' answering {}", path_, method));
        }
        if (!got || *got == size_t{0}) return lost(method);
    }
}

Result<void> BlockingClient::wait(short events, const std::string& method, Deadline& deadline) {
    for (;;) {
        int milliseconds = -1;
        if (const auto next = deadline.next()) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - Clock::now()).count();
            if (left <= 0 && next == deadline.slow_at) {
                deadline.slow_at.reset();
                tell_slow_();
                continue;
            }
            if (left <= 0) {
                return make_error(std::errc::timed_out, fmt::format("'{}' did not answer {} within {} ms", path_,
                                                                    method, deadline.allowed.count()));
            }
            milliseconds = static_cast<int>(std::min<int64_t>(left, 1 << 30));
        }
        // what is not sent yet would be lost: only the wait for an answer ends early
        pollfd items[]{{.fd = fd_.get(), .events = events, .revents = 0},
                       {.fd = events == POLLIN ? stop_ : -1, .events = POLLIN, .revents = 0}};
        const int ready = ::poll(items, 2, milliseconds);
        if (ready > 0 && items[0].revents != 0) return {};
        if (ready > 0) {
            return make_error(std::errc::operation_canceled,
                              fmt::format("the wait for '{}' to answer {} was ended", path_, method));
        }
        if (ready < 0 && errno != EINTR) return errno_error(fmt::format("cannot wait for '{}'", path_));
    }
}

Error BlockingClient::lost(const std::string& method) const {
    return make_error(std::errc::connection_reset,
                      fmt::format("'{}' closed the connection before it had answered {}", path_, method));
}

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const std::string& socket_path, std::chrono::milliseconds patience) {
    auto client = std::make_unique<BlockingClient>(socket_path, patience);
    TRY(client->open());
    return std::unique_ptr<Client>(std::move(client));
}

}  // namespace storctl::control
