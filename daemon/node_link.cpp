#include "daemon/node_link.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

constexpr std::chrono::milliseconds first_pause{5};
constexpr std::chrono::milliseconds longest_pause{500};
constexpr std::chrono::milliseconds no_timeout{0};

std::string qualified(const std::string& method) { return "io.storctl.NodeProcess." + method; }

}  // namespace

Result<std::unique_ptr<NodeLink>> NodeLink::open(EventLoop& loop, std::string socket_path, Handlers handlers) {
    std::unique_ptr<NodeLink> link(new NodeLink(loop, std::move(socket_path), std::move(handlers)));
    link->retry_ = TRY(loop.add_timer(first_pause, priority::node_timers, [raw = link.get()] { raw->attempt(); }));
    link->retry_.enable(false);
    return link;
}

bool NodeLink::connect_now() {
    if (client_ != nullptr) return true;
    auto client = control::AsyncClient::connect(loop_, socket_path_, priority::node_messages);
    if (!client) return false;
    client_ = std::move(*client);
    seeking_ = false;
    retry_.enable(false);
    const uint64_t generation = ++generation_;
    client_->on_disconnect([this, generation] {
        if (generation == generation_) drop();
    });
    const auto on_reply = [this, generation](Result<control::Reply> reply) {
        if (generation != generation_ || !reply) return;  // a broken connection is told by on_disconnect
        const bool described = !reply->error && reply->parameters.contains("description");
        try {
            if (described) return handlers_.description(reply->parameters["description"]);
        } catch (const nlohmann::json::exception& error) {
            reply->error = error.what();
        }
        log::debug("'{}' gave no description ({}), connecting again", socket_path_, reply->error.value_or("empty"));
        drop();
    };
    client_->call(qualified("Watch"), nlohmann::json::object(), no_timeout, on_reply, true);
    handlers_.connected(client_->peer_pid());
    return true;
}

void NodeLink::seek() {
    if (client_ != nullptr) return;
    seeking_ = true;
    pause_ = first_pause;
    retry_.arm(pause_);
}

void NodeLink::nudge() {
    if (seeking_) attempt();
}

void NodeLink::attempt() {
    if (!seeking_ || connect_now()) return;
    pause_ = std::min(2 * pause_, longest_pause);
    retry_.arm(pause_);
}

void NodeLink::close() {
    seeking_ = false;
    retry_.enable(false);
    retire();
}

void NodeLink::drop() {
    if (client_ == nullptr) return;
    retire();
    handlers_.lost();
}

void NodeLink::retire() {
    if (client_ == nullptr) return;
    ++generation_;
    retired_ = std::move(client_);
    auto sweep = loop_.add_defer(priority::node_timers, [this] { retired_.reset(); });
    if (sweep) sweep_ = std::move(*sweep);
}

void NodeLink::call(const std::string& method, nlohmann::json parameters, std::chrono::milliseconds timeout,
                    std::function<void(Result<control::Reply>)> done) {
    if (client_ != nullptr) return client_->call(qualified(method), std::move(parameters), timeout, std::move(done));
    done(make_error(std::errc::not_connected, fmt::format("no connection to '{}'", socket_path_)));
}

}  // namespace storctl
