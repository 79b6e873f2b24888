#include <doctest/doctest.h>

#include "tests/unit/usbarb_host.hpp"
#include "usbarb/rules.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::usbarb::testing;

TEST_CASE("holders") {
    for (const std::string holder : {"host", "vm:web1", "vm:a b/c:d", "vm:\xc3\xa4", "proc:1"}) {
        CAPTURE(holder);
        CHECK(check_holder(holder));
    }
    for (const std::string holder :
         {"", "vm", "vm:", "proc:", "proc:0", "proc:x", "proc:-1", "Host", "root", "vm:a\nb", "vm:\xff"}) {
        CAPTURE(holder);
        CHECK_FALSE(check_holder(holder));
    }
    CHECK_FALSE(check_holder("vm:" + std::string(256, 'a')));
}

TEST_CASE("rules that could never be meant are refused") {
    CHECK_FALSE(check_rule({.holder = "vm:a"}));
    CHECK_FALSE(check_rule({.product_id = 1, .holder = "vm:a"}));
    CHECK_FALSE(check_rule({.socket = socket("00:14.0"), .holder = "vm:a"}));
    CHECK_FALSE(check_rule({.serial = " ", .holder = "vm:a"}));
    CHECK_FALSE(check_rule({.serial = "A", .holder = "nobody"}));
    CHECK(check_rule({.vendor_id = 1, .holder = "vm:a"}));
}

TEST_CASE("the most particular rule is chosen") {
    DeviceFacts disk = device({.where = xhci + "/2.1", .serial = "A"});
    disk.interfaces = {{.number = 0, .device_class = 3}, {.number = 1, .device_class = 8}};
    const Rule by_class{.id = 1, .device_class = 8, .holder = "vm:class"};
    const Rule by_vendor{.id = 2, .vendor_id = 0x1234, .holder = "vm:vendor"};
    const Rule by_product{.id = 3, .vendor_id = 0x1234, .product_id = 1, .holder = "vm:product"};
    const Rule by_serial{.id = 4, .serial = "A", .holder = "vm:serial"};
    const Rule by_socket{.id = 5, .socket = disk.socket, .holder = "vm:socket"};
    const Rule older{.id = 0, .serial = "A", .holder = "vm:older"};
    const Rule other{.id = 6, .socket = socket(xhci + "/2.2"), .holder = "vm:other"};
    const auto chosen = [&](std::vector<Rule> rules) {
        const Rule* rule = choose_rule(rules, disk);
        return rule == nullptr ? "" : rule->holder;
    };
    CHECK(chosen({}) == "");
    CHECK(chosen({other}) == "");
    CHECK(chosen({by_class}) == "vm:class");
    CHECK(chosen({by_class, by_vendor}) == "vm:vendor");
    CHECK(chosen({by_class, by_product, by_vendor}) == "vm:product");
    CHECK(chosen({by_serial, by_product}) == "vm:serial");
    CHECK(chosen({by_serial, by_socket, other}) == "vm:socket");
    CHECK(chosen({by_serial, older}) == "vm:older");
    // in firmware mode it has other ids and the same socket
    disk.identity = {.vendor_id = 0x1234, .product_id = 0xdf11, .serial = ""};
    CHECK(chosen({by_serial, by_product, by_socket}) == "vm:socket");
}

TEST_CASE("hubs are taken by socket only") {
    const DeviceFacts hub = device({.where = xhci + "/2", .hub = true});
    CHECK_FALSE(matches({.vendor_id = 0x1234, .holder = "vm:a"}, hub));
    CHECK_FALSE(matches({.device_class = 9, .holder = "vm:a"}, hub));
    CHECK(matches({.socket = hub.socket, .holder = "vm:a"}, hub));
}
