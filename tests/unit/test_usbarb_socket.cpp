#include <doctest/doctest.h>

#include "usbarb/socket.hpp"

using namespace storctl;
using namespace storctl::usbarb;

TEST_CASE("sockets are written and read back") {
    for (const std::string text :
         {"0000:00:14.0", "0000:00:14.0/1", "0000:00:14.0/2.1", "0000:00:14.0/usb3-4", "0000:00:14.0/usb3-4.1.2",
          "10000:e0:06.0/255.1.1.1.1.1", "platform/xhci-hcd.0.auto", "platform/dummy_hcd.0/1.3"}) {
        CAPTURE(text);
        const auto socket = parse_socket(text);
        REQUIRE_MESSAGE(socket, socket.error().message());
        CHECK(to_text(*socket) == text);
    }
    CHECK(to_text(parse_socket("00:14.0/2").value()) == "0000:00:14.0/2");
    CHECK(to_text(parse_socket("0000:0A:1f.7").value()) == "0000:0a:1f.7");
}

TEST_CASE("what is no socket is refused") {
    for (const std::string text : {"",
                                   "/",
                                   "1-2.1",
                                   "usb1",
                                   "0000:00:14.0/",
                                   "0000:00:14.0/0",
                                   "0000:00:14.0/01",
                                   "0000:00:14.0/1.",
                                   "0000:00:14.0/.1",
                                   "0000:00:14.0/1..2",
                                   "0000:00:14.0/256",
                                   "0000:00:14.0/1.2.3.4.5.6.7",
                                   "0000:00:14.0/usb3-",
                                   "0000:00:14.0/usb2-1",
                                   "0000:00:14.8",
                                   "0000:00:20.0",
                                   "00:14",
                                   "platform/",
                                   "0000:00:14.0/-1",
                                   "0000:00:14.0/1 ",
                                   "046d:c31c",
                                   "0000:01:00.0/nvme0n1",
                                   "zz:14.0",
                                   "000:00:14.0"}) {
        CAPTURE(text);
        const auto socket = parse_socket(text);
        REQUIRE_FALSE(socket);
        CHECK(socket.error().code == std::errc::invalid_argument);
    }
}

TEST_CASE("what is above and below a socket") {
    const auto of = [](const char* text) { return parse_socket(text).value(); };
    CHECK(of("00:14.0/2.1").parent() == of("00:14.0/2"));
    CHECK(of("00:14.0/2").parent() == of("00:14.0"));
    CHECK(of("00:14.0/usb3-2").parent() == of("00:14.0"));
    CHECK(of("00:14.0").parent() == of("00:14.0"));
    CHECK(of("00:14.0/2.1.3").is_below(of("00:14.0/2")));
    CHECK(of("00:14.0/usb3-2.1").is_below(of("00:14.0")));
    CHECK_FALSE(of("00:14.0/2").is_below(of("00:14.0/2")));
    CHECK_FALSE(of("00:14.0/21").is_below(of("00:14.0/2")));
    CHECK_FALSE(of("00:14.0/usb3-2.1").is_below(of("00:14.0/2")));
    CHECK_FALSE(of("00:15.0/2.1").is_below(of("00:14.0/2")));
    Socket disk = of("01:00.0");
    disk.unit = "nvme0n1";
    CHECK(to_text(disk) == "0000:01:00.0/nvme0n1");
    CHECK(disk.parent() == of("01:00.0"));
    CHECK(disk.is_below(of("01:00.0")));
}
