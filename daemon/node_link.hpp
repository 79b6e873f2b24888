#pragma once
// stord's connection to one node process: found when the process comes up, followed by its Watch stream. Loop thread
// only.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "control/client.hpp"

namespace storctl {

class NodeLink {
 public:
    struct Handlers {
        std::function<void(pid_t)> connected;
        std::function<void(const nlohmann::json&)> description;  ///< io.storctl.NodeProcess's Description
        std::function<void()> lost;
    };

    static Result<std::unique_ptr<NodeLink>> open(EventLoop& loop, std::string socket_path, Handlers handlers);

    /// One attempt; true: connected, and the description comes.
    bool connect_now();
    /// Attempts, at first quickly, until connected or `close`.
    void seek();
    /// The socket file has appeared: an attempt now, when seeking.
    void nudge();
    void close();
    bool connected() const { return client_ != nullptr; }

    /// `method` without the interface. Without a connection `done` gets not_connected, from inside.
    void call(const std::string& method, nlohmann::json parameters, std::chrono::milliseconds timeout,
              std::function<void(Result<control::Reply>)> done);

 private:
    NodeLink(EventLoop& loop, std::string socket_path, Handlers handlers)
        : loop_(loop), socket_path_(std::move(socket_path)), handlers_(std::move(handlers)) {}
    void attempt();
    void drop();
    void retire();

    EventLoop& loop_;
    std::string socket_path_;
    Handlers handlers_;
    std::unique_ptr<control::AsyncClient> client_;
    std::unique_ptr<control::AsyncClient> retired_;  // until its own callback, which may be running, has returned
    uint64_t generation_ = 0;                        // of client_; callbacks of older ones say nothing any more
    EventSource retry_;
    EventSource sweep_;
    std::chrono::milliseconds pause_{};
    bool seeking_ = false;
};

}  // namespace storctl
