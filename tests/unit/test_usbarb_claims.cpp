// Claims in every situation that the rules of the arbiter name.

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/usbarb_host.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::usbarb::testing;

namespace {

const std::string vm1 = "vm:one", vm2 = "vm:two";

std::vector<std::string> targets_of(const Decision& decision) {
    std::vector<std::string> out;
    for (const auto& blocker : decision.blockers) out.push_back(blocker.target + " " + blocker.holder);
    std::sort(out.begin(), out.end());
    return out;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

size_t number_of(const Changes& changes, Change::What what) {
    return std::count_if(changes.begin(), changes.end(), [what](const Change& c) { return c.what == what; });
}

}  // namespace

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

TEST_CASE("the host's own use stands in the way of device, hub and function, and is named") {
    Host host;
    host.use(xhci + "/2.1", {{.kind = UseKind::mount, .text = "mounted on /srv (sda1)"}}, 7);
    CHECK(host.count(xhci + "/2") == 1);
    for (const auto& what : {xhci + "/2.1", xhci + "/2", xhci, std::string("pci")}) {
        CAPTURE(what);
        const auto decision = host.claim({what}, vm1);
        CHECK(decision.verdict == Verdict::denied);
        REQUIRE(decision.blockers.size() == 1);
        CHECK(decision.blockers[0].reason == "mounted on /srv (sda1)");
        CHECK(decision.blockers[0].holder == "host");
        CHECK(decision.blockers[0].since == at(7));
    }
    host.use(xhci + "/2.1", {});
    CHECK(host.idle());
    CHECK(host.claim({"pci"}, vm1).granted());
}

TEST_CASE("a program that holds a raw node stands in the way, unless it is the claim's own machine") {
    Host host;
    const std::vector<Use> uses{{.kind = UseKind::open, .text = "opened by lsusb (pid 812)", .pid = 812}};
    host.use(xhci + "/2.1", uses);
    CHECK(targets_of(host.claim({xhci + "/2.1"}, vm1)) == std::vector<std::string>{xhci + "/2.1 proc:812"});
    SUBCASE("a machine found running adopts it") {
        Request request{.targets = {host.target(xhci + "/2.1")}, .holder = vm1, .adopt = true};
        REQUIRE(host.arbiter.claim(request, at(1), host.changes).granted());
        CHECK(number_of(host.changes, Change::What::removed) == 1);
        CHECK(host.count(xhci) == 1);
        CHECK(host.consistent());
    }
    SUBCASE("a claimed device that its machine opens stays the machine's") {
        host.use(xhci + "/2.1", {});
        const auto decision = host.claim({xhci + "/2.1"}, vm1);
        host.use(xhci + "/2.1", uses);
        CHECK(host.changes.empty());
        CHECK(host.count(xhci) == 1);
        // and when the claim ends while it is still open, it is seen again
        host.release(decision.claims[0]);
        CHECK(host.count(xhci) == 1);
        CHECK(targets_of(host.claim({xhci + "/2.1"}, vm2)) == std::vector<std::string>{xhci + "/2.1 proc:812"});
    }
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

TEST_CASE("a function goes only with its IOMMU group and its companions") {
    Host host;
    ControllerFacts facts = usb_controller();
    facts.group = {{.path = "0000:00:14.2", .driver = "snd_hda_intel"},
                   {.path = "0000:00:1c.0", .driver = "pcieport", .bridge = true},
                   {.path = "0000:00:14.3", .driver = ""}};
    host.arbiter.put_controller(facts);
    ControllerFacts audio{.path = "0000:00:14.2", .kind = ControllerKind::other, .driver = "snd_hda_intel"};
    audio.iommu_group = 4;
    audio.group = {{.path = xhci, .driver = "xhci_hcd"}};
    host.arbiter.put_controller(audio);

    const auto alone = host.claim({"pci"}, vm1);
    CHECK(alone.verdict == Verdict::denied);
    CHECK(contains(alone.why, "--group"));
    REQUIRE(alone.blockers.size() == 1);
    CHECK(alone.blockers[0].target == "0000:00:14.2");

    Request together{.targets = host.arbiter.with_group(host.target("pci")), .holder = vm1};
    CHECK(together.targets.size() == 2);
    REQUIRE(host.arbiter.claim(together, at(0), host.changes).granted());
    CHECK_FALSE(host.claim({"pci"}, vm2).granted());

    SUBCASE("a function beside one that another machine has is refused") {
        host.release(host.arbiter.claims_on(host.target("pci"))[0]);
        const auto denied = host.claim({"pci"}, vm2);
        CHECK(denied.verdict == Verdict::denied);
        CHECK(contains(denied.why, vm1));
    }
}

TEST_CASE("companions on the same sockets go together") {
    Arbiter arbiter;
    ControllerFacts ehci = usb_controller("0000:00:1d.7");
    ehci.companions = {{.path = "0000:00:1d.0", .driver = "uhci_hcd"}};
    ControllerFacts uhci = usb_controller("0000:00:1d.0");
    uhci.iommu_group = 5;
    uhci.companions = {{.path = "0000:00:1d.7", .driver = "ehci-pci"}};
    arbiter.put_controller(ehci);
    arbiter.put_controller(uhci);
    Changes changes;
    const Target target = arbiter.resolve_pci("00:1d.7").target;
    const auto alone = arbiter.claim({.targets = {target}, .holder = "vm:a"}, at(0), changes);
    CHECK(alone.verdict == Verdict::denied);
    CHECK(contains(alone.blockers.at(0).reason, "companions"));
    SUBCASE("both are granted") {
        CHECK(arbiter.claim({.targets = arbiter.with_group(target), .holder = "vm:a"}, at(0), changes).granted());
    }
    SUBCASE("but not while a device on the companion is claimed") {
        arbiter.plug(device({.where = "00:1d.0/1"}), at(0));
        REQUIRE(
            arbiter.claim({.targets = {arbiter.resolve_usb("0000:00:1d.0/1").target}, .holder = "vm:b"}, at(0), changes)
                .granted());
        const auto denied = arbiter.claim({.targets = arbiter.with_group(target), .holder = "vm:a"}, at(0), changes);
        CHECK(denied.verdict == Verdict::denied);
        CHECK(targets_of(denied) == std::vector<std::string>{"0000:00:1d.0/1 vm:b"});
    }
}

TEST_CASE("what can never be passed through says why") {
    Arbiter arbiter;
    ControllerFacts elsewhere = usb_controller("platform/xhci-hcd.0");
    elsewhere.pci = false;
    arbiter.put_controller(elsewhere);
    ControllerFacts bridge = usb_controller("0000:00:1c.0");
    bridge.bridge = true;
    arbiter.put_controller(bridge);
    ControllerFacts no_iommu = usb_controller();
    no_iommu.iommu_group.reset();
    arbiter.put_controller(no_iommu);
    const auto why = [&](const std::string& path) {
        Socket place;
        place.controller = path;
        return arbiter.explain({.targets = {{.kind = ClaimKind::controller, .socket = place}}, .holder = "vm:a"});
    };
    CHECK(contains(why("platform/xhci-hcd.0").why, "not a PCI function"));
    CHECK(contains(why("0000:00:1c.0").why, "bridge"));
    CHECK(contains(why(xhci).why, "IOMMU"));
    CHECK(why("0000:09:00.0").verdict == Verdict::not_found);
    // a device on a controller that is not on PCI is claimed like any other
    arbiter.plug(device({.where = "platform/xhci-hcd.0/1"}), at(0));
    Changes changes;
    CHECK(
        arbiter
            .claim({.targets = {arbiter.resolve_usb("platform/xhci-hcd.0/1").target}, .holder = "vm:a"}, at(0), changes)
            .granted());
}

TEST_CASE("a disk in use on a host adapter stands in the way of its function") {
    Arbiter arbiter;
    ControllerFacts nvme{.path = "0000:01:00.0", .kind = ControllerKind::nvme, .driver = "nvme", .iommu_group = 9};
    arbiter.put_controller(nvme);
    Socket disk;
    disk.controller = "0000:01:00.0";
    disk.unit = "nvme0n1";
    arbiter.set_uses(
        disk, {{.kind = UseKind::swap, .text = "swap (nvme0n1p2)"}, {.kind = UseKind::node, .text = "node web1"}},
        at(3));
    CHECK(arbiter.counters() == std::map<std::string, uint32_t>{{"0000:01:00.0", 1}});
    CHECK(arbiter.counters() == arbiter.recount());
    const Target target = arbiter.resolve_pci("01:00.0").target;
    const auto denied = arbiter.explain({.targets = {target}, .holder = "vm:a"});
    CHECK(denied.blockers.size() == 2);
    CHECK(denied.blockers[0].reason == "swap (nvme0n1p2)");
    arbiter.replace_uses({}, at(4));
    CHECK(arbiter.explain({.targets = {target}, .holder = "vm:a"}).granted());
    CHECK(arbiter.counters().empty());
}

TEST_CASE("names of devices") {
    Host host;
    const auto socket_of = [&](const std::string& what) {
        const auto found = host.arbiter.resolve_usb(what);
        return found.verdict == Verdict::granted ? to_text(found.target.socket) : std::string(found.why);
    };
    CHECK(socket_of("1-2.1") == xhci + "/2.1");
    CHECK(socket_of("2-2.3") == xhci + "/2.3");
    CHECK(socket_of("00:14.0/2.1") == xhci + "/2.1");
    CHECK(socket_of("/dev/bus/usb/001/006") == xhci + "/2.2");
    CHECK(socket_of("usb1") == xhci);
    CHECK(socket_of("usb2") == xhci);
    CHECK(socket_of("/dev/bus/usb/002/001") == xhci);
    CHECK(socket_of("B") == xhci + "/2.2");
    CHECK(socket_of("1234:0b03") == xhci + "/2.4");
    // both halves of one hub are one thing
    CHECK(socket_of("1-2") == xhci + "/2");
    CHECK(socket_of("2-2") == xhci + "/2");
    const auto several = host.arbiter.resolve_usb("1234:0001");
    CHECK(several.verdict == Verdict::ambiguous);
    CHECK(several.candidates.size() == 5);
    for (const auto& nothing : {"1-9", "9-1", "dead:beef", "/dev/bus/usb/009/009", "0000:00:14.0/9", "usb9", "serial",
                                "0000:00:99.0/1", "/dev/bus/usb/x/y"}) {
        CAPTURE(nothing);
        CHECK(host.arbiter.resolve_usb(nothing).verdict == Verdict::not_found);
    }
    CHECK(host.arbiter.resolve_usb("").verdict == Verdict::invalid);
    CHECK(host.arbiter.resolve_pci("1-2").verdict == Verdict::invalid);
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

TEST_CASE("a refused function names its group also while something below is in use") {
    Host host;
    ControllerFacts facts = usb_controller();
    facts.group = {{.path = "0000:00:14.2", .driver = "snd_hda_intel"}};
    host.arbiter.put_controller(facts);
    REQUIRE(host.claim({xhci + "/3"}, vm1).granted());
    const auto denied = host.claim({"pci"}, vm2);
    CHECK(targets_of(denied) == std::vector<std::string>{xhci + "/3 " + vm1, "0000:00:14.2 "});
    facts.iommu_group.reset();
    facts.group.clear();
    host.arbiter.put_controller(facts);
    CHECK(targets_of(host.claim({"pci"}, vm2)) == std::vector<std::string>{xhci + " ", xhci + "/3 " + vm1});
}

TEST_CASE("what libvirt claimed is not to be released from under its machine") {
    Host host;
    Request request{.targets = {host.target(xhci + "/3")}, .holder = vm1, .origin = "libvirt"};
    REQUIRE(host.arbiter.claim(request, at(0), host.changes).granted());
    const auto denied = host.claim({xhci + "/3"}, vm2);
    CHECK(contains(denied.why, "shut vm:one down"));
    CHECK_FALSE(contains(denied.why, "storctl usb release"));
}

TEST_CASE("a device's own words are readable and move no cursor") {
    DeviceFacts facts;
    facts.identity = {.vendor_id = 0x46f4, .product_id = 1};
    facts.vendor = "QEMU";
    facts.product = "QEMU USB HARDDRIVE";
    CHECK(facts.description() == "46f4:0001 QEMU USB HARDDRIVE");
    facts.vendor = "\xe6\x97\xa5\xe7\xab\x8b";
    facts.product = "";
    CHECK(facts.description() == "46f4:0001 \xe6\x97\xa5\xe7\xab\x8b");
    facts.product = "a\x1b[2Jb\xc2\x9b\xff";
    CHECK(facts.description() == "46f4:0001 \xe6\x97\xa5\xe7\xab\x8b a\\x1b[2Jb\\xc2\\x9b\\xff");
    facts.product = "a\x1b[2Jb\xc2\x9bz\xc3\xa9";
    CHECK(facts.description() == "46f4:0001 \xe6\x97\xa5\xe7\xab\x8b a\\x1b[2Jb\\xc2\\x9bz\xc3\xa9");
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

TEST_CASE("what has not come back yet after a passthrough cannot be claimed") {
    Host host;
    const auto passed = host.claim({"pci"}, vm1);
    host.unplug(xhci + "/3");
    host.release(passed.claims[0]);
    CHECK(host.claim({xhci + "/3"}, vm2).verdict == Verdict::not_found);
    host.plug({.where = xhci + "/3", .serial = "E"});
    CHECK(host.claim({xhci + "/3"}, vm2).granted());
}

TEST_CASE("of two equal devices the one that is there is meant") {
    Host host;
    host.arbiter.put_controller(usb_controller("0000:05:00.0"));
    host.plug({.where = "0000:05:00.0/1", .product = 0x0b03});
    Socket away;
    away.controller = "0000:05:00.0";
    REQUIRE(
        host.arbiter
            .claim({.targets = {{.kind = ClaimKind::controller, .socket = away}}, .holder = vm1}, at(0), host.changes)
            .granted());
    CHECK(host.arbiter.resolve_usb("1234:0b03").verdict == Verdict::ambiguous);
    host.unplug("0000:05:00.0/1");
    CHECK(to_text(host.arbiter.resolve_usb("1234:0b03").target.socket) == xhci + "/2.4");
}

TEST_CASE("a disk that the host has mounted below an own hub is not taken") {
    Host host;
    REQUIRE(host.claim({xhci + "/2"}, vm1).granted());
    host.use(xhci + "/2.1", {{.kind = UseKind::mount, .text = "mounted on /srv (sda1)"}});
    const auto denied = host.claim({xhci + "/2.1"}, vm1);
    CHECK(denied.verdict == Verdict::denied);
    CHECK(contains(denied.why, "mounted on /srv (sda1)"));
    host.use(xhci + "/2.1", {{.kind = UseKind::open, .text = "opened by its machine", .pid = 7}});
    CHECK(host.claim({xhci + "/2.1"}, vm1).granted());
}

TEST_CASE("a provisional claim that is asked for again takes its time again") {
    Host host;
    Request request{.targets = {host.target(xhci + "/3")}, .holder = vm1, .provisional_until = at(120)};
    REQUIRE(host.arbiter.claim(request, at(0), host.changes).granted());
    request.provisional_until = at(200);
    REQUIRE(host.arbiter.claim(request, at(80), host.changes).granted());
    CHECK(host.arbiter.next_deadline() == at(200));
}

TEST_CASE("a release that failed says so, and how to go on") {
    Host host;
    const auto passed = host.claim({"pci"}, vm1);
    host.arbiter.begin_release(passed.claims[0], false);
    host.arbiter.set_phase(passed.claims[0], Phase::failed, "xhci_hcd did not take it back");
    const auto denied = host.claim({"pci"}, vm1);
    CHECK(contains(denied.why, "xhci_hcd did not take it back"));
    CHECK(contains(denied.why, "storctl pci release " + xhci));
}
