// The ioctls of usbfs as bytes, in both layouts. The 64-bit side is held against the kernel's own header, the 32-bit
// side against its compat structures, laid out here with members of the widths that they have there.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cstring>

#include <doctest/doctest.h>
#include <linux/ioctl.h>
#include <linux/usbdevice_fs.h>

#include "daemon/node/usbfs/wire.hpp"

// As drivers/usb/core/devio.c and include/linux/usb.h have them for CONFIG_COMPAT; the macros of the header name them.
struct usbdevfs_ctrltransfer32 {
    uint8_t bRequestType, bRequest;
    uint16_t wValue, wIndex, wLength;
    uint32_t timeout, data;
};
struct usbdevfs_bulktransfer32 {
    uint32_t ep, len, timeout, data;
};
struct usbdevfs_urb32 {
    uint8_t type, endpoint;
    int32_t status;
    uint32_t flags, buffer;
    int32_t buffer_length, actual_length, start_frame, number_of_packets, error_count;
    uint32_t signr, usercontext;
};
struct usbdevfs_ioctl32 {
    int32_t ifno, ioctl_code;
    uint32_t data;
};
struct usbdevfs_disconnectsignal32 {
    int32_t signr;
    uint32_t context;
};

using namespace storctl::node::usbfs;

namespace {

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

void check_shape(uint64_t number, Layout layout, Command command, size_t bytes, bool fetched) {
    CAPTURE(number);
    const auto shape = decode_command(static_cast<uint32_t>(number), layout);
    REQUIRE(shape.has_value());
    CHECK(shape->command == command);
    CHECK(shape->header_bytes == bytes);
    CHECK(shape->fetched == fetched);
}

}  // namespace

TEST_CASE("commands that are the same in both layouts") {
    struct Row {
        uint64_t number;
        Command command;
        size_t bytes;
        bool fetched;
    };
    const Row rows[] = {
        {USBDEVFS_RESETEP, Command::reset_endpoint, sizeof(unsigned), true},
        {USBDEVFS_SETINTERFACE, Command::set_interface, sizeof(usbdevfs_setinterface), true},
        {USBDEVFS_SETCONFIGURATION, Command::set_configuration, sizeof(unsigned), true},
        {USBDEVFS_GETDRIVER, Command::get_driver, sizeof(usbdevfs_getdriver), true},
        {USBDEVFS_DISCARDURB, Command::discard_urb, 0, false},
        {USBDEVFS_CLAIMINTERFACE, Command::claim_interface, sizeof(unsigned), true},
        {USBDEVFS_RELEASEINTERFACE, Command::release_interface, sizeof(unsigned), true},
        {USBDEVFS_CONNECTINFO, Command::connect_info, sizeof(usbdevfs_connectinfo), false},
        {USBDEVFS_RESET, Command::reset, 0, false},
        {USBDEVFS_CLEAR_HALT, Command::clear_halt, sizeof(unsigned), true},
        {USBDEVFS_GET_CAPABILITIES, Command::get_capabilities, sizeof(uint32_t), false},
        {USBDEVFS_DISCONNECT_CLAIM, Command::disconnect_claim, sizeof(usbdevfs_disconnect_claim), true},
        {USBDEVFS_ALLOC_STREAMS, Command::alloc_streams, sizeof(usbdevfs_streams), true},
        {USBDEVFS_FREE_STREAMS, Command::free_streams, sizeof(usbdevfs_streams), true},
        {USBDEVFS_GET_SPEED, Command::get_speed, 0, false},
        {USBDEVFS_CONNINFO_EX(sizeof(usbdevfs_conninfo_ex)), Command::connect_info_ex, 24, false},
        {USBDEVFS_CONNINFO_EX(0), Command::connect_info_ex, 0, false},
        {USBDEVFS_CONNINFO_EX(0x3fff), Command::connect_info_ex, 0x3fff, false},
    };
    for (const auto& row : rows) {
        check_shape(row.number, Layout::bits64, row.command, row.bytes, row.fetched);
        check_shape(row.number, Layout::bits32, row.command, row.bytes, row.fetched);
    }
}

TEST_CASE("commands with pointers differ, and belong to one layout only") {
    struct Row {
        uint64_t number_64, number_32;
        Command command;
        size_t bytes_64, bytes_32;
        bool fetched;
    };
    const Row rows[] = {
        {USBDEVFS_CONTROL, USBDEVFS_CONTROL32, Command::control, 24, 16, true},
        {USBDEVFS_BULK, USBDEVFS_BULK32, Command::bulk, 24, 16, true},
        {USBDEVFS_SUBMITURB, USBDEVFS_SUBMITURB32, Command::submit_urb, 56, 44, true},
        {USBDEVFS_REAPURB, USBDEVFS_REAPURB32, Command::reap_urb, 8, 4, false},
        {USBDEVFS_REAPURBNDELAY, USBDEVFS_REAPURBNDELAY32, Command::reap_urb_no_delay, 8, 4, false},
        {USBDEVFS_IOCTL, USBDEVFS_IOCTL32, Command::driver_ioctl, 16, 12, true},
    };
    for (const auto& row : rows) {
        check_shape(row.number_64, Layout::bits64, row.command, row.bytes_64, row.fetched);
        check_shape(row.number_32, Layout::bits32, row.command, row.bytes_32, row.fetched);
        CHECK_FALSE(decode_command(static_cast<uint32_t>(row.number_64), Layout::bits32).has_value());
        CHECK_FALSE(decode_command(static_cast<uint32_t>(row.number_32), Layout::bits64).has_value());
    }
}

TEST_CASE("what a mediated node does not know") {
    const uint64_t numbers[] = {
        USBDEVFS_DISCSIGNAL,
        USBDEVFS_DISCSIGNAL32,
        USBDEVFS_CLAIM_PORT,
        USBDEVFS_RELEASE_PORT,
        USBDEVFS_DROP_PRIVILEGES,
        USBDEVFS_FORBID_SUSPEND,
        USBDEVFS_ALLOW_SUSPEND,
        USBDEVFS_WAIT_FOR_RESUME,
        USBDEVFS_HUB_PORTINFO,
        USBDEVFS_DISCONNECT,  // inside of USBDEVFS_IOCTL only
        USBDEVFS_CONNECT,
        0,
        0xffffffff,
        0x5401,                                     // TCGETS
        _IOC(_IOC_READ | _IOC_WRITE, 'U', 32, 24),  // connect_info_ex with another direction
        _IOC(_IOC_READ, 'U', 15, 8),                // claim_interface with another size
        USBDEVFS_GET_SPEED | 0x40000000,
    };
    for (const auto number : numbers) {
        CAPTURE(number);
        CHECK_FALSE(decode_command(static_cast<uint32_t>(number), Layout::bits64).has_value());
        CHECK_FALSE(decode_command(static_cast<uint32_t>(number), Layout::bits32).has_value());
    }
}

TEST_CASE("a URB of a 64-bit caller") {
    usbdevfs_urb urb{};
    urb.type = USBDEVFS_URB_TYPE_INTERRUPT;
    urb.endpoint = 0x83;
    urb.status = 1;
    urb.flags = USBDEVFS_URB_SHORT_NOT_OK | USBDEVFS_URB_NO_INTERRUPT;
    urb.buffer = reinterpret_cast<void*>(0x7fff12345678);
    urb.buffer_length = -5;
    urb.actual_length = 2;
    urb.start_frame = 77;
    urb.stream_id = 9;
    urb.error_count = 3;
    urb.signr = 4;
    urb.usercontext = reinterpret_cast<void*>(0xfedcba9876543210);
    const auto header = decode_urb(bytes_of(urb), Layout::bits64);
    REQUIRE(header.has_value());
    CHECK(header->type == UrbType::interrupt);
    CHECK(header->endpoint == 0x83);
    CHECK(header->flags == 0x81);
    CHECK(header->buffer == 0x7fff12345678);
    CHECK(header->buffer_length == -5);
    CHECK(header->start_frame == 77);
    CHECK(header->number_of_packets == 9);
    CHECK(header->user_context == 0xfedcba9876543210);
    const auto offsets = urb_offsets(Layout::bits64);
    CHECK(offsets.status == offsetof(usbdevfs_urb, status));
    CHECK(offsets.actual_length == offsetof(usbdevfs_urb, actual_length));
    CHECK(offsets.error_count == offsetof(usbdevfs_urb, error_count));
    CHECK(offsets.packets == offsetof(usbdevfs_urb, iso_frame_desc));
}

TEST_CASE("a URB of a 32-bit caller") {
    usbdevfs_urb32 urb{};
    urb.type = USBDEVFS_URB_TYPE_ISO;
    urb.endpoint = 1;
    urb.status = 1;
    urb.flags = USBDEVFS_URB_ISO_ASAP;
    urb.buffer = 0xfffff000;
    urb.buffer_length = 0x7fffffff;
    urb.actual_length = 2;
    urb.start_frame = -1;
    urb.number_of_packets = 128;
    urb.error_count = 3;
    urb.signr = 4;
    urb.usercontext = 0x89abcdef;
    const auto header = decode_urb(bytes_of(urb), Layout::bits32);
    REQUIRE(header.has_value());
    CHECK(header->type == UrbType::isochronous);
    CHECK(header->endpoint == 1);
    CHECK(header->flags == 2);
    CHECK(header->buffer == 0xfffff000);
    CHECK(header->buffer_length == 0x7fffffff);
    CHECK(header->start_frame == -1);
    CHECK(header->number_of_packets == 128);
    CHECK(header->user_context == 0x89abcdef);
    const auto offsets = urb_offsets(Layout::bits32);
    CHECK(offsets.status == offsetof(usbdevfs_urb32, status));
    CHECK(offsets.actual_length == offsetof(usbdevfs_urb32, actual_length));
    CHECK(offsets.error_count == offsetof(usbdevfs_urb32, error_count));
    CHECK(offsets.packets == sizeof(usbdevfs_urb32));
}

TEST_CASE("a URB's type is one of four") {
    for (int type = 0; type < 256; ++type) {
        CAPTURE(type);
        usbdevfs_urb urb{};
        urb.type = static_cast<unsigned char>(type);
        const auto header = decode_urb(bytes_of(urb), Layout::bits64);
        CHECK(header.has_value() == (type < 4));
        if (header) CHECK(static_cast<int>(header->type) == type);
    }
}

TEST_CASE("a control transfer's setup packet is in the wire's order") {
    const std::array<uint8_t, 8> setup = {0x81, 0x06, 0x02, 0x22, 0x04, 0x03, 0x40, 0x01};
    usbdevfs_ctrltransfer wide{0x81, 6, 0x2202, 0x0304, 0x0140, 1500, reinterpret_cast<void*>(0x5555deadbeef)};
    auto control = decode_control(bytes_of(wide), Layout::bits64);
    CHECK(control.setup == setup);
    CHECK(control.length == 0x0140);
    CHECK(control.timeout_ms == 1500);
    CHECK(control.data == 0x5555deadbeef);
    const usbdevfs_ctrltransfer32 narrow{0x81, 6, 0x2202, 0x0304, 0x0140, 0xffffffff, 0x9abcdef0};
    control = decode_control(bytes_of(narrow), Layout::bits32);
    CHECK(control.setup == setup);
    CHECK(control.length == 0x0140);
    CHECK(control.timeout_ms == 0xffffffff);
    CHECK(control.data == 0x9abcdef0);
}

TEST_CASE("a bulk transfer") {
    const usbdevfs_bulktransfer wide{0x81, 0x80000001, 1000, reinterpret_cast<void*>(0x5555deadbeef)};
    auto bulk = decode_bulk(bytes_of(wide), Layout::bits64);
    CHECK(bulk.endpoint == 0x81);
    CHECK(bulk.length == 0x80000001);
    CHECK(bulk.timeout_ms == 1000);
    CHECK(bulk.data == 0x5555deadbeef);
    const usbdevfs_bulktransfer32 narrow{2, 512, 0, 0x80001000};
    bulk = decode_bulk(bytes_of(narrow), Layout::bits32);
    CHECK(bulk.endpoint == 2);
    CHECK(bulk.length == 512);
    CHECK(bulk.timeout_ms == 0);
    CHECK(bulk.data == 0x80001000);
}

TEST_CASE("an ioctl for an interface's driver") {
    const usbdevfs_ioctl wide{-1, USBDEVFS_DISCONNECT, reinterpret_cast<void*>(0x5555deadbeef)};
    auto request = decode_driver_ioctl(bytes_of(wide), Layout::bits64);
    CHECK(request.interface == -1);
    CHECK(request.code == USBDEVFS_DISCONNECT);
    CHECK(request.data == 0x5555deadbeef);
    const usbdevfs_ioctl32 narrow{3, USBDEVFS_CONNECT, 0xf0000000};
    request = decode_driver_ioctl(bytes_of(narrow), Layout::bits32);
    CHECK(request.interface == 3);
    CHECK(request.code == USBDEVFS_CONNECT);
    CHECK(request.data == 0xf0000000);
}

TEST_CASE("a pointer for a reap's argument") {
    const auto wide = encode_pointer(0x1122334455667788, Layout::bits64);
    REQUIRE(wide.size() == 8);
    uint64_t value = 0;
    std::memcpy(&value, wide.data(), sizeof value);
    CHECK(value == 0x1122334455667788);
    const auto narrow = encode_pointer(0xa5b6c7d8, Layout::bits32);
    REQUIRE(narrow.size() == 4);
    uint32_t low = 0;
    std::memcpy(&low, narrow.data(), sizeof low);
    CHECK(low == 0xa5b6c7d8);
}
