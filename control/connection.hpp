#pragma once
// One client of a server: reads calls, has them answered one after the other, sends the replies in that
// order. Of the server's thread. The server owns its connections, a connection the state of the call in
// progress; a Call finds its connection only as long as that lives. Closing happens in the loop's own turn,
// never inside an answer.

#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/unique_fd.hpp"
#include "control/framing.hpp"
#include "control/message.hpp"
#include "control/output_queue.hpp"
#include "control/peer.hpp"
#include "control/registry.hpp"
#include "control/server.hpp"

namespace storctl::control {

class Connection;

namespace detail {

/// A call from its arrival to its last answer.
struct CallState {
    std::weak_ptr<Connection> connection;
    std::shared_ptr<const Interface> interface;
    const MethodDescription* description = nullptr;  ///< inside *interface
    CallMessage message;
    Peer peer;
    bool answered = false;
    std::function<void()> on_disconnect;

    /// Checked against the description. False: nobody gets it.
    bool answer(Json parameters, bool continues, std::vector<UniqueFd> descriptors = {});
    void fail(std::string name, Json parameters);
    bool alive() const;

 private:
    bool send(Reply reply);
    void internal_error(const std::string& what);
};

}  // namespace detail

/// What a connection wants of its server; asked only while the connection is open.
class ConnectionOwner {
 public:
    virtual EventLoop& loop() = 0;
    virtual const ServerOptions& options() const = 0;
    virtual const InterfaceMap& interfaces() const = 0;
    /// The connection has closed.
    virtual void closed(Connection& connection) = 0;
    /// A warning that a client can cause at will.
    virtual void log_limited(const std::string& line) = 0;

 protected:
    ~ConnectionOwner() = default;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
    static Result<std::shared_ptr<Connection>> open(ConnectionOwner& owner, UniqueFd fd, Identity identity);

    const Peer& peer() const { return identity_.peer; }
    /// An answer may still reach the client.
    bool alive() const { return fd_ && !deaf_ && !hung_up_ && doom_.empty(); }
    /// Null where the server has no interface of that name.
    std::shared_ptr<const Interface> find_interface(std::string_view name) const;

    bool send(std::string message, std::vector<UniqueFd> descriptors = {});
    /// The call has got its last answer: the next one's turn.
    void completed(const detail::CallState& call);
    /// No new calls; closes when everything queued is sent.
    void finish();
    /// Closes now and tells the call in progress.
    void close();

 private:
    Connection(ConnectionOwner& owner, UniqueFd fd, Identity identity);
    void on_io(uint32_t events);
    void receive(bool until_end);
    void hang_up();
    void abandon_current();
    void turn();
    void handle_messages();
    void handle_end_of_input();
    void handle(const std::string& text);
    void dispatch(CallMessage message);
    bool ready_for_call() const;
    void refuse(const CallMessage& message, const std::string& error, Json parameters);
    void reject(const std::string& why);
    void flush();
    void doom(std::string why);
    void schedule_turn();
    void update_events();
    void watch_partial_message(bool completed_one);
    void arm(EventSource& timer, std::chrono::milliseconds delay, const char* why);

    ConnectionOwner& owner_;
    UniqueFd fd_;
    Identity identity_;
    FrameReader reader_;
    OutputQueue output_;
    std::shared_ptr<detail::CallState> current_;
    std::string doom_;          ///< why it will be closed at the next turn
    bool input_ended_ = false;  ///< the client has shut down its sending side
    bool deaf_ = false;         ///< sending has failed; the hang-up follows as an event
    bool hung_up_ = false;      ///< the client is gone; changes that it had sent are still made
    bool finishing_ = false;    ///< sends what is queued and closes
    bool handling_ = false;     ///< inside handle_messages
    bool partial_watched_ = false;
    bool stall_watched_ = false;
    uint32_t io_events_ = 0;
    EventSource io_, next_turn_, partial_timer_, stall_timer_;
};

}  // namespace storctl::control
