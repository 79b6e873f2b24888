#pragma once
// Fields that the block commands share (SBC-4), by the row of their table. Pure.

#include "daemon/node/scsi/commands.hpp"

namespace storctl::node::scsi {

inline bool force_unit_access(const CommandRow& row, ByteView cdb) { return row.length != 6 && (cdb[1] & 0x08) != 0; }
/// BYTCHK of VERIFY and WRITE AND VERIFY.
inline uint8_t byte_check(ByteView cdb) { return cdb[1] >> 1 & 3; }
// WRITE SAME
inline bool unmaps(ByteView cdb) { return (cdb[1] & 0x08) != 0; }
inline bool no_data_out(const CommandRow& row, ByteView cdb) {
    return row.length == 16 && (cdb[1] & 0x01) != 0;
}  // NDOB

}  // namespace storctl::node::scsi
