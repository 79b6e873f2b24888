#pragma once
// Where the fields of sg_io_hdr and sg_io_v4 lie, for callers whose pointers have 64 bits and 32 bits. Pure.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "daemon/node/sg/command.hpp"

namespace storctl::node::sg {

/// struct sg_io_hdr (<scsi/sg.h>); with 32 bits compat_sg_io_hdr of drivers/scsi/scsi_ioctl.c.
struct HeaderV3 {
    size_t bytes = 0;
    size_t interface_id = 0, direction = 4, cdb_length = 8, sense_room = 9, segments = 10, data_bytes = 12;
    size_t data = 16, cdb = 0, sense = 0, timeout = 0, flags = 0, pack_id = 0, user_pointer = 0;
    size_t answer = 0;  ///< status, masked_status, …, info: all that the caller is told, in one piece
};
inline constexpr HeaderV3 header_v3_64 = {
    .bytes = 88, .cdb = 24, .sense = 32, .timeout = 40, .flags = 44, .pack_id = 48, .user_pointer = 56, .answer = 64};
inline constexpr HeaderV3 header_v3_32 = {
    .bytes = 64, .cdb = 20, .sense = 24, .timeout = 28, .flags = 32, .pack_id = 36, .user_pointer = 40, .answer = 44};
constexpr const HeaderV3& header_v3(Layout layout) { return layout == Layout::bits64 ? header_v3_64 : header_v3_32; }

/// From `answer` on, in both layouts.
struct AnswerV3 {
    size_t status = 0, masked_status = 1, message_status = 2, sense_bytes = 3, host_status = 4, driver_status = 6,
           residual = 8, duration = 12, info = 16;
    size_t bytes = 20;
};
inline constexpr AnswerV3 answer_v3;

/// struct sg_io_v4 (<linux/bsg.h>).
struct HeaderV4 {
    size_t bytes = 160;
    size_t guard = 0, protocol = 4, subprotocol = 8, request_bytes = 12, request = 16, request_extra = 40,
           response_room = 44, response = 48, out_segments = 56, out_bytes = 60, in_segments = 64, in_bytes = 68,
           out = 72, in = 80, timeout = 88, flags = 92, user_pointer = 96;
    size_t answer = 108;  ///< driver_status, …, dout_resid
};
inline constexpr HeaderV4 header_v4;

struct AnswerV4 {
    size_t driver_status = 0, transport_status = 4, device_status = 8, retry_delay = 12, info = 16, duration = 20,
           response_bytes = 24, in_residual = 28, out_residual = 32;
    size_t bytes = 36;
};
inline constexpr AnswerV4 answer_v4;

/// struct sg_iovec; with 32 bits compat_iovec.
constexpr size_t segment_bytes(Layout layout) { return layout == Layout::bits64 ? 16 : 8; }

/// Which header begins with this word.
inline constexpr int32_t interface_v3 = 'S', interface_v4 = 'Q';

/// Asserts that the field is in `bytes`.
template <class T>
T field(std::span<const std::byte> bytes, size_t offset) {
    T value;
    std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
    return value;
}
template <class T>
void put(std::span<std::byte> bytes, size_t offset, T value) {
    std::memcpy(bytes.subspan(offset, sizeof value).data(), &value, sizeof value);
}

/// A pointer or a length as wide as the layout has it.
inline uint64_t word(std::span<const std::byte> bytes, size_t offset, Layout layout) {
    return layout == Layout::bits64 ? field<uint64_t>(bytes, offset) : field<uint32_t>(bytes, offset);
}

}  // namespace storctl::node::sg
