#include "daemon/node/scsi/transport_id.hpp"

#include <algorithm>

#include "daemon/node/scsi/reservation_state.hpp"

namespace storctl::node::scsi {

namespace {

constexpr uint8_t protocol_iscsi = 0x05, format_port = 0x40;
constexpr size_t header = 4, least_name_bytes = 20;
constexpr std::string_view port_separator = ",i,0x";

bool names_port(const std::string& initiator) { return initiator.find(port_separator) != std::string::npos; }

}  // namespace

Bytes encode_transport_id(const std::string& initiator) {
    const size_t name_bytes = std::max(least_name_bytes, (initiator.size() + 1 + 3) / 4 * 4);
    Bytes out(header + name_bytes);
    out[0] = static_cast<uint8_t>((names_port(initiator) ? format_port : 0) | protocol_iscsi);
    put_be(out, 2, name_bytes, 2);
    std::copy(initiator.begin(), initiator.end(), out.begin() + header);
    return out;
}

std::optional<DecodedTransportId> decode_transport_id(ByteView bytes) {
    if (bytes.size() < header || (bytes[0] & 0x3f) != protocol_iscsi || (bytes[0] & 0x80) != 0) return std::nullopt;
    const size_t name_bytes = get_be16(bytes, 2);
    if (name_bytes < least_name_bytes || name_bytes % 4 != 0 || bytes.size() < header + name_bytes) return std::nullopt;
    const auto name = bytes.subspan(header, name_bytes);
    const auto end = std::find(name.begin(), name.end(), uint8_t{0});
    if (end == name.end()) return std::nullopt;
    DecodedTransportId out{.initiator = std::string(name.begin(), end), .bytes = header + name_bytes};
    const bool is_port = (bytes[0] & format_port) != 0;
    if (is_port != names_port(out.initiator) || !check(NexusName{out.initiator})) return std::nullopt;
    return out;
}

}  // namespace storctl::node::scsi
