#pragma once
// The ioctls of usbfs as bytes: numbers, sizes and fields of include/uapi/linux/usbdevice_fs.h, for 64-bit callers and
// for 32-bit ones (drivers/usb/core/devio.c's compat structures). Pure; nothing here follows a pointer.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/enum_text.hpp"

namespace storctl::node::usbfs {

/// How wide pointers are in the caller's structures.
enum class Layout : uint8_t { bits64, bits32 };

enum class Command : uint8_t {
    control,
    bulk,
    reset_endpoint,
    set_interface,
    set_configuration,
    get_driver,
    submit_urb,
    discard_urb,
    reap_urb,
    reap_urb_no_delay,
    claim_interface,
    release_interface,
    connect_info,
    driver_ioctl,
    reset,
    clear_halt,
    get_capabilities,
    disconnect_claim,
    alloc_streams,
    free_streams,
    get_speed,
    connect_info_ex,
};

struct CommandShape {
    Command command;
    size_t header_bytes = 0;  ///< what the argument points to; 0: the argument itself is the value, or none
    bool fetched = false;     ///< the command reads those bytes; else it only writes them
};

/// What this number means to a caller of this layout; nothing: not a request that a mediated node knows (ENOTTY).
/// connect_info_ex carries its size in its number.
std::optional<CommandShape> decode_command(uint32_t number, Layout layout);

/// USBDEVFS_URB_*
enum class UrbType : uint8_t { isochronous = 0, interrupt = 1, control = 2, bulk = 3 };

struct IsoPacket {
    uint32_t length = 0, actual_length = 0, status = 0;
};

/// struct usbdevfs_urb without its packets. Offsets of the fields that a reap writes are in `UrbOffsets`.
struct UrbHeader {
    UrbType type = UrbType::bulk;
    uint8_t endpoint = 0;
    uint32_t flags = 0;
    uint64_t buffer = 0;        ///< in the caller
    int32_t buffer_length = 0;  ///< bytes; of isochronous ones the packets say it
    int32_t start_frame = 0;
    int32_t number_of_packets = 0;  ///< or the stream id of a bulk URB
    uint64_t user_context = 0;
};

struct UrbOffsets {
    size_t status, actual_length, error_count, packets;
};
UrbOffsets urb_offsets(Layout layout);

/// Nothing: the type is not one of UrbType. `header` has CommandShape::header_bytes.
std::optional<UrbHeader> decode_urb(std::span<const std::byte> header, Layout layout);

struct ControlTransfer {
    std::array<uint8_t, 8> setup{};  ///< bRequestType, bRequest, wValue, wIndex, wLength as on the wire
    uint16_t length = 0;
    uint32_t timeout_ms = 0;
    uint64_t data = 0;  ///< in the caller
};
ControlTransfer decode_control(std::span<const std::byte> header, Layout layout);

struct BulkTransfer {
    uint32_t endpoint = 0, length = 0, timeout_ms = 0;
    uint64_t data = 0;
};
BulkTransfer decode_bulk(std::span<const std::byte> header, Layout layout);

struct DriverIoctl {
    int32_t interface = 0;
    uint32_t code = 0;
    uint64_t data = 0;
};
DriverIoctl decode_driver_ioctl(std::span<const std::byte> header, Layout layout);

/// A pointer as a reap writes it to its argument: 8 or 4 bytes.
std::vector<std::byte> encode_pointer(uint64_t value, Layout layout);

inline constexpr size_t setup_bytes = 8;  ///< before the data of a control URB
inline constexpr size_t iso_packet_bytes = 12;
inline constexpr int32_t most_iso_packets = 128;  ///< as devio.c has it
inline constexpr uint32_t most_streams_endpoints = 30;

}  // namespace storctl::node::usbfs
