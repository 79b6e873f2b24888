#include "daemon/node/scsi/reservation_commands.hpp"
#include "daemon/node/scsi/transport_id.hpp"

namespace storctl::node::scsi {

namespace {

enum class Action : uint8_t { read_keys = 0, read_reservation = 1, report_capabilities = 2, read_full_status = 3 };

Bytes header_of(const ReservationState& state) {
    Bytes out;
    append_be(out, state.generation, 4);
    append_be(out, 0, 4);
    return out;
}

Bytes with_length(Bytes out) {
    put_be(out, 4, out.size() - 8, 4);
    return out;
}

Bytes read_keys(const ReservationState& state) {
    Bytes out = header_of(state);
    for (const auto& registration : state.registrations) append_be(out, registration.key, 8);
    return with_length(std::move(out));
}

/// Scope (always the logical unit) and type.
uint8_t type_byte(const ReservationState& state) { return state.type ? static_cast<uint8_t>(*state.type) : uint8_t{0}; }

Bytes read_reservation(const ReservationState& state) {
    Bytes out = header_of(state);
    if (!state.type) return out;
    const Registration* holder = state.holder ? state.registration(*state.holder) : nullptr;
    append_be(out, holder != nullptr ? holder->key : 0, 8);  // of all registrants: 0
    append_be(out, 0, 5);
    out.push_back(type_byte(state));
    append_be(out, 0, 2);
    return with_length(std::move(out));
}

Bytes report_capabilities(const ReservationState& state) {
    Bytes out(8);
    put_be(out, 0, out.size(), 2);
    out[2] = 0x08 | 0x04 | 0x01;                                        // SIP_C, ATP_C, PTPL_C
    out[3] = static_cast<uint8_t>(0x80 | (state.persists ? 0x01 : 0));  // TMV, PTPL_A
    for (const auto& row : EnumNames<ReservationType>::table) {
        const auto code = static_cast<unsigned>(row.value);
        out[4 + code / 8] = static_cast<uint8_t>(out[4 + code / 8] | 1u << code % 8);
    }
    return out;
}

Bytes read_full_status(const ReservationState& state) {
    Bytes out = header_of(state);
    for (const auto& registration : state.registrations) {
        const bool holder = state.holds(registration.nexus);
        append_be(out, registration.key, 8);
        append_be(out, 0, 4);
        out.push_back(holder ? 0x01 : 0x00);  // R_HOLDER
        out.push_back(holder ? type_byte(state) : uint8_t{0});
        append_be(out, 0, 4);
        append_be(out, registration.nexus.target_port, 2);
        const Bytes transport_id = encode_transport_id(registration.nexus.initiator);
        append_be(out, transport_id.size(), 4);
        append(out, transport_id);
    }
    return with_length(std::move(out));
}

}  // namespace

Reply persistent_reserve_in(const ReservationState& state, ByteView cdb) {
    const auto action = static_cast<Action>(cdb[1] & 0x1f);
    switch (action) {
        case Action::read_keys:
            return read_keys(state);
        case Action::read_reservation:
            return read_reservation(state);
        case Action::report_capabilities:
            return report_capabilities(state);
        case Action::read_full_status:
            return read_full_status(state);
    }
    return invalid_field_in_cdb(1, 4);
}

}  // namespace storctl::node::scsi
