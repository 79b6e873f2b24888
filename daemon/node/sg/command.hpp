#pragma once
// One SCSI command as the SCSI generic protocol carries it: the headers sg_io_hdr (v3, <scsi/sg.h>) and sg_io_v4
// (<linux/bsg.h>), of 64 and of 32-bit callers, taken from the caller's memory and given back. Pure.
//
//   fetch      the header, the CDB, the list of a scattered buffer; nothing is fetched twice
//   fetch_data what goes to the device
//   announce   what `give` will write, whatever comes of the command
//   give       data, sense and the header's answer, in one go
//
// Each returns 0, a negative errno as the kernel's sg driver does, or CallerMemory::again.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "daemon/node/caller/memory.hpp"

namespace storctl::node::sg {

/// How the caller lays out its structures. sg_io_v4 is the same in both.
enum class Layout : uint8_t { bits64, bits32 };
enum class Interface : uint8_t { v3, v4 };
enum class Direction : uint8_t { none, to_device, from_device };

inline constexpr size_t longest_cdb = 260;     ///< SPC-5: 252 bytes and the head of a variable length CDB
inline constexpr size_t most_segments = 1024;  ///< UIO_MAXIOV
inline constexpr uint32_t default_timeout_ms = 60'000;

struct Segment {
    uint64_t address = 0;
    uint64_t length = 0;
};

struct Command {
    Interface interface = Interface::v3;
    Layout layout = Layout::bits64;
    uint64_t header_address = 0;
    /// From the header alone; both ways at once (v4) is -EOPNOTSUPP. SG_DXFER_UNKNOWN, and SG_DXFER_TO_FROM_DEV: from
    /// the device.
    Direction direction = Direction::none;
    std::array<std::byte, longest_cdb> cdb_bytes;
    uint16_t cdb_length = 0;
    uint32_t data_bytes = 0;     ///< at most what `fetch` was allowed
    std::vector<Segment> data;   ///< in order; together data_bytes (a longer list is cut)
    uint64_t sense_address = 0;  ///< 0: not wanted
    uint32_t sense_room = 0;
    uint32_t timeout_ms = default_timeout_ms;  ///< 0 in the header means the default
    uint32_t flags = 0;
    int32_t pack_id = 0;  ///< v4: request_extra
    uint64_t user_pointer = 0;
    std::vector<std::byte> former_sense;  ///< where the caller's memory is moved in legs

    std::span<const std::byte> cdb() const { return {cdb_bytes.data(), cdb_length}; }
};

/// What became of a command. Host status and driver status: <scsi/sg.h>, include/scsi/scsi_status.h of Linux.
struct Outcome {
    uint8_t status = 0;  ///< SAM
    uint16_t host_status = 0;
    std::span<const std::byte> sense;
    std::span<const std::byte> data;  ///< for the caller, from the beginning of its buffer
    uint64_t moved = 0;               ///< bytes that the device took or gave: the rest is the residual
    uint32_t duration_ms = 0;
};

inline constexpr uint16_t host_ok = 0x00, host_timed_out = 0x03, host_aborted = 0x05, host_error = 0x07,
                          host_reset = 0x08;

/// `most_data_bytes`: a header that names more is refused with -ENOMEM before anything else of it is looked at.
int fetch(CallerMemory& memory, uint64_t argument, Layout layout, uint64_t most_data_bytes, Command& command);
/// The same for a header that came by write(): it lies in `header`, and its pointers in the memory of the writer.
/// -EINVAL: no v3 or v4 header (the headers of version 2 and before are not supported).
int fetch_written(CallerMemory& memory, std::span<const std::byte> header, Layout layout, uint64_t most_data_bytes,
                  Command& command);
/// `into`: command.data_bytes.
int fetch_data(CallerMemory& memory, const Command& command, std::span<std::byte> into);
/// Also fetches the former sense where memory is moved in legs (CallerMemory::in_legs), so that a command without sense
/// leaves it as it was. Ends with CallerMemory::ready.
int announce(CallerMemory& memory, Command& command);
int give(CallerMemory& memory, const Command& command, const Outcome& outcome);
/// Only data and sense, for a command that came by write(): its header is for read(). Nothing was announced.
int give_written(CallerMemory& memory, const Command& command, const Outcome& outcome);
/// The header as read() returns it: as it came, with the answer filled in.
std::vector<std::byte> answered_header(std::span<const std::byte> header, const Command& command,
                                       const Outcome& outcome);

}  // namespace storctl::node::sg
