#include "daemon/node/usbfs/wire.hpp"

#include <cstring>

#include <linux/ioctl.h>
#include <linux/usbdevice_fs.h>

namespace storctl::node::usbfs {
namespace {

static_assert(sizeof(void*) == 8, "Layout::bits64 is this program's own");

// What a 32-bit program is compiled with: devio.c's compat structures. Its unsigned int and char structures are the
// same for both.
constexpr size_t control_bytes_32 = 16;
constexpr size_t bulk_bytes_32 = 16;
constexpr size_t urb_bytes_32 = 44;
constexpr size_t driver_ioctl_bytes_32 = 12;
constexpr size_t pointer_bytes_32 = 4;

struct Row {
    Command command;
    uint32_t number_64, number_32;
    size_t bytes_64, bytes_32;
    bool fetched;
};

constexpr Row same(Command command, uint64_t number, size_t bytes, bool fetched) {
    return {command, static_cast<uint32_t>(number), static_cast<uint32_t>(number), bytes, bytes, fetched};
}
constexpr Row both(Command command, uint64_t number_64, size_t bytes_64, uint32_t number_32, size_t bytes_32,
                   bool fetched) {
    return {command, static_cast<uint32_t>(number_64), number_32, bytes_64, bytes_32, fetched};
}

constexpr bool fetched = true;
constexpr bool written = false;

constexpr Row rows[] = {
    both(Command::control, USBDEVFS_CONTROL, sizeof(usbdevfs_ctrltransfer), 0xc0105500, control_bytes_32, fetched),
    both(Command::bulk, USBDEVFS_BULK, sizeof(usbdevfs_bulktransfer), 0xc0105502, bulk_bytes_32, fetched),
    same(Command::reset_endpoint, USBDEVFS_RESETEP, sizeof(unsigned), fetched),
    same(Command::set_interface, USBDEVFS_SETINTERFACE, sizeof(usbdevfs_setinterface), fetched),
    same(Command::set_configuration, USBDEVFS_SETCONFIGURATION, sizeof(unsigned), fetched),
    same(Command::get_driver, USBDEVFS_GETDRIVER, sizeof(usbdevfs_getdriver), fetched),
    both(Command::submit_urb, USBDEVFS_SUBMITURB, sizeof(usbdevfs_urb), 0x802c550a, urb_bytes_32, fetched),
    same(Command::discard_urb, USBDEVFS_DISCARDURB, 0, written),
    both(Command::reap_urb, USBDEVFS_REAPURB, sizeof(void*), 0x4004550c, pointer_bytes_32, written),
    both(Command::reap_urb_no_delay, USBDEVFS_REAPURBNDELAY, sizeof(void*), 0x4004550d, pointer_bytes_32, written),
    same(Command::claim_interface, USBDEVFS_CLAIMINTERFACE, sizeof(unsigned), fetched),
    same(Command::release_interface, USBDEVFS_RELEASEINTERFACE, sizeof(unsigned), fetched),
    same(Command::connect_info, USBDEVFS_CONNECTINFO, sizeof(usbdevfs_connectinfo), written),
    both(Command::driver_ioctl, USBDEVFS_IOCTL, sizeof(usbdevfs_ioctl), 0xc00c5512, driver_ioctl_bytes_32, fetched),
    same(Command::reset, USBDEVFS_RESET, 0, written),
    same(Command::clear_halt, USBDEVFS_CLEAR_HALT, sizeof(unsigned), fetched),
    same(Command::get_capabilities, USBDEVFS_GET_CAPABILITIES, sizeof(uint32_t), written),
    same(Command::disconnect_claim, USBDEVFS_DISCONNECT_CLAIM, sizeof(usbdevfs_disconnect_claim), fetched),
    same(Command::alloc_streams, USBDEVFS_ALLOC_STREAMS, sizeof(usbdevfs_streams), fetched),
    same(Command::free_streams, USBDEVFS_FREE_STREAMS, sizeof(usbdevfs_streams), fetched),
    same(Command::get_speed, USBDEVFS_GET_SPEED, 0, written),
};
constexpr uint32_t size_bits = static_cast<uint32_t>(_IOC_SIZEMASK) << _IOC_SIZESHIFT;
constexpr auto connect_info_ex_number = static_cast<uint32_t>(USBDEVFS_CONNINFO_EX(0));

/// Where the fields are that are read and written here, in struct usbdevfs_urb and in usbdevfs_urb32.
struct UrbFields {
    size_t flags, buffer, buffer_length, start_frame, number_of_packets, user_context;
    UrbOffsets offsets;
};
constexpr UrbFields urb_fields_64 = {8, 16, 24, 32, 36, 48, {4, 28, 40, 56}};
constexpr UrbFields urb_fields_32 = {8, 12, 16, 24, 28, 40, {4, 20, 32, urb_bytes_32}};
constexpr const UrbFields& urb_fields(Layout layout) {
    return layout == Layout::bits64 ? urb_fields_64 : urb_fields_32;
}

constexpr size_t transfer_timeout = 8, control_length = 6;
constexpr size_t transfer_data_64 = 16, transfer_data_32 = 12;  // of control and bulk alike

static_assert(sizeof(usbdevfs_urb) == 56 && offsetof(usbdevfs_urb, type) == 0 && offsetof(usbdevfs_urb, endpoint) == 1);
static_assert(offsetof(usbdevfs_urb, flags) == urb_fields_64.flags);
static_assert(offsetof(usbdevfs_urb, buffer) == urb_fields_64.buffer);
static_assert(offsetof(usbdevfs_urb, buffer_length) == urb_fields_64.buffer_length);
static_assert(offsetof(usbdevfs_urb, start_frame) == urb_fields_64.start_frame);
static_assert(offsetof(usbdevfs_urb, number_of_packets) == urb_fields_64.number_of_packets);
static_assert(offsetof(usbdevfs_urb, usercontext) == urb_fields_64.user_context);
static_assert(offsetof(usbdevfs_urb, status) == urb_fields_64.offsets.status);
static_assert(offsetof(usbdevfs_urb, actual_length) == urb_fields_64.offsets.actual_length);
static_assert(offsetof(usbdevfs_urb, error_count) == urb_fields_64.offsets.error_count);
static_assert(offsetof(usbdevfs_urb, iso_frame_desc) == urb_fields_64.offsets.packets);
static_assert(sizeof(usbdevfs_iso_packet_desc) == iso_packet_bytes);

static_assert(sizeof(usbdevfs_ctrltransfer) == 24 && offsetof(usbdevfs_ctrltransfer, wLength) == control_length);
static_assert(offsetof(usbdevfs_ctrltransfer, timeout) == transfer_timeout);
static_assert(offsetof(usbdevfs_ctrltransfer, data) == transfer_data_64);
static_assert(sizeof(usbdevfs_bulktransfer) == 24 && offsetof(usbdevfs_bulktransfer, len) == 4);
static_assert(offsetof(usbdevfs_bulktransfer, timeout) == transfer_timeout);
static_assert(offsetof(usbdevfs_bulktransfer, data) == transfer_data_64);
static_assert(sizeof(usbdevfs_ioctl) == 16 && offsetof(usbdevfs_ioctl, ioctl_code) == 4);
static_assert(offsetof(usbdevfs_ioctl, data) == 8);  // in 32 bits too

static_assert(sizeof(usbdevfs_setinterface) == 8 && sizeof(usbdevfs_getdriver) == 260);
static_assert(sizeof(usbdevfs_connectinfo) == 8 && sizeof(usbdevfs_disconnect_claim) == 264);
static_assert(sizeof(usbdevfs_streams) == 8 && offsetof(usbdevfs_streams, eps) == 8);

static_assert(static_cast<int>(UrbType::isochronous) == USBDEVFS_URB_TYPE_ISO);
static_assert(static_cast<int>(UrbType::interrupt) == USBDEVFS_URB_TYPE_INTERRUPT);
static_assert(static_cast<int>(UrbType::control) == USBDEVFS_URB_TYPE_CONTROL);
static_assert(static_cast<int>(UrbType::bulk) == USBDEVFS_URB_TYPE_BULK);

/// Asserts that the field is in `bytes`.
template <class T>
T field(std::span<const std::byte> bytes, size_t offset) {
    T value;
    std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
    return value;
}

uint64_t pointer(std::span<const std::byte> bytes, size_t offset, Layout layout) {
    return layout == Layout::bits64 ? field<uint64_t>(bytes, offset) : field<uint32_t>(bytes, offset);
}

uint64_t transfer_data(std::span<const std::byte> header, Layout layout) {
    return pointer(header, layout == Layout::bits64 ? transfer_data_64 : transfer_data_32, layout);
}

}  // namespace

std::optional<CommandShape> decode_command(uint32_t number, Layout layout) {
    for (const auto& row : rows) {
        if (number != (layout == Layout::bits64 ? row.number_64 : row.number_32)) continue;
        return CommandShape{row.command, layout == Layout::bits64 ? row.bytes_64 : row.bytes_32, row.fetched};
    }
    if ((number & ~size_bits) == connect_info_ex_number)
        return CommandShape{Command::connect_info_ex, (number & size_bits) >> _IOC_SIZESHIFT, written};
    return std::nullopt;
}

UrbOffsets urb_offsets(Layout layout) { return urb_fields(layout).offsets; }

std::optional<UrbHeader> decode_urb(std::span<const std::byte> header, Layout layout) {
    const auto type = field<uint8_t>(header, 0);
    if (type > static_cast<uint8_t>(UrbType::bulk)) return std::nullopt;
    const auto& at = urb_fields(layout);
    return UrbHeader{
        .type = static_cast<UrbType>(type),
        .endpoint = field<uint8_t>(header, 1),
        .flags = field<uint32_t>(header, at.flags),
        .buffer = pointer(header, at.buffer, layout),
        .buffer_length = field<int32_t>(header, at.buffer_length),
        .start_frame = field<int32_t>(header, at.start_frame),
        .number_of_packets = field<int32_t>(header, at.number_of_packets),
        .user_context = pointer(header, at.user_context, layout),
    };
}

ControlTransfer decode_control(std::span<const std::byte> header, Layout layout) {
    ControlTransfer out;
    out.setup[0] = field<uint8_t>(header, 0);
    out.setup[1] = field<uint8_t>(header, 1);
    // the caller's words are in host order, the wire's are little-endian
    for (size_t at = 2; at < out.setup.size(); at += 2) {
        const auto word = field<uint16_t>(header, at);
        out.setup[at] = static_cast<uint8_t>(word);
        out.setup[at + 1] = static_cast<uint8_t>(word >> 8);
    }
    out.length = field<uint16_t>(header, control_length);
    out.timeout_ms = field<uint32_t>(header, transfer_timeout);
    out.data = transfer_data(header, layout);
    return out;
}

BulkTransfer decode_bulk(std::span<const std::byte> header, Layout layout) {
    return {.endpoint = field<uint32_t>(header, 0),
            .length = field<uint32_t>(header, 4),
            .timeout_ms = field<uint32_t>(header, transfer_timeout),
            .data = transfer_data(header, layout)};
}

DriverIoctl decode_driver_ioctl(std::span<const std::byte> header, Layout layout) {
    return {
        .interface = field<int32_t>(header, 0), .code = field<uint32_t>(header, 4), .data = pointer(header, 8, layout)};
}

std::vector<std::byte> encode_pointer(uint64_t value, Layout layout) {
    std::vector<std::byte> out(layout == Layout::bits64 ? sizeof(uint64_t) : sizeof(uint32_t));
    if (layout == Layout::bits64) {
        std::memcpy(out.data(), &value, sizeof value);
    } else {
        const auto low = static_cast<uint32_t>(value);
        std::memcpy(out.data(), &low, sizeof low);
    }
    return out;
}

}  // namespace storctl::node::usbfs
