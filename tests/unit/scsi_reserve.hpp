#pragma once
// PERSISTENT RESERVE CDBs and parameter lists for tests.

#include "daemon/node/scsi/transport_id.hpp"
#include "tests/unit/scsi_disk.hpp"

namespace storctl::test {

enum class Reserve : uint8_t {
    register_key,
    reserve,
    release,
    clear,
    preempt,
    preempt_and_abort,
    register_and_ignore,
    register_and_move
};

struct ReserveParameters {
    uint64_t key = 0;
    uint64_t service_key = 0;
    uint8_t flags = 0;  ///< SPEC_I_PT 8, ALL_TG_PT 4, APTPL 1
    std::vector<std::string> initiators = {};
};

inline scsi::Bytes reserve_list(const ReserveParameters& parameters) {
    scsi::Bytes out;
    scsi::append_be(out, parameters.key, 8);
    scsi::append_be(out, parameters.service_key, 8);
    scsi::append_be(out, 0, 4);
    scsi::append_be(out, uint32_t{parameters.flags} << 24, 4);
    if (parameters.initiators.empty()) return out;
    scsi::Bytes ids;
    for (const auto& initiator : parameters.initiators) scsi::append(ids, scsi::encode_transport_id(initiator));
    scsi::append_be(out, ids.size(), 4);
    scsi::append(out, ids);
    return out;
}

inline scsi::Bytes move_list(uint64_t key, uint64_t service_key, uint8_t flags, uint16_t port,
                             const std::string& initiator) {
    scsi::Bytes out;
    scsi::append_be(out, key, 8);
    scsi::append_be(out, service_key, 8);
    out.push_back(0);
    out.push_back(flags);
    scsi::append_be(out, port, 2);
    const auto id = scsi::encode_transport_id(initiator);
    scsi::append_be(out, id.size(), 4);
    scsi::append(out, id);
    return out;
}

inline scsi::Bytes reserve_cdb(Reserve action, size_t list_bytes, uint8_t scope_and_type = 0) {
    scsi::Bytes out = {0x5f, static_cast<uint8_t>(action), scope_and_type, 0, 0};
    scsi::append_be(out, list_bytes, 4);
    out.push_back(0);
    return out;
}

}  // namespace storctl::test
