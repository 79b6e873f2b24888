#pragma once
// TransportIDs of iSCSI initiators (SPC-5 "TransportID identifiers"), the form in which PERSISTENT RESERVE names
// initiator ports: a device name, or with ",i,0x" in it an initiator port name. Pure.

#include <optional>
#include <string>

#include "daemon/node/scsi/bytes.hpp"

namespace storctl::node::scsi {

Bytes encode_transport_id(const std::string& initiator);

struct DecodedTransportId {
    std::string initiator;
    size_t bytes = 0;  ///< of the whole TransportID
};
/// Nothing: no TransportID of that kind begins here, or it is longer than what is there.
std::optional<DecodedTransportId> decode_transport_id(ByteView bytes);

}  // namespace storctl::node::scsi
