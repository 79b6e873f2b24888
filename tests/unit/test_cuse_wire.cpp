#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cerrno>
#include <cstring>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>

#include "daemon/node/cuse_wire.hpp"

namespace {

using namespace storctl::node;
using Kind = CuseRequest::Kind;
using Bytes = std::vector<std::byte>;

template <class T>
void append(Bytes& bytes, const T& value) {
    const auto* start = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), start, start + sizeof value);
}

/// A request as the kernel writes it.
template <class Body>
Bytes request(uint32_t opcode, const Body& body, const Bytes& data = {}) {
    Bytes bytes;
    append(bytes, fuse_in_header{.len = static_cast<uint32_t>(sizeof(fuse_in_header) + sizeof body + data.size()),
                                 .opcode = opcode,
                                 .unique = 0x1122334455667788,
                                 .pid = 4711});
    append(bytes, body);
    bytes.insert(bytes.end(), data.begin(), data.end());
    return bytes;
}

template <class T>
T at(std::span<const std::byte> bytes, size_t offset) {
    T value;
    REQUIRE(offset + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

Bytes text(const char* characters) {
    const auto bytes = std::as_bytes(std::span(characters, std::strlen(characters)));
    return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("the first exchange names the device and its number") {
    const auto offer =
        decode_cuse_offer(request(CUSE_INIT, cuse_init_in{.major = 7, .minor = 36, .flags = CUSE_UNRESTRICTED_IOCTL}));
    REQUIRE(offer.has_value());
    const auto answer = encode_cuse_accept(*offer, {.name = "storctl/usb/token", .major = 189, .minor = 8193});
    const auto header = at<fuse_out_header>(answer, 0);
    CHECK(header.len == answer.size());
    CHECK(header.error == 0);
    CHECK(header.unique == 0x1122334455667788);
    const auto body = at<cuse_init_out>(answer, sizeof header);
    CHECK(body.major == 7);
    CHECK(body.minor == 36);
    CHECK(body.flags == CUSE_UNRESTRICTED_IOCTL);
    CHECK(body.dev_major == 189);
    CHECK(body.dev_minor == 8193);
    // a read that has no room for the largest write is refused by the kernel
    CHECK(sizeof(fuse_in_header) + sizeof(fuse_write_in) + body.max_write <= CuseChannel::buffer_bytes);
    CHECK(sizeof(fuse_in_header) + sizeof(fuse_ioctl_in) + CuseChannel::leg_bytes <= CuseChannel::buffer_bytes);
    const char* info = reinterpret_cast<const char*>(answer.data()) + sizeof header + sizeof body;
    CHECK(answer.back() == std::byte{0});
    CHECK(std::string(info) == "DEVNAME=storctl/usb/token");
}

TEST_CASE("a kernel that offers something else is refused") {
    struct Row {
        const char* name;
        Bytes message;
        const char* expected;
    };
    for (const Row& row : {
             Row{"another request", request(FUSE_INIT, cuse_init_in{.major = 7}), "CUSE_INIT"},
             Row{"cut off", Bytes(10), "CUSE_INIT"},
             Row{"another protocol", request(CUSE_INIT, cuse_init_in{.major = 8, .flags = CUSE_UNRESTRICTED_IOCTL}),
                 "FUSE 8.0"},
             Row{"no unrestricted ioctls", request(CUSE_INIT, cuse_init_in{.major = 7, .minor = 36}), "unrestricted"},
         }) {
        SUBCASE(row.name) {
            const auto offer = decode_cuse_offer(row.message);
            REQUIRE_FALSE(offer.has_value());
            CHECK(offer.error().message().find(row.expected) != std::string::npos);
        }
    }
}

TEST_CASE("requests are read field by field") {
    SUBCASE("open") {
        const auto bytes = request(FUSE_OPEN, fuse_open_in{.flags = O_RDWR});
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::open);
        CHECK(got->unique == 0x1122334455667788);
        CHECK(got->thread_id == 4711);
        CHECK(got->open_flags == O_RDWR);
    }
    SUBCASE("release") {
        const auto bytes = request(FUSE_RELEASE, fuse_release_in{.fh = 9, .flags = O_RDONLY});
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::release);
        CHECK(got->handle == 9);
    }
    SUBCASE("read") {
        const auto bytes = request(FUSE_READ, fuse_read_in{.fh = 9, .size = 256, .flags = O_NONBLOCK});
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::read);
        CHECK(got->handle == 9);
        CHECK(got->size == 256);
        CHECK(got->open_flags == O_NONBLOCK);
    }
    SUBCASE("write") {
        const auto bytes = request(FUSE_WRITE, fuse_write_in{.fh = 9, .size = 4}, text("abcd"));
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::write);
        CHECK(Bytes(got->in.begin(), got->in.end()) == text("abcd"));
    }
    SUBCASE("an ioctl of a 64-bit caller") {
        const auto bytes = request(FUSE_IOCTL,
                                   fuse_ioctl_in{.fh = 9,
                                                 .flags = FUSE_IOCTL_UNRESTRICTED,
                                                 .cmd = 0x8038550a,
                                                 .arg = 0x7fff12345678,
                                                 .in_size = 3,
                                                 .out_size = 70000},
                                   text("xyz"));
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::ioctl);
        CHECK(got->command == 0x8038550a);
        CHECK(got->argument == 0x7fff12345678);
        CHECK_FALSE(got->compat);
        CHECK(got->in_size == 3);
        CHECK(got->out_size == 70000);
        CHECK(Bytes(got->in.begin(), got->in.end()) == text("xyz"));
    }
    SUBCASE("an ioctl of a 32-bit caller") {
        const auto bytes =
            request(FUSE_IOCTL, fuse_ioctl_in{.flags = FUSE_IOCTL_UNRESTRICTED | FUSE_IOCTL_COMPAT | FUSE_IOCTL_32BIT});
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->compat);
    }
    SUBCASE("poll, with somebody who waits and without") {
        for (const uint32_t flags : {0U, FUSE_POLL_SCHEDULE_NOTIFY + 0U}) {
            const auto bytes = request(FUSE_POLL, fuse_poll_in{.fh = 9, .kh = 77, .flags = flags, .events = POLLOUT});
            const auto got = decode_cuse_request(bytes);
            REQUIRE(got.has_value());
            CHECK(got->kind == Kind::poll);
            CHECK(got->poll_handle == 77);
            CHECK(got->events == POLLOUT);
            CHECK(got->notify == (flags != 0));
        }
    }
    SUBCASE("interrupt") {
        const auto bytes = request(FUSE_INTERRUPT, fuse_interrupt_in{.unique = 5});
        const auto got = decode_cuse_request(bytes);
        REQUIRE(got.has_value());
        CHECK(got->kind == Kind::interrupt);
        CHECK(got->interrupted == 5);
    }
    SUBCASE("what nobody knows is answered, what wants no answer is not") {
        const auto strange = decode_cuse_request(request(4000, uint64_t{1}));
        REQUIRE(strange.has_value());
        CHECK(strange->kind == Kind::other);
        CHECK_FALSE(wants_no_answer(*strange));
        const auto forget = decode_cuse_request(request(FUSE_FORGET, fuse_forget_in{.nlookup = 1}));
        REQUIRE(forget.has_value());
        CHECK(wants_no_answer(*forget));
    }
}

TEST_CASE("a request that is cut off anywhere is not one") {
    const auto whole = request(FUSE_IOCTL, fuse_ioctl_in{.in_size = 3}, text("xyz"));
    REQUIRE(decode_cuse_request(whole).has_value());
    for (size_t length = 0; length < whole.size(); ++length) {
        CAPTURE(length);
        auto cut = Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
        CHECK_FALSE(decode_cuse_request(cut).has_value());
        if (length < sizeof(fuse_in_header)) continue;
        // with a header that agrees: the ioctl's own sizes do not
        const auto claimed = static_cast<uint32_t>(length);
        std::memcpy(cut.data(), &claimed, sizeof claimed);
        CHECK_FALSE(decode_cuse_request(cut).has_value());
    }
    auto extended = whole;
    const uint16_t units = 60000;
    std::memcpy(extended.data() + offsetof(fuse_in_header, total_extlen), &units, sizeof units);
    CHECK_FALSE(decode_cuse_request(extended).has_value());
}

TEST_CASE("answers carry their whole length, also of what follows their head") {
    const auto open = encode_open(5, 0xabc);
    CHECK(at<fuse_out_header>(open.bytes(), 0).len == open.bytes().size());
    CHECK(at<fuse_open_out>(open.bytes(), 16).fh == 0xabc);

    const auto data = encode_data(5, 1000);
    CHECK(data.bytes().size() == sizeof(fuse_out_header));
    CHECK(at<fuse_out_header>(data.bytes(), 0).len == sizeof(fuse_out_header) + 1000);

    const auto ioctl = encode_ioctl(5, 3, 12);
    CHECK(at<fuse_out_header>(ioctl.bytes(), 0).len == ioctl.bytes().size() + 12);
    CHECK(at<fuse_ioctl_out>(ioctl.bytes(), 16).result == 3);
    CHECK(at<fuse_ioctl_out>(ioctl.bytes(), 16).flags == 0);

    CHECK(at<fuse_write_out>(encode_written(5, 7).bytes(), 16).size == 7);
    CHECK(at<fuse_poll_out>(encode_poll(5, POLLERR).bytes(), 16).revents == POLLERR);
}

TEST_CASE("a further leg names its segments, those to read first") {
    const std::array in{CallerSegment{0x1000, 16}};
    const std::array out{CallerSegment{0x2000, 4}, CallerSegment{0x3000, 8}};
    const auto head = encode_retry(5, in.size(), out.size());
    const auto segments = encode_segments(in, out);
    CHECK(at<fuse_out_header>(head.bytes(), 0).len == head.bytes().size() + segments.size());
    const auto body = at<fuse_ioctl_out>(head.bytes(), 16);
    CHECK(body.flags == FUSE_IOCTL_RETRY);
    CHECK(body.in_iovs == 1);
    CHECK(body.out_iovs == 2);
    CHECK(at<fuse_ioctl_iovec>(segments, 0).base == 0x1000);
    CHECK(at<fuse_ioctl_iovec>(segments, 16).len == 4);
    CHECK(at<fuse_ioctl_iovec>(segments, 32).base == 0x3000);
}

TEST_CASE("errors are negative, and never what the kernel would misunderstand") {
    const auto error_of = [](int number) { return at<fuse_out_header>(encode_error(5, number).bytes(), 0).error; };
    CHECK(error_of(0) == 0);
    CHECK(error_of(EBUSY) == -EBUSY);
    CHECK(error_of(ENOSYS) == -ENOTTY);
    CHECK(error_of(512) == -EIO);  // ERESTARTSYS and its like are the kernel's own
    CHECK(error_of(-EBUSY) == -EIO);
    CHECK(at<fuse_out_header>(encode_interrupt_again(9).bytes(), 0).error == -EAGAIN);
}

TEST_CASE("a poll's notice is no answer to anything") {
    const auto notice = encode_poll_notice(77);
    const auto header = at<fuse_out_header>(notice.bytes(), 0);
    CHECK(header.len == notice.bytes().size());
    CHECK(header.unique == 0);
    CHECK(header.error == FUSE_NOTIFY_POLL);
    CHECK(at<fuse_notify_poll_wakeup_out>(notice.bytes(), 16).kh == 77);
}

TEST_CASE("device names are paths below /dev, outside the folder that libusb reads numbers from") {
    for (const char* good : {"token", "storctl/usb/token", "storctl/usb/a.b-c_1"}) {
        CAPTURE(good);
        CHECK(check_device_name(good));
    }
    for (const std::string& bad : {std::string(), std::string("/token"), std::string("a//b"), std::string("a/"),
                                   std::string("a/../b"), std::string("a/.b"), std::string("a b"), std::string("a\n"),
                                   std::string("a!b"), std::string("bus/usb/001/002"), std::string(201, 'a')}) {
        CAPTURE(bad);
        CHECK_FALSE(check_device_name(bad).has_value());
    }
    CHECK(sysfs_device_name("storctl/usb/token") == "storctl!usb!token");
}
