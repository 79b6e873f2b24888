// Claims in every situation that the rules of the arbiter name.

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/usbarb_host.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::usbarb::testing;

TEST_CASE("a claim counts on every hub above, the bus and the controller, and its release takes all of it back") {
    Host host;
    const auto decision = host.claim({xhci + "/2.4.1"}, vm1);
    REQUIRE(decision.granted());
    CHECK(host.arbiter.counters() ==
          std::map<std::string, uint32_t>{{xhci + "/2.4", 1}, {xhci + "/2", 1}, {xhci + " usb2", 1}, {xhci, 1}});
    CHECK(host.arbiter.find_claim(decision.claims[0])->counted ==
          std::vector<std::string>{xhci + "/2.4", xhci + "/2", xhci + " usb2", xhci});
    CHECK(host.consistent());
    host.release(decision.claims[0]);
    CHECK(host.idle());
    CHECK(host.arbiter.claims().empty());
}

TEST_CASE("the same holder twice is one claim") {
    Host host;
    const auto first = host.claim({xhci + "/2.1"}, vm1);
    const auto second = host.claim({xhci + "/2.1", "1-2.1"}, vm1);
    REQUIRE(second.granted());
    CHECK(second.claims == std::vector<ClaimId>{first.claims[0], first.claims[0]});
    CHECK(host.count(xhci) == 1);
}

TEST_CASE("another holder is refused and told who has it") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    const auto decision = host.claim({xhci + "/2.1"}, vm2);
    CHECK(decision.verdict == Verdict::denied);
    CHECK(contains(decision.why, vm1));
    CHECK(contains(decision.why, "storctl usb release " + xhci + "/2.1"));
    CHECK(targets_of(decision) == std::vector<std::string>{xhci + "/2.1 " + vm1});
    CHECK(decision.blockers[0].since == at(0));
    CHECK(host.count(xhci) == 1);
    CHECK(host.changes.empty());
}

TEST_CASE("a hub with claimed devices below is refused with the list of them") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    REQUIRE(host.claim({xhci + "/2.4.1"}, vm2).granted());
    const auto decision = host.claim({xhci + "/2"}, "vm:three");
    CHECK(decision.verdict == Verdict::denied);
    CHECK(targets_of(decision) == std::vector<std::string>{xhci + "/2.1 " + vm1, xhci + "/2.4.1 " + vm2});
    CHECK(contains(decision.blockers[0].description, "1234:0001"));
    // also its own claims below stand in the way: the counter is not zero
    CHECK_FALSE(host.claim({xhci + "/2.4"}, vm2).granted());
}

TEST_CASE("below its own hub a device is covered and not counted; for others it is refused") {
    Host host;
    REQUIRE(host.claim({xhci + "/2"}, vm1).granted());
    CHECK(host.arbiter.counters() == std::map<std::string, uint32_t>{{xhci + " usb2", 1}, {xhci, 1}});
    const auto covered = host.claim({xhci + "/2.4.1"}, vm1);
    REQUIRE(covered.granted());
    CHECK(host.arbiter.find_claim(covered.claims[0])->covered);
    CHECK(host.arbiter.find_claim(covered.claims[0])->counted.empty());
    CHECK(host.count(xhci) == 1);
    const auto denied = host.claim({xhci + "/2.3"}, vm2);
    CHECK(denied.verdict == Verdict::denied);
    CHECK(contains(denied.why, vm1));
    CHECK(targets_of(denied) == std::vector<std::string>{xhci + "/2 " + vm1});
    CHECK_FALSE(host.claim({xhci + "/2.4"}, vm2).granted());
}

TEST_CASE("what a hub's claim covered is counted when the hub is released") {
    Host host;
    const auto hub = host.claim({xhci + "/2"}, vm1);
    const auto covered = host.claim({xhci + "/2.4.1"}, vm1);
    host.release(hub.claims[0]);
    CHECK_FALSE(host.arbiter.find_claim(covered.claims[0])->covered);
    CHECK(host.count(xhci + "/2.4") == 1);
    CHECK(host.count(xhci) == 1);
    CHECK(host.consistent());
}

TEST_CASE("passthrough: refused with the list, granted at zero, and then every device claim is refused naming the VM") {
    Host host;
    const auto one = host.claim({xhci + "/2.1"}, vm1);
    const auto two = host.claim({xhci + "/3"}, "proc:77");
    const auto refused = host.claim({"pci"}, vm2);
    CHECK(refused.verdict == Verdict::denied);
    CHECK(targets_of(refused) == std::vector<std::string>{xhci + "/2.1 " + vm1, xhci + "/3 proc:77"});
    host.release(one.claims[0]);
    CHECK_FALSE(host.claim({"pci"}, vm2).granted());
    host.release(two.claims[0]);
    const auto passed = host.claim({"pci"}, vm2);
    REQUIRE(passed.granted());
    CHECK(host.idle());
    for (const auto& what : {xhci + "/2.1", xhci + "/3", xhci + "/2", xhci}) {
        CAPTURE(what);
        for (const auto& holder : {vm1, vm2}) {
            const auto denied = host.claim({what}, holder);
            CHECK(denied.verdict == Verdict::denied);
            CHECK(contains(denied.why, vm2));
        }
    }
    SUBCASE("also when the devices are gone from sight, by the names that they had") {
        host.unplug(xhci + "/3");
        host.unplug(xhci + "/2");
        host.unplug(xhci + "/2", Half::usb3);
        const auto denied = host.claim({"1-3"}, vm1);
        CHECK(denied.verdict == Verdict::denied);
        CHECK(contains(denied.why, vm2));
        CHECK_FALSE(host.arbiter.device_at(socket(xhci + "/3"), Half::usb2)->present);
        host.release(passed.claims[0]);
        host.arbiter.forget_absent(xhci);
        CHECK_FALSE(host.arbiter.device_at(socket(xhci + "/3"), Half::usb2));
        CHECK(host.arbiter.resolve_usb("1-3").verdict == Verdict::not_found);
    }
    SUBCASE("while it is being released as well") {
        host.arbiter.begin_release(passed.claims[0], false);
        CHECK_FALSE(host.claim({xhci + "/3"}, vm1).granted());
        CHECK_FALSE(host.claim({"pci"}, vm2).granted());
        host.arbiter.finish_release(passed.claims[0], at(1));
        CHECK(host.claim({xhci + "/3"}, vm1).granted());
    }
}

TEST_CASE("a claim on the USB 3 bus stands in the way of the function too") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.3"}, vm1).granted());
    CHECK(host.count(xhci + " usb3") == 1);
    CHECK(host.count(xhci + " usb2") == 0);
    CHECK(host.count(xhci + "/2") == 1);
    CHECK(targets_of(host.claim({"pci"}, vm2)) == std::vector<std::string>{xhci + "/2.3 " + vm1});
}

TEST_CASE("unplugging a hub with three claims takes three off, exactly once, in every order of the events") {
    struct Event {
        std::string where;
        Half half;
    };
    std::vector<Event> events{{xhci + "/2", Half::usb2},   {xhci + "/2", Half::usb3},   {xhci + "/2.1", Half::usb2},
                              {xhci + "/2.3", Half::usb3}, {xhci + "/2.4", Half::usb2}, {xhci + "/2.4.1", Half::usb2}};
    std::vector<size_t> order{0, 1, 2, 3, 4, 5};
    int orders = 0;
    do {
        Host host;
        for (const char* port : {"/2.1", "/2.3", "/2.4.1", "/3"}) REQUIRE(host.claim({xhci + port}, vm1).granted());
        REQUIRE(host.count(xhci) == 4);
        size_t lost = 0;
        for (const size_t i : order) {
            host.unplug(events[i].where, events[i].half, 5);
            lost += number_of(host.changes, Change::What::lost);
            REQUIRE(host.consistent());
        }
        for (const size_t i : order) host.unplug(events[i].where, events[i].half, 6);  // and late ones again
        CHECK(lost == 3);
        CHECK(host.arbiter.counters() == std::map<std::string, uint32_t>{{xhci + " usb2", 1}, {xhci, 1}});
        ++orders;
    } while (std::next_permutation(order.begin(), order.end()));
    CHECK(orders == 720);
}

TEST_CASE("a device that comes back in time has its claim again; one that does not, or is another, has not") {
    Host host;
    const auto decision = host.claim({xhci + "/2.1"}, vm1);
    const ClaimId id = decision.claims[0];
    host.unplug(xhci + "/2.1", Half::usb2, 10);
    CHECK(host.arbiter.find_claim(id)->state == ClaimState::lost);
    CHECK(host.arbiter.next_deadline() == at(40));
    CHECK(host.idle());
    SUBCASE("the same device") {
        host.plug({.where = xhci + "/2.1", .serial = "A", .address = 44}, 12);
        CHECK(number_of(host.changes, Change::What::restored) == 1);
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::active);
        CHECK_FALSE(host.arbiter.next_deadline());
        CHECK(host.count(xhci + "/2") == 1);
    }
    SUBCASE("another device") {
        host.plug({.where = xhci + "/2.1", .serial = "Z"}, 12);
        CHECK(host.changes.empty());
        CHECK(host.idle());
        // and then the right one
        host.unplug(xhci + "/2.1", Half::usb2, 13);
        host.plug({.where = xhci + "/2.1", .serial = "A"}, 14);
        CHECK(host.count(xhci) == 1);
    }
    SUBCASE("another holder was given it meanwhile") {
        host.plug({.where = xhci + "/2.1", .serial = "Z"}, 12);
        REQUIRE(host.claim({xhci + "/2.1"}, vm2).granted());
        CHECK(host.count(xhci) == 1);
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::lost);
    }
    SUBCASE("too late") {
        CHECK(host.arbiter.expire(at(39)).empty());
        CHECK(number_of(host.arbiter.expire(at(40)), Change::What::removed) == 1);
        host.plug({.where = xhci + "/2.1", .serial = "A"}, 41);
        CHECK(host.arbiter.claims().empty());
        CHECK(host.idle());
    }
    SUBCASE("its release works although it is gone") {
        CHECK(number_of(host.arbiter.begin_release(id, false), Change::What::removed) == 1);
        host.plug({.where = xhci + "/2.1", .serial = "A"}, 12);
        CHECK(host.idle());
    }
    SUBCASE("the controller went to another machine meanwhile") {
        REQUIRE(host.claim({"pci"}, vm2).granted());
        host.plug({.where = xhci + "/2.1", .serial = "A"}, 12);
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::lost);
        CHECK(host.idle());
    }
}

TEST_CASE("a device enumerated again without a word of its going is lost and restored") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    host.plug({.where = xhci + "/2.1", .serial = "A", .address = 99}, 3);
    CHECK(number_of(host.changes, Change::What::lost) == 1);
    CHECK(number_of(host.changes, Change::What::restored) == 1);
    CHECK(host.count(xhci) == 1);
}

TEST_CASE("a hub and what was claimed below it return in either order") {
    for (const bool hub_first : {true, false}) {
        CAPTURE(hub_first);
        Host host;
        REQUIRE(host.claim({xhci + "/2.4"}, vm1).granted());
        REQUIRE(host.claim({xhci + "/2.4.1"}, vm1).granted());
        host.unplug(xhci + "/2.4");
        CHECK(host.idle());
        const Plug hub{.where = xhci + "/2.4", .hub = true, .product = 0x0b03};
        const Plug below{.where = xhci + "/2.4.1", .serial = "D"};
        host.plug(hub_first ? hub : below, 1);
        host.plug(hub_first ? below : hub, 1);
        CHECK(host.arbiter.counters() ==
              std::map<std::string, uint32_t>{{xhci + "/2", 1}, {xhci + " usb2", 1}, {xhci, 1}});
        CHECK(host.consistent());
        CHECK(host.arbiter.covering(socket(xhci + "/2.4.1"))->holder == vm1);
    }
}

TEST_CASE("several in one request: the second is refused, the first is free and the other's claim stands") {
    Host host;
    const auto theirs = host.claim({xhci + "/2.2"}, vm1);
    const auto before = host.arbiter.claims();
    const auto decision = host.claim({xhci + "/2.1", xhci + "/2.2", xhci + "/3"}, vm2);
    CHECK(decision.verdict == Verdict::denied);
    CHECK(decision.claims.empty());
    CHECK(host.changes.empty());
    CHECK(host.arbiter.claims() == before);
    CHECK(host.count(xhci) == 1);
    CHECK(host.claim({xhci + "/2.1"}, "vm:three").granted());
}

TEST_CASE("a denial lists what stands against every target") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    REQUIRE(host.claim({xhci + "/3"}, vm1).granted());
    CHECK(targets_of(host.claim({xhci + "/2.1", xhci + "/2.2", xhci + "/3"}, vm2)) ==
          std::vector<std::string>{xhci + "/2.1 " + vm1, xhci + "/3 " + vm1});
}

TEST_CASE("explaining says the same as trying and leaves nothing behind") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    const auto claims = host.arbiter.claims();
    const auto counters = host.arbiter.counters();
    for (const auto& what : {xhci + "/2.1", xhci + "/2.2", xhci + "/2", xhci, std::string("pci")}) {
        CAPTURE(what);
        const Request request{.targets = {host.target(what)}, .holder = vm2};
        const auto explained = host.arbiter.explain(request);
        CHECK(host.arbiter.claims() == claims);
        CHECK(host.arbiter.counters() == counters);
        const auto tried = host.claim({what}, vm2);
        CHECK(tried.verdict == explained.verdict);
        CHECK(tried.why == explained.why);
        CHECK(tried.blockers == explained.blockers);
        for (const ClaimId id : tried.claims) host.release(id);
    }
}

TEST_CASE("a provisional claim ends by itself unless it is confirmed") {
    Host host;
    Request request{.targets = {host.target(xhci + "/2.1")}, .holder = vm1, .provisional_until = at(120)};
    request.origin = "libvirt";
    const ClaimId id = host.arbiter.claim(request, at(0), host.changes).claims[0];
    CHECK(host.arbiter.find_claim(id)->state == ClaimState::provisional);
    SUBCASE("left alone") {
        const auto changes = host.arbiter.expire(at(120));
        REQUIRE(changes.size() == 1);
        CHECK(changes[0].claim.state == ClaimState::releasing);
        CHECK(host.count(xhci) == 1);  // until the drivers are back
    }
    SUBCASE("confirmed") {
        CHECK(host.arbiter.confirm(vm1, "admin").empty());
        CHECK(host.arbiter.confirm(vm2, "").empty());
        CHECK(host.arbiter.confirm(vm1, "libvirt").size() == 1);
        CHECK(host.arbiter.expire(at(500)).empty());
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::active);
    }
    SUBCASE("unplugged and back it is still provisional, with the time that it had") {
        host.unplug(xhci + "/2.1", Half::usb2, 100);
        CHECK(host.arbiter.next_deadline() == at(120));
        host.plug({.where = xhci + "/2.1", .serial = "A"}, 110);
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::provisional);
        CHECK(host.arbiter.next_deadline() == at(120));
    }
    SUBCASE("asked for again to stay") {
        REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
        CHECK(host.arbiter.find_claim(id)->state == ClaimState::active);
        CHECK(host.arbiter.find_claim(id)->origin == "libvirt");
    }
}

TEST_CASE("claims survive a restart, as far as their devices do") {
    Host before;
    const auto device_claim = before.claim({xhci + "/3"}, vm1);
    const auto hub_claim = before.claim({xhci + "/2"}, vm2);
    const auto covered = before.claim({xhci + "/2.4.1"}, vm2);
    before.use(xhci + "/3", {{.kind = UseKind::open, .text = "opened", .pid = 1}});
    std::vector<ClaimRecord> records;
    for (const auto& record : before.arbiter.claims()) {
        if (!record.observed) records.push_back(record);
    }
    REQUIRE(records.size() == 3);
    Host after;
    SUBCASE("everything is there") {
        after.use(xhci + "/3", {{.kind = UseKind::open, .text = "opened", .pid = 1}});
        after.arbiter.restore(records, at(50));
        CHECK(after.arbiter.counters() == before.arbiter.counters());
        CHECK(after.arbiter.claims() == before.arbiter.claims());
        const auto next = after.claim({xhci + "/3"}, vm1);
        CHECK(next.claims == device_claim.claims);
        after.release(hub_claim.claims[0]);
        CHECK(after.count(xhci + "/2.4") == 1);
        CHECK(after.claim({xhci + "/2.1"}, vm1).claims[0] > covered.claims[0]);
    }
    SUBCASE("a device went, another came into the socket of a third") {
        after.unplug(xhci + "/3");
        after.unplug(xhci + "/2.4.1");
        after.plug({.where = xhci + "/2.4.1", .serial = "other"});
        after.changes = after.arbiter.restore(records, at(50));
        CHECK(number_of(after.changes, Change::What::lost) == 2);
        CHECK(after.count(xhci) == 1);
        CHECK(after.arbiter.next_deadline() == at(80));
    }
    CHECK(after.consistent());
}

TEST_CASE("a rescan is every event that was missed") {
    Host host;
    REQUIRE(host.claim({xhci + "/2.1"}, vm1).granted());
    REQUIRE(host.claim({xhci + "/3"}, vm1).granted());
    const std::vector<DeviceFacts> present{device({.where = xhci + "/2.1", .serial = "A"}),
                                           device({.where = xhci + "/2", .hub = true, .product = 0x0b01}),
                                           device({.where = xhci + "/4", .serial = "new"})};
    host.changes = host.arbiter.replace_all({usb_controller()}, present, at(2));
    CHECK(number_of(host.changes, Change::What::lost) == 1);
    CHECK(host.count(xhci) == 1);
    size_t devices = 0;
    host.arbiter.each_device([&](const Arbiter::DeviceView&) { ++devices; });
    CHECK(devices == 3);
    host.changes = host.arbiter.replace_all({}, {}, at(3));
    CHECK(host.idle());
    CHECK(number_of(host.changes, Change::What::lost) == 1);
    devices = 0;
    host.arbiter.each_device([&](const Arbiter::DeviceView&) { ++devices; });
    CHECK(devices == 0);
}

TEST_CASE("a claim that follows its socket takes whatever comes back there") {
    Host host;
    Request request{.targets = {host.target(xhci + "/2.1")}, .holder = vm1, .follow_socket = true};
    REQUIRE(host.arbiter.claim(request, at(0), host.changes).granted());
    host.unplug(xhci + "/2.1", Half::usb2, 1);
    host.plug({.where = xhci + "/2.1", .product = 0xdf11, .serial = "dfu"}, 2);
    CHECK(number_of(host.changes, Change::What::restored) == 1);
    CHECK(host.count(xhci) == 1);
}

TEST_CASE("a root hub is claimed like a hub, for both of its buses") {
    Host host;
    CHECK_FALSE(host.claim({"usb1"}, "nobody").granted());
    const auto root = host.claim({"usb2"}, vm1);
    REQUIRE(root.granted());
    CHECK(host.arbiter.find_claim(root.claims[0])->kind == ClaimKind::hub);
    CHECK_FALSE(host.claim({xhci + "/3"}, vm2).granted());
    CHECK(host.claim({xhci + "/3"}, vm1).granted());
    CHECK(targets_of(host.claim({"pci"}, vm2)) == std::vector<std::string>{xhci + " " + vm1});
    CHECK(host.consistent());
    host.release(root.claims[0]);
    CHECK(host.count(xhci) == 1);
    CHECK(host.consistent());
}

TEST_CASE("what was lost before a restart and is there again has its claim again") {
    Host before;
    const auto decision = before.claim({xhci + "/3"}, vm1);
    before.unplug(xhci + "/3", Half::usb2, 10);
    Host after;  // the device is back, and the grace period over
    after.changes = after.arbiter.restore(before.arbiter.claims(), at(500));
    CHECK(number_of(after.changes, Change::What::restored) == 1);
    CHECK(after.arbiter.find_claim(decision.claims[0])->state == ClaimState::active);
    CHECK(after.count(xhci) == 1);
}

TEST_CASE("a function, and a root hub, that come back have their claims again") {
    for (const std::string& what : {std::string("pci"), xhci}) {
        CAPTURE(what);
        Host host;
        const auto decision = host.claim({what}, vm1);
        REQUIRE(decision.granted());
        CHECK(number_of(host.arbiter.remove_controller(xhci, at(1)), Change::What::lost) == 1);
        ControllerFacts other = usb_controller();
        other.device_id = 0x1111;
        CHECK(host.arbiter.put_controller(other).empty());
        host.arbiter.remove_controller(xhci, at(2));
        CHECK(number_of(host.arbiter.put_controller(usb_controller()), Change::What::restored) == 1);
        CHECK(host.arbiter.find_claim(decision.claims[0])->state == ClaimState::active);
        CHECK_FALSE(host.claim({"pci"}, vm2).granted());
        CHECK(host.consistent());
    }
}

TEST_CASE("a provisional claim that is asked for again takes its time again") {
    Host host;
    Request request{.targets = {host.target(xhci + "/3")}, .holder = vm1, .provisional_until = at(120)};
    REQUIRE(host.arbiter.claim(request, at(0), host.changes).granted());
    request.provisional_until = at(200);
    REQUIRE(host.arbiter.claim(request, at(80), host.changes).granted());
    CHECK(host.arbiter.next_deadline() == at(200));
}
