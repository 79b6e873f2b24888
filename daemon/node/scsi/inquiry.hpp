#pragma once
// INQUIRY (SPC-5) and READ CAPACITY (SBC-4): what the disk says it is. Pure functions from configuration and CDB to the
// whole answer; the caller cuts it to the allocation length.

#include "daemon/node/scsi/identity.hpp"
#include "daemon/node/scsi/sense.hpp"

namespace storctl::node::scsi {

/// Standard data, or the VPD pages 00, 80, 83, B0, B1 and B2.
Reply inquiry(const Identity& identity, const Geometry& geometry, const Limits& limits, uint16_t target_port,
              ByteView cdb);

Bytes read_capacity_10(const Geometry& geometry);
Bytes read_capacity_16(const Geometry& geometry);

}  // namespace storctl::node::scsi
