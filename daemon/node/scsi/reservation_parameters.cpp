#include "daemon/node/scsi/reservation_parameters.hpp"

#include "daemon/node/scsi/transport_id.hpp"

namespace storctl::node::scsi {

namespace {

Sense wrong_length() { return illegal_request(AdditionalSense::parameter_list_length_error); }

std::variant<ReserveParameters, Sense> parse_move(ByteView bytes) {
    if (bytes.size() < basic_bytes) return wrong_length();
    ReserveParameters out{.key = get_be64(bytes, key_at), .service_key = get_be64(bytes, service_key_at)};
    out.unregister = (bytes[17] >> unregister_bit & 1) != 0;
    out.persists = (bytes[17] & 0x01) != 0;
    out.target_port = get_be16(bytes, 18);
    const auto rest = bytes.subspan(basic_bytes);
    if (get_be32(bytes, 20) != rest.size()) return wrong_length();
    auto initiator = decode_transport_id(rest);
    if (!initiator || initiator->bytes != rest.size()) return invalid_field_in_parameter_list(basic_bytes);
    out.initiators.push_back(std::move(initiator->initiator));
    return out;
}

}  // namespace

std::variant<ReserveParameters, Sense> parse_reserve_parameters(ReserveAction action, ByteView bytes) {
    if (action == ReserveAction::register_and_move) return parse_move(bytes);
    if (bytes.size() < basic_bytes) return wrong_length();
    ReserveParameters out{.key = get_be64(bytes, key_at), .service_key = get_be64(bytes, service_key_at)};
    const uint8_t flags = bytes[flags_at];
    out.specify_initiators = (flags >> spec_i_pt_bit & 1) != 0;
    out.all_target_ports = (flags >> all_tg_pt_bit & 1) != 0;
    out.persists = (flags & 0x01) != 0;
    if (!out.specify_initiators) {
        if (bytes.size() != basic_bytes) return wrong_length();
        return out;
    }
    if (action != ReserveAction::register_key) return invalid_field_in_parameter_list(flags_at, spec_i_pt_bit);
    if (bytes.size() < initiators_at || get_be32(bytes, basic_bytes) != bytes.size() - initiators_at)
        return wrong_length();
    for (size_t at = initiators_at; at < bytes.size();) {
        auto initiator = decode_transport_id(bytes.subspan(at));
        if (!initiator) return invalid_field_in_parameter_list(at);
        at += initiator->bytes;
        out.initiators.push_back(std::move(initiator->initiator));
    }
    return out;
}

}  // namespace storctl::node::scsi
