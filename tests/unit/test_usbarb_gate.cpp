// What stands in the way of a claim, what a name means, and what is said about it.

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/usbarb_host.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using namespace storctl::usbarb::testing;

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

TEST_CASE("what the host uses is not taken off its drivers for the host itself") {
    Host host;
    host.use(xhci + "/2.1", {{.kind = UseKind::mount, .text = "mounted on /srv (sda1)"}}, 7);
    const auto decision = host.claim({xhci + "/2.1"}, "host");
    CHECK(decision.verdict == Verdict::denied);
    REQUIRE(decision.blockers.size() == 1);
    CHECK(decision.blockers[0].reason == "mounted on /srv (sda1)");
    SUBCASE("but it may say that it keeps it") {
        const Request keeping{.targets = {host.target(xhci + "/2.1")}, .holder = "host", .keep_drivers = true};
        CHECK(host.arbiter.claim(keeping, at(8), host.changes).granted());
        CHECK(host.consistent());
    }
    SUBCASE("and have it once it is not used any more") {
        host.use(xhci + "/2.1", {});
        CHECK(host.claim({xhci + "/2.1"}, "host").granted());
    }
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

TEST_CASE("a release that failed says so, and how to go on") {
    Host host;
    const auto passed = host.claim({"pci"}, vm1);
    host.arbiter.begin_release(passed.claims[0], false);
    host.arbiter.set_phase(passed.claims[0], Phase::failed, "xhci_hcd did not take it back");
    const auto denied = host.claim({"pci"}, vm1);
    CHECK(contains(denied.why, "xhci_hcd did not take it back"));
    CHECK(contains(denied.why, "storctl pci release " + xhci));
}
