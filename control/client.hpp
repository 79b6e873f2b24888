#pragma once
// Varlink clients: `Client` blocks with a deadline (the command line), `AsyncClient` lives on an EventLoop (stord to
// its nodes). Both are of one thread.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl::control {

using Json = nlohmann::json;

/// An answer: parameters, or a named Varlink error with its parameters. A method's description says which descriptors
/// come with its answer; those that are left here are closed.
struct Reply {
    Json parameters = Json::object();
    std::optional<std::string> error;  ///< fully qualified name
    bool continues = false;
    std::vector<UniqueFd> descriptors;
};

class Client {
 public:
    /// Errors keep connect(2)'s code (no_such_file_or_directory, connection_refused, permission_denied) and name the
    /// socket. `patience`: for a server whose queue of new connections is full.
    static Result<std::unique_ptr<Client>> connect(const std::string& socket_path,
                                                   std::chrono::milliseconds patience = std::chrono::seconds(5));
    virtual ~Client() = default;

    /// Zero timeout: none. After an Error the next call connects anew.
    virtual Result<Reply> call(const std::string& method, Json parameters, std::chrono::milliseconds timeout) = 0;
    /// `tell` is called from inside each later `call` whose answer takes longer than `after`, once.
    virtual void when_slow(std::chrono::milliseconds after, std::function<void()> tell) = 0;
    /// A later `call` that is sent and waits for its answer ends with operation_canceled when `descriptor` is readable;
    /// the server goes on with it. -1: nothing ends it.
    virtual void stop_waiting_at(int descriptor) = 0;
    /// A stream ("more"): `on_reply` per answer until it returns false, an error comes or the server ends it.
    virtual Result<void> subscribe(const std::string& method, Json parameters,
                                   const std::function<bool(const Reply&)>& on_reply) = 0;

 protected:
    Client() = default;
};

class AsyncClient {
 public:
    static Result<std::unique_ptr<AsyncClient>> connect(EventLoop& loop, const std::string& socket_path,
                                                        int64_t priority);
    virtual ~AsyncClient() = default;

    /// `on_reply` is called once (for a stream: per answer) on the loop, never from inside `call`. When the connection
    /// breaks or the time is up it gets an Error. Zero timeout: none; a stream's is for its first answer. Destroying
    /// the client forgets its open calls. A stream takes a second connection, so that it does not hold up other calls.
    virtual void call(const std::string& method, Json parameters, std::chrono::milliseconds timeout,
                      std::function<void(Result<Reply>)> on_reply, bool more = false) = 0;
    /// Called once when the connection is gone; open calls have got their errors before.
    virtual void on_disconnect(std::function<void()> callback) = 0;
    /// The other side's process (SO_PEERCRED).
    virtual pid_t peer_pid() const = 0;

 protected:
    AsyncClient() = default;
};

}  // namespace storctl::control
