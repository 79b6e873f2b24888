#include "daemon/node_reservations.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "daemon/node/reservation_json.hpp"

namespace storctl {
namespace {

using nlohmann::json;

Result<std::optional<NodeReservations::State>> member(const json& description, const char* key) {
    const auto found = description.find(key);
    if (found == description.end() || found->is_null()) return std::optional<NodeReservations::State>();
    auto state = TRY(node::parse_reservations(*found));
    return std::optional(std::move(state));
}

}  // namespace

NodeReservations::NodeReservations(ReservationStore& store, const std::string& node, std::string device,
                                   Actions actions)
    : store_(store),
      node_(node),
      device_(std::move(device)),
      actions_(std::move(actions)),
      watch_(store.watch(device_, [this] { store_changed(); })) {}

void NodeReservations::described(const json& description) {
    auto in_force = member(description, "reservations");
    auto proposed = member(description, "proposed");
    for (const auto* one : {&in_force, &proposed}) {
        if (!*one) return log::error("node '{}': {}", node_, one->error().message());
    }
    in_force_ = std::move(*in_force);
    proposed_ = std::move(*proposed);
    synchronize();
}

void NodeReservations::disconnected() {
    in_force_.reset();
    proposed_.reset();
    ++connection_;
    again_ = false;
    if (phase_ == Phase::telling) phase_ = Phase::idle;
}

NodeReservations::State NodeReservations::state() const {
    if (const auto known = store_.known(device_)) return *known;
    return in_force_.value_or(State{});
}

void NodeReservations::synchronize() {
    if (phase_ != Phase::idle) {
        again_ = true;
        return;
    }
    if (!in_force_) return;  // not connected, or of a kind that has none
    const auto known = store_.known(device_);
    if (proposed_ && proposed_ != known) return propose(*proposed_);
    if (proposed_) return answer(std::nullopt);  // stored by a stord that did not come to say so
    if (!known && in_force_->version > 0) return restore(*in_force_);
    if (known && in_force_ != known) answer(std::nullopt);
}

void NodeReservations::propose(const State& proposed) {
    phase_ = Phase::storing;
    store_.propose(device_, proposed,
                   [this, alive = std::weak_ptr(alive_), version = proposed.version](const Result<State>& stored) {
                       if (alive.expired()) return;
                       phase_ = Phase::idle;
                       if (!in_force_) return;  // it is asked again when it is back
                       if (!stored) {
                           log::error("node '{}': a persistent reservation was not stored: {}", node_,
                                      stored.error().message());
                           return answer(stored.error().message());
                       }
                       if (stored->version != version)
                           log::info("node '{}': persistent reservations are at version {}, not before {}", node_,
                                     stored->version, version);
                       answer(std::nullopt);
                   });
}

void NodeReservations::restore(const State& in_force) {
    log::warning("node '{}': nothing is stored of its persistent reservations, storing what it has", node_);
    phase_ = Phase::storing;
    store_.propose(device_, in_force, [this, alive = std::weak_ptr(alive_)](const Result<State>& stored) {
        if (alive.expired()) return;
        phase_ = Phase::idle;
        if (!stored) log::error("node '{}': {}", node_, stored.error().message());
    });
}

void NodeReservations::answer(const std::optional<std::string>& error) {
    write_spec();
    phase_ = Phase::telling;
    again_ = false;
    const json parameters = {{"reservations", node::reservations_json(state())},
                             {"error", error ? json(*error) : json(nullptr)}};
    actions_.set(parameters, [this, alive = std::weak_ptr(alive_),
                              connection = connection_](const Result<control::Reply>& reply) {
        if (alive.expired() || connection != connection_) return;
        phase_ = Phase::idle;
        if (!reply || reply->error) {
            log::warning("node '{}': it did not take its persistent reservations: {}", node_,
                         reply ? reply->parameters.value("message", *reply->error) : reply.error().message());
        }
        if (std::exchange(again_, false)) synchronize();
    });
}

/// What cannot be written is stored all the same, and tried again with the next answer.
void NodeReservations::write_spec() {
    const auto known = store_.known(device_);
    if (written_ == known) return;
    if (auto written = actions_.write_spec(); !written) return log::error("{}", written.error().message());
    written_ = known;
}

void NodeReservations::store_changed() {
    write_spec();
    actions_.changed();
    if (phase_ != Phase::storing) synchronize();  // else it is answered when that is done
}

std::string reservations_summary(const json& reservations) {
    if (!reservations.is_object()) return "no persistent reservations";
    const size_t registered = reservations.at("registrations").size();
    const json& type = reservations.at("type");
    if (registered == 0) return "no persistent reservations";
    if (type.is_null()) return fmt::format("nothing reserved, {} registered", registered);
    const json& holder = reservations.at("holder");
    return fmt::format("{} for {}, {} registered", type.get<std::string>(),
                       holder.is_null() ? "all who are registered" : holder.get<std::string>(), registered);
}

}  // namespace storctl
