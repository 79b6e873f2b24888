#include <fmt/format.h>

#include "base/log.hpp"
#include "control/connection.hpp"
#include "control/value_check.hpp"

namespace storctl::control {

namespace detail {

bool CallState::alive() const {
    const auto target = connection.lock();
    return target && target->alive();
}

bool CallState::send(Reply reply) {
    const auto target = connection.lock();
    if (!reply.continues) {
        answered = true;
        on_disconnect = nullptr;
    }
    if (!target) return false;
    const bool sent =
        message.oneway ? target->alive() : target->send(encode_reply(reply), std::move(reply.descriptors));
    if (answered) target->completed(*this);
    return sent;
}

void CallState::internal_error(const std::string& what) {
    log::error("{}: {}", message.method, what);
    send({.parameters = {{"message", what}}, .error = "io.storctl.InternalError"});
}

bool CallState::answer(Json parameters, bool continues, std::vector<UniqueFd> descriptors) {
    if (answered) {
        log::error("{}: answered again after the last answer", message.method);
        return false;
    }
    if (continues && !message.more) {
        send({.error = "org.varlink.service.ExpectedMore"});
        return false;
    }
    if (parameters.is_null()) parameters = Json::object();
    if (const auto misfit = check_value(interface->description, description->output, parameters)) {
        internal_error(fmt::format("server and description do not agree: answer: {}", misfit->message()));
        return false;
    }
    if (descriptors.size() > max_descriptors) {
        internal_error(fmt::format("{} descriptors: an answer takes {}", descriptors.size(), max_descriptors));
        return false;
    }
    return send({.parameters = std::move(parameters), .continues = continues, .descriptors = std::move(descriptors)});
}

void CallState::fail(std::string name, Json parameters) {
    if (answered) return log::error("{}: error '{}' after the last answer", message.method, name);
    if (parameters.is_null()) parameters = Json::object();
    if (name.find('.') == std::string::npos) name = interface->description.name + "." + name;
    const auto dot = name.rfind('.');
    auto home = name.substr(0, dot) == interface->description.name ? interface : nullptr;
    if (const auto target = connection.lock(); !home && target) home = target->find_interface(name.substr(0, dot));
    if (home) {
        const auto declared = home->description.errors.find(name.substr(dot + 1));
        if (declared == home->description.errors.end()) {
            return internal_error(fmt::format("server and description do not agree: error '{}' is not there", name));
        }
        if (const auto misfit = check_value(home->description, declared->second, parameters)) {
            return internal_error(
                fmt::format("server and description do not agree: error '{}': {}", name, misfit->message()));
        }
    }
    send({.parameters = std::move(parameters), .error = std::move(name)});
}

}  // namespace detail

Call::Call(std::shared_ptr<detail::CallState> state) : state_(std::move(state)) {}
Call::Call(Call&&) noexcept = default;
Call& Call::operator=(Call&& other) noexcept {
    if (this != &other) {
        const Call old(std::move(*this));
        state_ = std::move(other.state_);
    }
    return *this;
}
Call::~Call() {
    if (!state_ || state_->answered) return;
    state_->on_disconnect = nullptr;
    if (state_->alive()) {
        state_->fail("io.storctl.InternalError", {{"message", "the call was dropped without an answer"}});
    }
}

const std::string& Call::method() const { return state_->message.method; }
const Json& Call::parameters() const { return state_->message.parameters; }
const Peer& Call::peer() const { return state_->peer; }
bool Call::wants_more() const { return state_->message.more; }
bool Call::alive() const { return state_->alive(); }
void Call::reply(Json parameters) { state_->answer(std::move(parameters), false); }
void Call::reply(Json parameters, std::vector<UniqueFd> descriptors) {
    state_->answer(std::move(parameters), false, std::move(descriptors));
}
bool Call::reply_continues(Json parameters) { return state_->answer(std::move(parameters), true); }
void Call::error(std::string name, Json parameters) { state_->fail(std::move(name), std::move(parameters)); }
void Call::on_disconnect(std::function<void()> callback) { state_->on_disconnect = std::move(callback); }

}  // namespace storctl::control
