#pragma once
// What the emulated disk is: identity, shape and limits, as INQUIRY, READ CAPACITY and the mode pages tell them.
// Plain values; the front end fills them from the node's device.

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "daemon/node/scsi/bytes.hpp"

namespace storctl::node::scsi {

/// Names are cut to their fields; identifiers that are not known stay empty and are not shown.
struct Identity {
    std::string vendor;    ///< 8 characters
    std::string product;   ///< 16
    std::string revision;  ///< 4
    std::string serial;    ///< at most 252 bytes
    Bytes naa;             ///< 8 bytes, or 16 for NAA 6
    Bytes eui64;           ///< 8, 12 or 16 bytes
    uint16_t target_ports = 1;
    bool operator==(const Identity&) const = default;
};

inline constexpr uint16_t rotation_not_reported = 0, not_rotating = 1;  // SBC-4: else revolutions per minute

struct Geometry {
    uint64_t blocks = 0;         ///< logical ones, at least 1
    uint32_t block_bytes = 512;  ///< power of two from 512 to 65536
    uint32_t physical_block_bytes = 512;
    uint16_t lowest_aligned_block = 0;
    uint16_t rotation = not_rotating;
    bool thin = false;         ///< takes UNMAP; what was unmapped reads as zeroes
    bool read_only = false;    ///< for everybody
    bool write_cache = false;  ///< WCE as it is by default: what was written may need a flush
    bool operator==(const Geometry&) const = default;
};

struct Limits {
    uint64_t transfer_bytes = 128 << 10;  ///< of one READ or WRITE
    uint64_t optimal_transfer_bytes = 128 << 10;
    uint32_t unmap_blocks = 0xffffffff;  ///< of one UNMAP
    uint32_t unmap_descriptors = 256;
    uint32_t unmap_granularity_blocks = 1;
    uint32_t unmap_alignment_block = 0;
    uint64_t write_same_blocks = 1 << 22;
    uint32_t compare_blocks = 64;        ///< of one COMPARE AND WRITE, at most 255
    uint32_t scratch_bytes = 128 << 10;  ///< how much scratch a verification or a WRITE SAME asks for
    uint32_t registrations = 256;        ///< persistent reservations
    uint32_t timeout_seconds = 30;       ///< recommended for commands that touch the medium
    bool operator==(const Limits&) const = default;
};

/// Whether a disk can be like that.
Result<void> check(const Identity& identity, const Geometry& geometry, const Limits& limits);

}  // namespace storctl::node::scsi
