#include "daemon/status_service.hpp"

#include "base/clock.hpp"
#include "control/interfaces.hpp"

namespace storctl {
namespace {

using nlohmann::json;

json message_of(const Event& event) {
    return {{"event",
             {{"time", format_time(wall_now())},
              {"event", event.event},
              {"subject", event.subject},
              {"summary", event.summary},
              {"detail", event.detail}}}};
}

}  // namespace

StatusService::StatusService(EventHub& hub, Status status, Reload reload)
    : status_(std::move(status)), reload_(std::move(reload)) {
    hub.listen([this](const Event& event) { forward(event); });
}

Result<void> StatusService::serve(control::Server& server) {
    using control::Access;
    using control::Call;
    std::vector<control::Method> methods;
    methods.push_back({"GetStatus", Access::read, [this](Call call) { call.reply({{"status", status_()}}); }});
    methods.push_back({"Monitor", Access::read, [this](Call call) { on_monitor(std::move(call)); }});
    methods.push_back({"Reload", Access::change, [this](Call call) {
                           if (auto done = reload_(); !done) {
                               return call.error("ReloadFailed", {{"message", done.error().message()}});
                           }
                           call.reply(json::object());
                       }});
    return server.add_interface(control::io_storctl, std::move(methods));
}

void StatusService::on_monitor(control::Call call) {
    if (!call.wants_more()) return call.error("ExpectedMore", json::object());
    const uint64_t id = next_monitor_++;
    call.on_disconnect([this, id] { monitors_.erase(id); });
    monitors_[id] = std::make_shared<control::Call>(std::move(call));
}

void StatusService::forward(const Event& event) {
    if (monitors_.empty()) return;
    const json message = message_of(event);
    const auto monitors = monitors_;  // a client that is dropped leaves the map while it is walked
    for (const auto& [id, call] : monitors) {
        if (!call->reply_continues(message)) monitors_.erase(id);
    }
}

void StatusService::end_streams(const Event& last) {
    const json message = message_of(last);
    for (const auto& [id, call] : std::exchange(monitors_, {})) call->reply(message);
}

}  // namespace storctl
