#include "daemon/node/node_control.hpp"

#include <cstddef>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "control/interfaces.hpp"
#include "daemon/node/reservation_json.hpp"
#include "storctl_version.hpp"

namespace storctl::node {
namespace {

using control::Json;

// After what the data plane reports (a lost backing, an open), which is known before a call asks for it.
constexpr int64_t control_priority = 0;
constexpr auto answer_grace = std::chrono::seconds(1);

/// A second process for the same node would mount over the first. An abstract socket's name is free again the moment
/// its owner is gone, however it went.
Result<UniqueFd> claim_name(const Spec& spec) {
    const std::string name = fmt::format("storctl-node:{}", spec.control_socket);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.size() + 1 > sizeof address.sun_path) {
        return make_error(std::errc::filename_too_long,
                          fmt::format("'{}' is too long for a socket", spec.control_socket));
    }
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    UniqueFd claim(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!claim) return errno_error("cannot create a socket");
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (::bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0) return claim;
    if (errno != EADDRINUSE) return errno_error(fmt::format("cannot claim the name of node '{}'", spec.name));
    return make_error(std::errc::address_in_use, fmt::format("node '{}' already has a process", spec.name));
}

}  // namespace

NodeControl::NodeControl(EventLoop& loop, std::string socket_path)
    : loop_(loop), socket_path_(std::move(socket_path)), started_ns_(monotonic_ns()) {}

NodeControl::~NodeControl() = default;

Result<std::unique_ptr<NodeControl>> NodeControl::claim(EventLoop& loop, const Spec& spec) {
    std::unique_ptr<NodeControl> control(new NodeControl(loop, spec.control_socket));
    control->name_claim_ = TRY(claim_name(spec));
    return control;
}

Result<void> NodeControl::serve(Handlers handlers) {
    handlers_ = std::move(handlers);
    server_ = TRY(control::Server::listen(loop_, {.socket_path = socket_path_,
                                                  .socket_mode = 0600,
                                                  .priority = control_priority,
                                                  .product = "stor-node",
                                                  .version = STORCTL_VERSION}));
    using control::Access;
    using control::Call;
    const auto describe = [this](Call call) { call.reply({{"description", description()}}); };
    const auto refresh = [this, describe](Call call) {
        handlers_.refresh();
        describe(std::move(call));
    };
    std::vector<control::Method> methods;
    methods.push_back({"Describe", Access::read, describe});
    methods.push_back({"Watch", Access::read, [this](Call call) { handle_watch(std::move(call)); }});
    methods.push_back({"Stat", Access::read, [this](Call call) { handle_stat(std::move(call)); }});
    methods.push_back({"Reopen", Access::change, [this](Call call) { handle_reopen(std::move(call)); }});
    methods.push_back({"Refresh", Access::change, refresh});
    methods.push_back({"Stop", Access::change, [this](Call call) { handle_stop(std::move(call)); }});
    methods.push_back(
        {"SetReservations", Access::change, [this](Call call) { handle_set_reservations(std::move(call)); }});
    return server_->add_interface(control::io_storctl_node_process, std::move(methods));
}

Json NodeControl::description() const { return to_json(handlers_.describe()); }

void NodeControl::changed() {
    if (watchers_.empty()) return;
    const Json parameters = {{"description", description()}};
    std::erase_if(watchers_, [&](control::Call& watcher) { return !watcher.reply_continues(parameters); });
}

void NodeControl::handle_watch(control::Call call) {
    const Json parameters = {{"description", description()}};
    if (!call.wants_more()) return call.reply(parameters);
    if (call.reply_continues(parameters)) watchers_.push_back(std::move(call));
}

void NodeControl::handle_stat(control::Call call) {
    Json parameters = handlers_.stats();
    parameters["time_ns"] = monotonic_ns();
    parameters["started_ns"] = started_ns_;
    call.reply(std::move(parameters));
}

void NodeControl::handle_reopen(control::Call call) {
    if (auto result = handlers_.reopen(call.parameters()["path"]); !result) {
        return call.error("ReopenFailed", {{"message", result.error().message()}});
    }
    call.reply({{"description", description()}});
}

void NodeControl::handle_stop(control::Call call) {
    const auto openers = handlers_.stop(call.parameters()["force"]);
    if (!openers.empty()) return call.error("Busy", {{"openers", to_json(openers)}});
    // the answer goes out before the end: `close` gives the socket its time
    call.reply(Json::object());
    server_->close(answer_grace);
}

void NodeControl::handle_set_reservations(control::Call call) {
    const auto refuse = [&](std::string message) {
        call.error("ReservationsNotTaken", {{"message", std::move(message)}});
    };
    if (!handlers_.set_reservations) return refuse("this node has no persistent reservations");
    auto state = parse_reservations(call.parameters()["reservations"]);
    if (!state) return refuse(state.error().message());
    std::optional<std::string> error;
    if (const auto given = call.parameters().find("error"); given != call.parameters().end() && !given->is_null())
        error = given->get<std::string>();
    if (auto taken = handlers_.set_reservations(std::move(*state), std::move(error)); !taken)
        return refuse(taken.error().message());
    call.reply(Json::object());
}

}  // namespace storctl::node
