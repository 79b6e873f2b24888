#include <list>
#include <vector>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "control/client.hpp"
#include "control/message.hpp"
#include "control/message_receiver.hpp"
#include "control/output_queue.hpp"
#include "control/unix_socket.hpp"

namespace storctl::control {
namespace {

constexpr size_t max_reply_bytes = 64 << 20;
constexpr JsonLimits reply_limits{.nul_in_strings = true};

using ReplyCallback = std::function<void(Result<Reply>)>;

/// A call that waits for its answer. One that has run out of time stays, without its callback, for the late
/// answer.
struct OpenCall {
    std::string method;
    bool more = false;
    ReplyCallback on_reply;
    EventSource timer;
};

/// One connection with its calls in order. Callbacks may destroy it: they run last, or with a hold on it.
class Link : public std::enable_shared_from_this<Link> {
 public:
    static Result<std::shared_ptr<Link>> open(EventLoop& loop, const std::string& path, int64_t priority);
    /// A link on which every call fails with `error`.
    static std::shared_ptr<Link> broken(EventLoop& loop, const std::string& path, int64_t priority, Error error);

    void call(const CallMessage& message, std::chrono::milliseconds timeout, ReplyCallback on_reply);
    /// Nobody is called any more.
    void abandon();
    /// Every open call gets the error.
    void fail(const Error& error);
    void set_on_end(std::function<void()> callback) { on_end_ = std::move(callback); }
    pid_t peer_pid() const { return peer_pid_; }
    bool open() const { return static_cast<bool>(fd_); }

 private:
    Link(EventLoop& loop, std::string path, int64_t priority)
        : loop_(loop), path_(std::move(path)), priority_(priority) {}
    void on_io(uint32_t events);
    void handle_replies();
    void deliver(Result<Reply> reply);
    void time_out(OpenCall& call, std::chrono::milliseconds allowed);
    void flush();
    void fail_later(Error error);

    EventLoop& loop_;
    std::string path_;
    int64_t priority_;
    UniqueFd fd_;
    pid_t peer_pid_ = 0;
    MessageReceiver receiver_{max_reply_bytes};
    OutputQueue output_;
    std::list<OpenCall> calls_;
    Error error_;  ///< why it is not open
    EventSource io_, failure_;
    std::function<void()> on_end_;
};

Result<std::shared_ptr<Link>> Link::open(EventLoop& loop, const std::string& path, int64_t priority) {
    std::shared_ptr<Link> out(new Link(loop, path, priority));
    out->fd_ = TRY(connect_unix(path, std::chrono::milliseconds(0)));
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(out->fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
        return errno_error(fmt::format("cannot ask who serves '{}'", path));
    }
    out->peer_pid_ = credentials.pid;
    out->io_ =
        TRY(loop.add_io(out->fd_.get(), EPOLLIN, priority, [raw = out.get()](uint32_t events) { raw->on_io(events); }));
    return out;
}

std::shared_ptr<Link> Link::broken(EventLoop& loop, const std::string& path, int64_t priority, Error error) {
    std::shared_ptr<Link> out(new Link(loop, path, priority));
    out->error_ = std::move(error);
    return out;
}

void Link::call(const CallMessage& message, std::chrono::milliseconds timeout, ReplyCallback on_reply) {
    auto& call = calls_.emplace_back();
    call.method = message.method;
    call.more = message.more;
    call.on_reply = std::move(on_reply);
    if (!fd_) return fail_later(error_);
    if (timeout.count() > 0) {
        auto timer = loop_.add_timer(timeout, priority_, [this, &call, timeout] { time_out(call, timeout); });
        if (!timer) return fail_later(std::move(timer).error());
        call.timer = std::move(*timer);
    }
    output_.push(encode_call(message));
    flush();
}

void Link::abandon() {
    on_end_ = nullptr;
    calls_.clear();
    io_.reset();
    failure_.reset();
    fd_.reset();
}

void Link::on_io(uint32_t events) {
    const auto self = shared_from_this();
    if ((events & EPOLLOUT) != 0) flush();
    auto got = receiver_.receive(fd_.get());
    handle_replies();
    if (!fd_) return;
    if (!got && got.error().code == std::errc::message_size) {
        fail(std::move(got).error().within(fmt::format("'{}' answering", path_)));
    } else if (receiver_.overflowed()) {
        fail(make_error(std::errc::message_size,
                        fmt::format("'{}' answered with more than {} bytes", path_, max_reply_bytes)));
    } else if (!got || *got == size_t{0}) {
        fail(make_error(std::errc::connection_reset, fmt::format("'{}' closed the connection", path_)));
    }
}

void Link::handle_replies() {
    while (fd_) {
        auto message = receiver_.next();
        if (!message) return;
        auto reply = parse_reply(message->text, reply_limits);
        if (!reply) return fail(std::move(reply).error().within(fmt::format("'{}' answering", path_)));
        if (calls_.empty() || (reply->continues && !calls_.front().more)) {
            return fail(make_error(std::errc::bad_message, fmt::format("'{}' gave an answer without a call", path_)));
        }
        reply->descriptors = std::move(message->descriptors);
        deliver(std::move(*reply));
    }
}

void Link::deliver(Result<Reply> reply) {
    if (reply && reply->continues) {
        calls_.front().timer.reset();  // the time was for the first answer
        const auto callback = calls_.front().on_reply;
        if (callback) callback(std::move(reply));
        return;
    }
    const auto callback = std::move(calls_.front().on_reply);
    calls_.pop_front();
    if (callback) callback(std::move(reply));
}

void Link::time_out(OpenCall& call, std::chrono::milliseconds allowed) {
    const auto self = shared_from_this();
    const auto callback = std::exchange(call.on_reply, nullptr);
    auto error = make_error(std::errc::timed_out,
                            fmt::format("'{}' did not answer {} within {} ms", path_, call.method, allowed.count()));
    if (callback) callback(std::move(error));
}

void Link::flush() {
    if (!output_.flush(fd_.get())) output_.clear();  // the end comes as an event, after answers that were sent before
    io_.set_io_events(output_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Link::fail(const Error& error) {
    const auto self = shared_from_this();
    error_ = error;
    io_.reset();
    fd_.reset();
    while (!calls_.empty()) deliver(Error(error_).within(calls_.front().method));
    const auto callback = std::exchange(on_end_, nullptr);
    if (callback) callback();
}

/// Callers are never called back from inside `call`.
void Link::fail_later(Error error) {
    auto source = loop_.add_defer(priority_, [this, error = std::move(error)] {
        failure_.reset();
        fail(error);
    });
    if (source) failure_ = std::move(*source);
}

/// A stream takes a connection of its own: a server answers the calls of one connection one after the other.
class AsyncClientImplementation final : public AsyncClient {
 public:
    AsyncClientImplementation(EventLoop& loop, std::string path, int64_t priority, std::shared_ptr<Link> main)
        : loop_(loop), path_(std::move(path)), priority_(priority), main_(std::move(main)) {
        main_->set_on_end([this] { ended(); });
    }
    ~AsyncClientImplementation() override {
        main_->abandon();
        for (const auto& stream : streams_) stream->abandon();
    }

    void call(const std::string& method, Json parameters, std::chrono::milliseconds timeout, ReplyCallback on_reply,
              bool more) override;
    void on_disconnect(std::function<void()> callback) override { on_disconnect_ = std::move(callback); }
    pid_t peer_pid() const override { return main_->peer_pid(); }

 private:
    void ended();
    void drop_stream(Link& link);

    EventLoop& loop_;
    std::string path_;
    int64_t priority_;
    std::shared_ptr<Link> main_;
    std::list<std::shared_ptr<Link>> streams_;
    std::function<void()> on_disconnect_;
    std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);  ///< a callback may destroy this object
};

void AsyncClientImplementation::call(const std::string& method, Json parameters, std::chrono::milliseconds timeout,
                                     ReplyCallback on_reply, bool more) {
    const CallMessage message{.method = method, .parameters = std::move(parameters), .more = more};
    if (!more || !main_->open()) return main_->call(message, timeout, std::move(on_reply));

    auto opened = Link::open(loop_, path_, priority_);
    if (opened && (*opened)->peer_pid() != main_->peer_pid()) {
        opened = make_error(std::errc::connection_reset, fmt::format("'{}' is another process's by now", path_));
    }
    const auto link = opened ? *opened : Link::broken(loop_, path_, priority_, opened.error());
    streams_.push_back(link);
    link->call(message, timeout, [this, raw = link.get(), callback = std::move(on_reply)](Result<Reply> reply) {
        const auto keep = callback;  // this function object goes with its link
        if (!reply || !reply->continues) drop_stream(*raw);
        keep(std::move(reply));
    });
}

void AsyncClientImplementation::drop_stream(Link& link) {
    link.abandon();
    streams_.remove_if([&](const auto& entry) { return entry.get() == &link; });
}

void AsyncClientImplementation::ended() {
    const std::weak_ptr<const bool> alive = alive_;
    const auto streams = streams_;
    const auto error = make_error(std::errc::connection_reset, fmt::format("'{}' closed the connection", path_));
    for (const auto& stream : streams) stream->fail(error);
    if (alive.expired()) return;
    const auto callback = std::exchange(on_disconnect_, nullptr);
    if (callback) callback();
}

}  // namespace

Result<std::unique_ptr<AsyncClient>> AsyncClient::connect(EventLoop& loop, const std::string& socket_path,
                                                          int64_t priority) {
    auto link = TRY(Link::open(loop, socket_path, priority));
    return std::unique_ptr<AsyncClient>(
        std::make_unique<AsyncClientImplementation>(loop, socket_path, priority, std::move(link)));
}

}  // namespace storctl::control
