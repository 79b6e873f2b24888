#include "daemon/node/scsi/identity.hpp"

#include <bit>
#include <string>

namespace storctl::node::scsi {

Result<void> check(const Identity& identity, const Geometry& geometry, const Limits& limits) {
    const auto invalid = [](const std::string& what) {
        return make_error(std::errc::invalid_argument, "a SCSI disk cannot have " + what);
    };
    if (geometry.blocks == 0) return invalid("no blocks");
    if (!std::has_single_bit(geometry.block_bytes) || geometry.block_bytes < 512 || geometry.block_bytes > 65536)
        return invalid("logical blocks of " + std::to_string(geometry.block_bytes) +
                       " bytes: 512 to 65536, a power of two");
    if (!std::has_single_bit(geometry.physical_block_bytes) || geometry.physical_block_bytes < geometry.block_bytes ||
        geometry.physical_block_bytes / geometry.block_bytes > 1u << 15)
        return invalid("physical blocks of " + std::to_string(geometry.physical_block_bytes) +
                       " bytes over logical ones of " + std::to_string(geometry.block_bytes));
    if (geometry.lowest_aligned_block > 0x3fff) return invalid("its first aligned block beyond 16383");
    if (geometry.blocks > UINT64_MAX / geometry.block_bytes) return invalid("more than 2^64 bytes");
    if (!identity.naa.empty() && identity.naa.size() != 8 && identity.naa.size() != 16)
        return invalid("an NAA identifier of " + std::to_string(identity.naa.size()) + " bytes: 8 or 16");
    if (!identity.eui64.empty() && identity.eui64.size() != 8 && identity.eui64.size() != 12 &&
        identity.eui64.size() != 16)
        return invalid("an EUI-64 identifier of " + std::to_string(identity.eui64.size()) + " bytes: 8, 12 or 16");
    if (identity.serial.size() > 252) return invalid("a serial number of more than 252 bytes");
    if (identity.target_ports == 0) return invalid("no target port");
    if (limits.compare_blocks > 255) return invalid("COMPARE AND WRITE of more than 255 blocks");
    if (limits.scratch_bytes < geometry.block_bytes) return invalid("scratch memory of less than a block");
    if (limits.transfer_bytes < geometry.block_bytes) return invalid("transfers of less than a block");
    return {};
}

}  // namespace storctl::node::scsi
