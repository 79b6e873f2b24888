#include "control/connection.hpp"

#include <array>
#include <cerrno>
#include <exception>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "control/unix_socket.hpp"
#include "control/value_check.hpp"

namespace storctl::control {
namespace {

// Per turn of the loop, so that a busy client shares the thread with the others.
constexpr size_t read_bytes_per_turn = 64 << 10;
constexpr int calls_per_turn = 16;
// The next call waits while this much is not sent: who pipelines calls is slowed down, not disconnected.
constexpr size_t unsent_bytes_before_next_call = 256 << 10;

JsonLimits limits_of(const ServerOptions& options) { return {.max_depth = options.max_depth}; }

}  // namespace

Connection::Connection(ConnectionOwner& owner, UniqueFd fd, Identity identity)
    : owner_(owner), fd_(std::move(fd)), identity_(std::move(identity)), reader_(owner.options().max_message_bytes) {}

Result<std::shared_ptr<Connection>> Connection::open(ConnectionOwner& owner, UniqueFd fd, Identity identity) {
    std::shared_ptr<Connection> out(new Connection(owner, std::move(fd), std::move(identity)));
    out->io_events_ = EPOLLIN | EPOLLRDHUP;
    out->io_ = TRY(owner.loop().add_io(out->fd_.get(), out->io_events_, owner.options().priority,
                                       [raw = out.get()](uint32_t events) { raw->on_io(events); }));
    return out;
}

std::shared_ptr<const Interface> Connection::find_interface(std::string_view name) const {
    if (!fd_) return nullptr;
    const auto found = owner_.interfaces().find(name);
    return found == owner_.interfaces().end() ? nullptr : found->second;
}

void Connection::on_io(uint32_t events) {
    const auto self = shared_from_this();
    const bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if ((events & EPOLLOUT) != 0 && !gone) flush();
    if (gone || (events & (EPOLLIN | EPOLLRDHUP)) != 0) receive(gone);
    if (gone) hang_up();
    turn();
}

/// `until_end`: the client is gone, so what is left is finite.
void Connection::receive(bool until_end) {
    std::array<char, read_bytes_per_turn> buffer;
    do {
        const auto got = receive_some(fd_.get(), buffer);
        if (!got || *got == size_t{0}) input_ended_ = true;
        if (!got || !*got || **got == 0) return;
        const size_t before = reader_.complete();
        reader_.feed({buffer.data(), **got});
        watch_partial_message(reader_.complete() != before);
    } while (until_end);
}

void Connection::hang_up() {
    hung_up_ = true;
    io_.reset();
    partial_timer_.reset();
    stall_timer_.reset();
    output_.clear();
    abandon_current();
}

void Connection::abandon_current() {
    const auto call = std::exchange(current_, nullptr);
    if (!call || call->answered) return;
    const auto callback = std::exchange(call->on_disconnect, nullptr);
    if (callback) callback();
}

/// Everything that can end the connection comes together here, outside of any answer.
void Connection::turn() {
    const auto self = shared_from_this();
    if (!fd_) return;
    if (doom_.empty()) handle_messages();
    if (!fd_) return;
    if (!doom_.empty()) {
        owner_.log_limited(fmt::format("client {} disconnected: {}", describe(peer()), doom_));
        close();
    } else if ((finishing_ && output_.empty()) || (hung_up_ && reader_.complete() == 0)) {
        close();
    } else {
        update_events();
    }
}

bool Connection::ready_for_call() const {
    // descriptors cost more than their bytes: one answer with them waits at a time
    const bool keeps_up = output_.bytes() <= unsent_bytes_before_next_call && output_.descriptors() == 0;
    return fd_ && doom_.empty() && !finishing_ && !current_ && keeps_up;
}

void Connection::handle_messages() {
    handling_ = true;
    for (int budget = calls_per_turn; budget > 0 && ready_for_call(); --budget) {
        const auto text = reader_.next();
        if (!text) break;
        handle(*text);
        if (hung_up_) current_.reset();
    }
    handling_ = false;
    if (!ready_for_call()) return;
    if (reader_.complete() > 0) return schedule_turn();
    handle_end_of_input();
}

void Connection::handle_end_of_input() {
    if (reader_.overflowed()) {
        reject(fmt::format("longer than {} bytes", owner_.options().max_message_bytes));
    } else if (input_ended_ && reader_.partial()) {
        reject("the connection ended inside the message");
    } else if (input_ended_) {
        finishing_ = true;
    }
}

void Connection::handle(const std::string& text) {
    auto message = parse_call(text, limits_of(owner_.options()));
    if (!message) return reject(message.error().context);
    dispatch(std::move(*message));
}

void Connection::dispatch(CallMessage message) {
    const auto dot = message.method.rfind('.');
    if (dot == std::string::npos) {
        return refuse(message, "InvalidParameter",
                      {{"parameter", "method"}, {"message", "method: expected INTERFACE.METHOD"}});
    }
    const auto interface = find_interface(message.method.substr(0, dot));
    if (!interface) return refuse(message, "InterfaceNotFound", {{"interface", message.method.substr(0, dot)}});
    const auto method = interface->methods.find(message.method.substr(dot + 1));
    if (method == interface->methods.end()) return refuse(message, "MethodNotFound", {{"method", message.method}});
    if (!method->second.handler) return refuse(message, "MethodNotImplemented", {{"method", message.method}});

    const bool change = method->second.access == Access::change;
    if (hung_up_ && !change && !message.oneway) return;
    if (change && !identity_.may_change) {
        owner_.log_limited(fmt::format("{} denied to {}", message.method, describe(peer())));
        return refuse(message, "PermissionDenied",
                      {{"method", message.method}, {"message", "only root and the configured group may change"}});
    }
    const auto& description = interface->description.methods.find(method->first)->second;
    if (const auto misfit = check_value(interface->description, description.input, message.parameters)) {
        return refuse(message, "InvalidParameter",
                      {{"parameter", misfit->parameter()}, {"message", misfit->message()}});
    }
    if (change) log::notice("{} by {}", message.method, describe(peer()));

    auto state = std::make_shared<detail::CallState>();
    state->connection = weak_from_this();
    state->interface = interface;
    state->description = &description;
    state->message = std::move(message);
    state->peer = peer();
    current_ = state;
    try {
        method->second.handler(Call(state));
    } catch (const std::exception& error) {
        // the Call died with the handler and has answered
        log::error("{}: the handler failed: {}", state->message.method, error.what());
    }
}

void Connection::refuse(const CallMessage& message, const std::string& error, Json parameters) {
    if (message.oneway) return;
    send(encode_reply({.parameters = std::move(parameters), .error = "org.varlink.service." + error}));
}

/// What came is no call: say so, and close, because nothing after it can be trusted to begin where it seems
/// to.
void Connection::reject(const std::string& why) {
    owner_.log_limited(fmt::format("client {} disconnected: malformed message: {}", describe(peer()), why));
    const Json parameters{{"parameter", ""}, {"message", "malformed message: " + why}};
    send(encode_reply({.parameters = parameters, .error = "org.varlink.service.InvalidParameter"}));
    finishing_ = true;
}

bool Connection::send(std::string message, std::vector<UniqueFd> descriptors) {
    if (!alive()) return false;
    if (output_.bytes() > owner_.options().max_queued_bytes) {
        doom(fmt::format("it does not read: {} bytes are queued", output_.bytes()));
        return false;
    }
    output_.push(std::move(message), std::move(descriptors));
    flush();
    if (!handling_ && fd_) update_events();
    return alive();
}

void Connection::completed(const detail::CallState& call) {
    if (current_.get() != &call) return;
    current_.reset();
    if (!handling_ && fd_) schedule_turn();
}

void Connection::finish() {
    finishing_ = true;
    if (fd_ && output_.empty()) schedule_turn();
}

void Connection::close() {
    if (!fd_) return;
    const auto self = shared_from_this();
    for (EventSource* source : {&io_, &next_turn_, &partial_timer_, &stall_timer_}) source->reset();
    fd_.reset();
    output_.clear();
    owner_.closed(*this);
    abandon_current();
}

void Connection::flush() {
    const size_t before = output_.bytes();
    if (auto sent = output_.flush(fd_.get()); !sent) {
        deaf_ = true;
        output_.clear();
        ::shutdown(fd_.get(), SHUT_RDWR);  // comes back as a hang-up, after what the client had sent before
    }
    if (output_.empty()) {
        stall_timer_.enable(false);
        stall_watched_ = false;
    } else if (output_.bytes() != before || !stall_watched_) {
        stall_watched_ = true;
        arm(stall_timer_, owner_.options().stalled_reader_timeout, "it does not read");
    }
}

void Connection::doom(std::string why) {
    doom_ = std::move(why);
    output_.clear();
    if (!handling_) schedule_turn();
}

void Connection::schedule_turn() {
    auto source = owner_.loop().add_defer(owner_.options().priority, [this] {
        next_turn_.reset();
        turn();
    });
    if (source) {
        next_turn_ = std::move(*source);
    } else {
        // ESTALE: the loop has ended, and the answers of calls that are dropped then have nowhere to go
        const bool ended = source.error().value() == ESTALE;
        if (!ended) log::error("client {} disconnected: {}", describe(peer()), source.error().message());
        ::shutdown(fd_.get(), SHUT_RDWR);  // comes back as a hang-up
    }
}

void Connection::update_events() {
    if (!io_) return;
    const bool paused = reader_.complete() >= owner_.options().max_pending_calls;
    const bool read = !input_ended_ && !finishing_ && !paused && !reader_.overflowed();
    const uint32_t wanted = (read ? EPOLLIN | EPOLLRDHUP : 0U) | (output_.empty() ? 0U : EPOLLOUT);
    if (!read && partial_watched_) {
        partial_watched_ = false;
        partial_timer_.enable(false);
    } else if (read && !partial_watched_) {
        watch_partial_message(false);  // read while it was paused
    }
    if (wanted != io_events_) io_.set_io_events(wanted);
    io_events_ = wanted;
}

/// The time for a message runs from its first byte, so that single bytes now and then do not hold a place for
/// ever.
void Connection::watch_partial_message(bool completed_one) {
    if (!reader_.partial()) {
        if (partial_watched_) partial_timer_.enable(false);
        partial_watched_ = false;
    } else if (!partial_watched_ || completed_one) {
        partial_watched_ = true;
        arm(partial_timer_, owner_.options().partial_message_timeout, "half a message and then silence");
    }
}

void Connection::arm(EventSource& timer, std::chrono::milliseconds delay, const char* why) {
    if (timer) return timer.arm(delay);
    auto created = owner_.loop().add_timer(delay, owner_.options().priority, [this, why] { doom(why); });
    if (created) {
        timer = std::move(*created);
    } else {
        doom(created.error().message());
    }
}

}  // namespace storctl::control
