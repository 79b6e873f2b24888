// PERSISTENT RESERVE OUT. Every service action works on a copy of the state (`Editor`), so that what is refused half
// way has changed nothing.

#include <algorithm>

#include "daemon/node/scsi/reservation_commands.hpp"
#include "daemon/node/scsi/reservation_parameters.hpp"

namespace storctl::node::scsi {

namespace {

using Outcome = std::variant<ReservationChange, Sense, Status>;
constexpr Status conflict = Status::reservation_conflict;

class Editor {
 public:
    Editor(const ReservationState& state, const NexusName& from) : state_(state), from_(from) {}

    ReservationState& state() { return state_; }

    void set_key(const NexusName& nexus, uint64_t key) {
        auto& all = state_.registrations;
        const auto at = std::lower_bound(all.begin(), all.end(), nexus,
                                         [](const Registration& a, const NexusName& b) { return a.nexus < b; });
        if (at != all.end() && at->nexus == nexus)
            at->key = key;
        else
            all.insert(at, {nexus, key});
    }

    /// Registrations that match are gone, with what they held; `tell` everybody but the sender.
    template <class Predicate>
    size_t remove(Predicate matches, std::optional<Attention> tell) {
        const size_t before = state_.registrations.size();
        std::erase_if(state_.registrations, [&](const Registration& registration) {
            if (!matches(registration)) return false;
            if (registration.nexus != from_) {
                if (tell) notices_.push_back({registration.nexus, *tell});
                removed_.push_back(registration.nexus);
            }
            return true;
        });
        return before - state_.registrations.size();
    }

    /// A reservation whose holder is no longer registered ends; registrants who shared it are told.
    void end_if_unheld() {
        if (!state_.type) return;
        const bool held = for_all_registrants(*state_.type) ? !state_.registrations.empty()
                                                            : state_.registration(*state_.holder) != nullptr;
        if (!held) end_reservation();
    }
    void end_reservation() {
        if (for_registrants(*state_.type)) tell_registrants(Attention::reservations_released);
        state_.type.reset();
        state_.holder.reset();
    }
    void reserve(ReservationType type) {
        state_.type = type;
        state_.holder = for_all_registrants(type) ? std::nullopt : std::optional(from_);
    }
    void tell_registrants(Attention attention) {
        for (const auto& registration : state_.registrations) {
            if (registration.nexus != from_) notices_.push_back({registration.nexus, attention});
        }
    }

    ReservationChange done(bool counts, bool aborts = false) {
        ++state_.version;
        if (counts) ++state_.generation;
        return {std::move(state_), std::move(notices_), aborts ? std::move(removed_) : std::vector<NexusName>{}};
    }

 private:
    ReservationState state_;
    const NexusName& from_;
    std::vector<ReservationChange::Notice> notices_;
    std::vector<NexusName> removed_;
};

struct Call {
    const ReservationState& state;
    const NexusName& from;
    const ReservationLimits& limits;
    ByteView cdb;
    const ReserveParameters& parameters;

    const Registration* own() const { return state.registration(from); }
    /// Registered, and with that key.
    bool key_matches() const { return own() != nullptr && own()->key == parameters.key; }
    uint8_t scope() const { return cdb[2] >> 4; }
    std::optional<ReservationType> type() const { return reservation_type(cdb[2] & 0x0f); }
    std::optional<Sense> wrong_scope_or_type() const {
        if (scope() != 0) return invalid_field_in_cdb(2, 7);
        if (!type()) return invalid_field_in_cdb(2, 3);
        return std::nullopt;
    }
};

ReservationChange nothing_changes(const Call& call) { return {.state = call.state}; }

std::vector<NexusName> named(const Call& call) {
    std::vector<std::string> initiators = call.parameters.initiators;
    initiators.push_back(call.from.initiator);
    std::vector<NexusName> out;
    for (const auto& initiator : initiators) {
        if (!call.parameters.all_target_ports) {
            out.push_back({initiator, call.from.target_port});
            continue;
        }
        for (uint16_t port = 1; port <= call.limits.target_ports; ++port) out.push_back({initiator, port});
    }
    return out;
}

Outcome register_key(const Call& call, bool ignore_existing) {
    const auto& parameters = call.parameters;
    if (!ignore_existing && parameters.key != (call.own() != nullptr ? call.own()->key : 0)) return conflict;
    if (parameters.specify_initiators && (call.own() != nullptr || parameters.service_key == 0))
        return invalid_field_in_parameter_list(flags_at, spec_i_pt_bit);
    const auto nexuses = named(call);
    Editor editor(call.state, call.from);
    if (parameters.service_key == 0) {
        editor.remove(
            [&](const Registration& r) { return std::find(nexuses.begin(), nexuses.end(), r.nexus) != nexuses.end(); },
            std::nullopt);
        editor.end_if_unheld();
    } else {
        for (const auto& nexus : nexuses) {
            if (parameters.specify_initiators && nexus != call.from && call.state.registration(nexus) != nullptr)
                return invalid_field_in_parameter_list(initiators_at);
            editor.set_key(nexus, parameters.service_key);
        }
        if (editor.state().registrations.size() > call.limits.registrations)
            return illegal_request(AdditionalSense::insufficient_registration_resources);
    }
    editor.state().persists = parameters.persists;
    return editor.done(true);
}

Outcome reserve(const Call& call) {
    if (!call.key_matches()) return conflict;
    if (auto sense = call.wrong_scope_or_type()) return *sense;
    if (call.state.type) {
        if (!call.state.holds(call.from) || call.state.type != call.type()) return conflict;
        return nothing_changes(call);
    }
    Editor editor(call.state, call.from);
    editor.reserve(*call.type());
    return editor.done(false);
}

Outcome release(const Call& call) {
    if (!call.key_matches()) return conflict;
    if (!call.state.holds(call.from)) return nothing_changes(call);
    if (call.scope() != 0 || call.type() != call.state.type)
        return illegal_request(AdditionalSense::invalid_release_of_persistent_reservation);
    Editor editor(call.state, call.from);
    editor.end_reservation();
    return editor.done(false);
}

Outcome clear(const Call& call) {
    if (!call.key_matches()) return conflict;
    Editor editor(call.state, call.from);
    editor.tell_registrants(Attention::reservations_preempted);
    editor.state().registrations.clear();
    editor.state().type.reset();
    editor.state().holder.reset();
    return editor.done(true);
}

/// The reservation becomes the sender's; its former holders are no longer registered.
Outcome preempt_reservation(const Call& call, bool aborts) {
    if (auto sense = call.wrong_scope_or_type()) return *sense;
    const uint64_t key = call.parameters.service_key;
    Editor editor(call.state, call.from);
    editor.remove([&](const Registration& r) { return r.nexus != call.from && (key == 0 || r.key == key); },
                  Attention::registrations_preempted);
    if (call.state.type != call.type()) editor.tell_registrants(Attention::reservations_released);
    editor.reserve(*call.type());
    return editor.done(true, aborts);
}

Outcome preempt(const Call& call, bool aborts) {
    if (!call.key_matches()) return conflict;
    const auto& state = call.state;
    const uint64_t key = call.parameters.service_key;
    const bool of_all = state.type && for_all_registrants(*state.type);
    if (key == 0) {
        if (!of_all) return invalid_field_in_parameter_list(service_key_at);
        return preempt_reservation(call, aborts);
    }
    if (state.type && !of_all && state.registration(*state.holder)->key == key)
        return preempt_reservation(call, aborts);
    Editor editor(state, call.from);
    if (editor.remove([&](const Registration& r) { return r.key == key; }, Attention::registrations_preempted) == 0)
        return conflict;
    editor.end_if_unheld();
    return editor.done(true, aborts);
}

Outcome register_and_move(const Call& call) {
    const auto& parameters = call.parameters;
    if (!call.key_matches() || !call.state.type || for_all_registrants(*call.state.type) ||
        !call.state.holds(call.from))
        return conflict;
    if (parameters.service_key == 0) return invalid_field_in_parameter_list(service_key_at);
    if (parameters.target_port == 0 || parameters.target_port > call.limits.target_ports)
        return invalid_field_in_parameter_list(18);
    const NexusName target{parameters.initiators.front(), parameters.target_port};
    if (target == call.from) return invalid_field_in_parameter_list(basic_bytes);
    Editor editor(call.state, call.from);
    editor.set_key(target, parameters.service_key);
    if (editor.state().registrations.size() > call.limits.registrations)
        return illegal_request(AdditionalSense::insufficient_registration_resources);
    editor.state().holder = target;
    editor.state().persists = parameters.persists;
    if (parameters.unregister) editor.remove([&](const Registration& r) { return r.nexus == call.from; }, std::nullopt);
    return editor.done(true);
}

}  // namespace

std::variant<ReservationChange, Sense, Status> persistent_reserve_out(const ReservationState& state,
                                                                      const NexusName& from,
                                                                      const ReservationLimits& limits, ByteView cdb,
                                                                      ByteView parameters) {
    const auto action = static_cast<ReserveAction>(cdb[1] & 0x1f);
    const auto parsed = parse_reserve_parameters(action, parameters);
    if (const auto* sense = std::get_if<Sense>(&parsed)) return *sense;
    const Call call{state, from, limits, cdb, std::get<ReserveParameters>(parsed)};
    switch (action) {
        case ReserveAction::register_key:
            return register_key(call, false);
        case ReserveAction::register_and_ignore:
            return register_key(call, true);
        case ReserveAction::reserve:
            return reserve(call);
        case ReserveAction::release:
            return release(call);
        case ReserveAction::clear:
            return clear(call);
        case ReserveAction::preempt:
            return preempt(call, false);
        case ReserveAction::preempt_and_abort:
            return preempt(call, true);
        case ReserveAction::register_and_move:
            return register_and_move(call);
    }
    return invalid_field_in_cdb(1, 4);
}

std::vector<ReservationChange::Notice> notices_between(const ReservationState& before, const ReservationState& after) {
    std::vector<ReservationChange::Notice> out;
    // CLEAR leaves nobody and nothing; a preempting nexus is registered itself.
    const auto gone = after.registrations.empty() && !after.type ? Attention::reservations_preempted
                                                                 : Attention::registrations_preempted;
    const bool released = before.type && for_registrants(*before.type) && after.type != before.type;
    for (const auto& registration : before.registrations) {
        if (after.registration(registration.nexus) == nullptr)
            out.push_back({registration.nexus, gone});
        else if (released && !after.holds(registration.nexus))
            out.push_back({registration.nexus, Attention::reservations_released});
    }
    return out;
}

}  // namespace storctl::node::scsi
