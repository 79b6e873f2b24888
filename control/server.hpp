#pragma once
// A Varlink server on a Unix socket (https://varlink.org: JSON objects, each ended by NUL): framing, limits, peer
// credentials, dispatch to handlers by interface description, streams. Lives on one EventLoop's thread; never blocks.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::control {

using Json = nlohmann::json;

/// Who called, by SO_PEERCRED at connect; `executable` is what /proc said then ("?" when it could not be read).
struct Peer {
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = 0;
    std::string executable;
};

/// What a method needs: anyone may read; root, the server's own uid or the configured group may change.
enum class Access { read, change };

namespace detail {
struct CallState;
}

/// One call being answered. A handler may answer at once or keep the Call and answer later; a Call that is destroyed
/// unanswered replies with io.storctl.InternalError. Answering a call whose client has gone does nothing.
class Call {
 public:
    explicit Call(std::shared_ptr<detail::CallState> state);
    Call(Call&&) noexcept;
    Call& operator=(Call&&) noexcept;
    ~Call();

    const std::string& method() const;  ///< fully qualified, "io.storctl.Device.List"
    const Json& parameters() const;     ///< already checked against the interface description
    const Peer& peer() const;
    bool wants_more() const;  ///< the client set "more": it takes a stream
    bool alive() const;       ///< the client is still there

    /// The one or last answer.
    void reply(Json parameters);
    /// The same with descriptors, at most 16; the answer says by index what each is. The client may not look at them:
    /// they are closed here once they are sent, or when nobody takes them.
    void reply(Json parameters, std::vector<UniqueFd> descriptors);
    /// One answer of a stream; `reply` or `error` ends it. False: the client is gone or too slow and was dropped.
    bool reply_continues(Json parameters);
    /// `name` is fully qualified or one of the interface's own errors ("NotFound").
    void error(std::string name, Json parameters);
    /// Called once when the client goes away before the answer.
    void on_disconnect(std::function<void()> callback);

 private:
    std::shared_ptr<detail::CallState> state_;
};

struct Method {
    std::string name;  ///< without the interface: "List"
    Access access = Access::read;
    std::function<void(Call)> handler;
};

struct ServerOptions {
    std::string socket_path;
    mode_t socket_mode = 0666;                    ///< reading is free; changes are checked per call
    gid_t change_group = static_cast<gid_t>(-1);  ///< besides root; -1: nobody
    size_t max_message_bytes = 1 << 20;
    size_t max_clients = 256;                                  ///< the last eighth is kept for root
    size_t max_clients_per_uid = 128;                          ///< not applied to root
    size_t max_queued_bytes = 16 << 20;                        ///< per client; a stream's slower reader is disconnected
    size_t max_pending_calls = 64;                             ///< per client; reading from it pauses beyond
    size_t max_depth = 64;                                     ///< nesting of a message
    std::chrono::milliseconds partial_message_timeout{10000};  ///< half a message and then silence: disconnected
    std::chrono::milliseconds stalled_reader_timeout{30000};   ///< takes nothing of what is queued: disconnected
    int64_t priority = 0;                                      ///< on the event loop
    std::string vendor = "storctl", product = "stord", version, url = "https://storctl.invalid";
};

class Server {
 public:
    /// Binds and listens; replaces a dead socket file, refuses a live one (address_in_use).
    static Result<std::unique_ptr<Server>> listen(EventLoop& loop, ServerOptions options);
    virtual ~Server() = default;

    /// `description` is the text of a .varlink file. Every method that it names must be given, no others:
    /// invalid_argument.
    virtual Result<void> add_interface(std::string_view description, std::vector<Method> methods) = 0;
    /// Stops listening and removes the socket file; open connections get what is queued, for at most `grace`.
    virtual void close(std::chrono::milliseconds grace) = 0;
    virtual size_t clients() const = 0;

 protected:
    Server() = default;
};

}  // namespace storctl::control
