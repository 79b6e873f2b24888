#include <sqlite3.h>

#include "tests/unit/fake_arbiter_kernel.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

/// Devices in sockets 1 and 3, a hub in 2 with devices 2.1 and 2.2.
struct Host : ArbiterHost {
    Host()
        : ArbiterHost({{.where = xhci + "/1", .serial = "ONE", .address = 2},
                       {.where = xhci + "/2", .hub = true, .address = 3},
                       {.where = xhci + "/2.1", .serial = "A", .address = 4},
                       {.where = xhci + "/2.2", .serial = "B", .address = 5},
                       {.where = xhci + "/3", .serial = "E", .address = 6}}) {
        start();
    }
    bool idle() { return stand->stored().empty() && stand->claims().empty(); }
};

std::string blockers(const ArbiterStand::Answer& answer) {
    std::string out;
    for (const auto& blocker : answer.parameters.value("blockers", Json::array())) {
        out += blocker["target"].get<std::string>() + " " + blocker["holder"].get<std::string>() + ";";
    }
    return out;
}

}  // namespace

TEST_CASE("a claim is recorded, takes the host's drivers off, and is answered; its release brings all back") {
    Host host;
    const auto claimed = host->claim({"1-1"}, "vm:web1", {{"reason", "a test"}});
    REQUIRE_MESSAGE(claimed.error.empty(), claimed.parameters.dump());
    const Json& claim = claimed.parameters["claims"][0];
    CHECK(claim["target"] == xhci + "/1");
    CHECK(claim["phase"] == "done");
    CHECK(claim["counted"].size() == 2);
    CHECK(host.machine.driver_of("1-1") == "");
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host->heard("claim-added") == 1);

    const auto released = host->call("Release", {{"targets", {ArbiterStand::usb("1-1")}}});
    REQUIRE_MESSAGE(released.error.empty(), released.parameters.dump());
    CHECK(released.parameters["released"].size() == 1);
    CHECK(host.machine.driver_of("1-1") == "usb-storage");
    CHECK(host.idle());
    CHECK(host.machine.actions() == Actions{Action::detach, Action::attach});
    CHECK(host->heard("claim-removed") == 1);
}

TEST_CASE("with keep_drivers, and in a dry run, no driver is touched") {
    Host host;
    const auto dry = host->claim({"1-1"}, "vm:web1", {{"dry_run", true}});
    CHECK(dry.parameters["claims"][0]["id"].is_null());
    CHECK(host.idle());
    const auto kept = host->claim({"1-1"}, "vm:web1", {{"keep_drivers", true}});
    CHECK(kept.parameters["claims"][0]["phase"] == "none");
    const auto refused = host->claim({"1-1"}, "vm:other", {{"dry_run", true}});
    CHECK(refused.error == "Refused");
    CHECK(host->release("vm:web1").parameters["released"].size() == 1);
    CHECK(host.machine.jobs.empty());
    CHECK(host.idle());
}

TEST_CASE("the same holder asking again gets the claim that it has, once counted") {
    Host host;
    const auto first = host->claim({"1-1"}, "vm:web1");
    const auto second = host->claim({"1-1"}, "vm:web1");
    CHECK(second.parameters["claims"][0]["id"] == first.parameters["claims"][0]["id"]);
    CHECK(second.parameters["warnings"].size() == 1);
    CHECK(host->stored().size() == 1);
    CHECK(host.machine.actions() == Actions{Action::detach});
}

TEST_CASE("an answer tells the claims that it made from those that were there") {
    Host host;
    const auto first = host->claim({"1-1"}, "vm:web1").parameters;
    CHECK(first["earlier"] == Json::array());
    const Json held = Json::array({first["claims"][0]["id"]});
    const Json dry = host->claim({"1-3", "1-1"}, "vm:web1", {{"dry_run", true}}).parameters;
    CHECK(dry["claims"].size() == 2);
    CHECK(dry["earlier"] == held);
    const Json both = host->claim({"1-3", "1-1"}, "vm:web1").parameters;
    CHECK(both["claims"].size() == 2);
    CHECK(both["earlier"] == held);
    CHECK(host->release("vm:web1").parameters["released"].size() == 2);
    CHECK(host->claim({"1-1"}, "vm:web1").parameters["earlier"] == Json::array());
    Json absent = ArbiterStand::claim_of({"1-9"}, "vm:web1");
    absent["targets"][0]["optional"] = true;
    CHECK(host->call("Claim", absent).parameters.value("earlier", Json()) == Json::array());
}

TEST_CASE("a refusal lists what is in the way and changes nothing") {
    Host host;
    REQUIRE(host->claim({"1-2.1"}, "vm:web1").error.empty());
    const auto before = host->stored();
    struct Row {
        const char* name;
        Strings what;
        std::string blockers;
    };
    const Row rows[] = {
        {"a device that another holds", {"1-2.1"}, xhci + "/2.1 vm:web1;"},
        {"a hub above it", {"1-2"}, xhci + "/2.1 vm:web1;"},
        {"the controller above it", {"pci"}, xhci + "/2.1 vm:web1;"},
        {"several of which one is taken: none is given", {"1-1", "1-2.1", "1-3"}, xhci + "/2.1 vm:web1;"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto answer = host->claim(row.what, "vm:other");
            CHECK(answer.error == "Refused");
            CHECK(blockers(answer) == row.blockers);
            CHECK(host->stored() == before);
            CHECK(host.machine.jobs.size() == 1);
        }
    }
}

TEST_CASE("what the host uses at the moment of the request counts, though nothing told of it") {
    Host host;
    host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {
        {.kind = UseKind::mount, .text = "mounted on /srv (sda1)"}};
    for (const std::string what : {"1-1", "usb1", "pci"}) {
        const auto answer = host->claim({what}, "vm:web1");
        CHECK(answer.error == "Refused");
        CHECK(answer.parameters["blockers"][0]["reason"] == "mounted on /srv (sda1)");
    }
    host.machine.uses.clear();
    CHECK(host->claim({"1-1"}, "vm:web1").error.empty());
}

TEST_CASE("a node that is made while use is being looked at stands in the way of its disk") {
    Host host;
    std::map<std::string, std::string> nodes;
    host->service().set_nodes([&nodes] { return nodes; });
    host.machine.disks["sda"] = usbarb::testing::socket(xhci + "/1");
    host.machine.during_scan = [&nodes] { nodes["sda"] = "web1"; };
    const auto answer = host->claim({"1-1"}, "vm:web1");
    CHECK(answer.error == "Refused");
    CHECK(answer.parameters["blockers"][0]["reason"] == "behind node web1");
    CHECK(host.machine.jobs.empty());
}

TEST_CASE("what is used is looked at again when a node has got another process meanwhile") {
    Host host;
    NodeProcesses processes{.by_pid = {{811, "web1"}}, .unknown = {}};
    host->service().set_node_processes([&processes] { return processes; });
    host.machine.during_scan = [&processes] { processes.by_pid = {{812, "web1"}}; };
    const size_t scans = host.machine.scans;
    CHECK(host->claim({"1-1"}, "vm:web1").error.empty());
    CHECK(host.machine.scans == scans + 2);
    CHECK(host.machine.asked.processes == processes);
}

TEST_CASE("when it cannot be found out what is used, nothing is given") {
    Host host;
    host.machine.fail_scans = true;
    const auto answer = host->claim({"1-1"}, "vm:web1");
    CHECK(answer.error == "Failed");
    CHECK(answer.parameters["message"].get<std::string>().find("no scan") != std::string::npos);
    CHECK(host.idle());
    CHECK(host->service().findings().size() == 1);
}

TEST_CASE("what the kernel does not carry out is undone whole, and said") {
    Host host;
    host.machine.failing[Action::bind_vfio] = "0000:01:00.0: cannot bind";
    host.machine.controllers["0000:01:00.0"] = {
        .path = "0000:01:00.0", .kind = usbarb::ControllerKind::network, .driver = "e1000e", .iommu_group = 7};
    host->service().rescan().value();
    Json request = ArbiterStand::claim_of({"1-1"}, "vm:web1");
    request["targets"].push_back(ArbiterStand::pci("01:00.0"));
    const auto answer = host->call("Claim", request);
    CHECK(answer.error == "Failed");
    CHECK(answer.parameters["message"].get<std::string>().find("cannot bind") != std::string::npos);
    CHECK(host.machine.driver_of("1-1") == "usb-storage");
    CHECK(host.idle());
    CHECK(host->service().counts().total == 0);
    // and both are free again
    host.machine.failing.clear();
    CHECK(host->call("Claim", request).error.empty());
}

TEST_CASE("a claim that cannot be stored is not made") {
    Host host;
    host->db().change_claims({}, {}).value();
    REQUIRE(host->claim({"1-3"}, "vm:web1").error.empty());
    sqlite3* raw = nullptr;
    REQUIRE(sqlite3_open((host.folder / "state.db").c_str(), &raw) == SQLITE_OK);
    REQUIRE(sqlite3_exec(raw, "CREATE TRIGGER no BEFORE INSERT ON claim BEGIN SELECT RAISE(FAIL, 'disk full'); END",
                         nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(raw);
    const auto answer = host->claim({"1-1"}, "vm:web2");
    CHECK(answer.error == "Failed");
    CHECK(answer.parameters["message"].get<std::string>().find("disk full") != std::string::npos);
    CHECK(host->claims().size() == 1);
    CHECK(host.machine.driver_of("1-1") == "usb-storage");
    CHECK(host->heard("claim-added") == 1);
}

TEST_CASE("a release of somebody else's claim is refused; of nothing it is no error for a holder") {
    Host host;
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    const Json of_other{{"targets", {ArbiterStand::usb("1-1")}}, {"holder", "vm:other"}};
    const auto foreign = host->call("Release", of_other);
    CHECK(foreign.error == "Refused");
    CHECK(foreign.parameters["message"].get<std::string>().find("vm:web1") != std::string::npos);
    CHECK(host->stored().size() == 1);
    CHECK(host->release("vm:other").parameters["released"].empty());
    CHECK(host->call("Release", {{"targets", {ArbiterStand::usb("1-3")}}, {"holder", "vm:other"}}).error.empty());
    CHECK(host->call("Release", {{"targets", {ArbiterStand::usb("1-3")}}}).error == "NotFound");
    CHECK(host->call("Release", {{"targets", {ArbiterStand::usb("#99")}}}).error == "NotFound");
    CHECK(host->call("Release", Json::object()).error == "InvalidValue");
    const auto dry = host->call("Release", {{"targets", {ArbiterStand::usb("#1")}}, {"dry_run", true}});
    CHECK(dry.parameters["released"].size() == 1);
    CHECK(host->call("Release", {{"targets", {ArbiterStand::usb("#1")}}}).parameters["released"].size() == 1);
    CHECK(host.idle());
}

TEST_CASE("a release while the claim is still being brought about waits for that") {
    Host host;
    host.machine.hold_jobs = true;
    const auto other = host->connect();
    const auto claim = host->begin("Claim", ArbiterStand::claim_of({"1-1"}, "vm:web1"));
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 1; }));
    const auto release = host->begin("Release", {{"holder", "vm:web1"}}, other.get());
    // another client's question is answered after it has been looked at
    const auto third = host->connect();
    for (int i = 0; i < 3; ++i) host->end(host->begin("Claims", Json::object(), third.get()));
    CHECK(host.machine.jobs.size() == 1);
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active pending"});
    host.machine.hold_jobs = false;
    host->kernel().finish_jobs();
    CHECK(host->end(claim).error.empty());
    CHECK(host->end(release).parameters["released"].size() == 1);
    CHECK(host.machine.actions() == Actions{Action::detach, Action::attach});
    CHECK(host.idle());
}

TEST_CASE("a client that goes away before its answer leaves a claim that stands") {
    Host host;
    host.machine.hold_jobs = true;
    auto leaving = host->connect();
    host->begin("Claim", ArbiterStand::claim_of({"1-1"}, "vm:web1"), leaving.get());
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 1; }));
    leaving.reset();
    host.machine.hold_jobs = false;
    host->kernel().finish_jobs();
    REQUIRE(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    CHECK(host->release("vm:web1").parameters["released"].size() == 1);
}

TEST_CASE("a controller is given with what is known of its devices; they are waited for at its return") {
    Host host;
    const auto claimed = host->claim({"pci"}, "vm:web1");
    REQUIRE_MESSAGE(claimed.error.empty(), claimed.parameters.dump());
    host->service().rescan().value();
    const Json inventory = host->call("Inventory", Json::object()).parameters;
    REQUIRE(inventory["devices"].size() == 5);
    for (const auto& device : inventory["devices"]) CHECK(device["present"] == false);
    const auto refused = host->claim({"1-1"}, "vm:other");
    CHECK(refused.error == "Refused");
    CHECK(blockers(refused) == xhci + " vm:web1;");

    host.machine.devices_return_late = true;
    const auto release = host->begin("Release", {{"holder", "vm:web1"}});
    REQUIRE(host->wait([&] { return host->stored().empty(); }));
    CHECK(host.machine.controllers[xhci].driver == "xhci_hcd");
    const auto other = host->connect();
    for (int i = 0; i < 3; ++i) host->end(host->begin("Claims", Json::object(), other.get()));
    CHECK_FALSE(release->has_value());
    host.machine.devices.merge(host.machine.behind_vfio);
    host->service().rescan().value();
    CHECK(host->end(release).error.empty());
    CHECK(host->claim({"1-1"}, "vm:other").error.empty());
}

TEST_CASE("a function that cannot be given back stays claimed, releasing, until it can") {
    Host host;
    REQUIRE(host->claim({"pci"}, "vm:web1").error.empty());
    host.machine.failing[Action::return_functions] = "a virtual machine holds it";
    const auto failed = host->release("vm:web1");
    CHECK(failed.error == "Failed");
    CHECK(host->stored() == Strings{xhci + " vm:web1 releasing failed"});
    CHECK(host->claim({"pci"}, "vm:web2").error == "Refused");
    CHECK(host->service().findings().size() == 1);
    host.machine.failing.clear();
    CHECK(host->release("vm:web1").error.empty());
    CHECK(host.idle());
}

TEST_CASE("a provisional claim ends by itself unless it is confirmed") {
    Host host;
    host.start({.settings = {.provisional_timeout = std::chrono::seconds(1)}, .boot_id = "boot-1"});
    const Json provisional{{"provisional", true}, {"origin", "libvirt"}};
    CHECK(host->claim({"1-1"}, "vm:web1", provisional).parameters["claims"][0]["state"] == "provisional");
    REQUIRE(host->claim({"1-3"}, "vm:web2", provisional).error.empty());
    CHECK(host->call("Confirm", {{"holder", "vm:web2"}, {"origin", "admin"}}).parameters["claims"].empty());
    CHECK(host->call("Confirm", {{"holder", "vm:web2"}}).parameters["claims"][0]["state"] == "active");
    REQUIRE(host->wait([&] { return host->stored() == Strings{xhci + "/3 vm:web2 active done"}; }));
    CHECK(host->wait([&] { return host.machine.driver_of("1-1") == "usb-storage"; }));
}

TEST_CASE("an unplugged device's claim is lost, and restored with its drivers off when the same one returns") {
    Host host;
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    host->unplug("1-1");
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 lost done"});
    CHECK(host->heard("claim-lost") == 1);
    CHECK(host->heard("usb-removed") == 1);
    CHECK(host->service().counts().lost == 1);
    host->plug({.where = xhci + "/1", .serial = "ANOTHER", .address = 7});
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 lost done"});
    host->unplug("1-1");
    host->plug({.where = xhci + "/1", .serial = "ONE", .address = 8});
    CHECK(host->heard("claim-restored") == 1);
    REQUIRE(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
    REQUIRE(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    // a driver that binds itself again is sent off again
    host.machine.devices.at("/sys/1-1").interfaces[0].driver = "uas";
    host->plug_again("1-1");
    CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
    host->unplug("1-1");
    CHECK(host->release("vm:web1").parameters["released"].size() == 1);
    CHECK(host.idle());
}

TEST_CASE("a claim of a device that does not return within the grace period ends") {
    Host host;
    host.start({.settings = {.grace = std::chrono::seconds(1)}, .boot_id = "boot-1"});
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    host->unplug("1-1");
    CHECK(host->wait([&] { return host->stored().empty(); }));
    CHECK(host->heard("claim-removed") == 1);
}

TEST_CASE("explain says the same as a claim would, and changes nothing") {
    Host host;
    const auto free = host->call("Explain", {{"target", ArbiterStand::usb("1-2")}});
    CHECK(free.parameters["granted"] == true);
    CHECK(free.parameters["kind"] == "hub");
    REQUIRE(host->claim({"1-2.1"}, "vm:web1").error.empty());
    const auto denied = host->call("Explain", {{"target", ArbiterStand::usb("1-2")}, {"holder", "vm:other"}});
    CHECK(denied.parameters["granted"] == false);
    CHECK(denied.parameters["blockers"].size() == 1);
    CHECK(denied.parameters["claims"].size() == 1);
    CHECK(host->call("Explain", {{"target", ArbiterStand::usb("1-9")}}).error == "NotFound");
    CHECK(host->stored().size() == 1);
}

TEST_CASE("what makes no sense is refused by the parameter's name") {
    Host host;
    struct Row {
        const char* name;
        Json parameters;
        const char* parameter;
    };
    const Json good = ArbiterStand::claim_of({"1-1"}, "vm:web1");
    const auto with = [&](const char* key, Json value) {
        Json out = good;
        out[key] = std::move(value);
        return out;
    };
    const Row rows[] = {
        {"a holder that is none", with("holder", "web1"), "holder"},
        {"an origin that is none", with("origin", "rule:1"), "origin"},
        {"a reason of two lines", with("reason", "a\nb"), "reason"},
        {"no targets", with("targets", Json::array()), "targets"},
        {"a bus that is none", with("targets", {{{"bus", "isa"}, {"what", "1"}}}), "bus"},
        {"a PCI address that is none", with("targets", {ArbiterStand::pci("14.0")}), "what"},
        {"too many targets", with("targets", Json(std::vector<Json>(257, ArbiterStand::usb("1-1")))), "targets"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto answer = host->call("Claim", row.parameters);
            CHECK(answer.error == "InvalidValue");
            CHECK(answer.parameters["parameter"] == row.parameter);
        }
    }
    CHECK(host->claim({"1-9"}, "vm:web1").error == "NotFound");
    const auto both = host->claim({"1234:0001"}, "vm:web1");
    CHECK(both.error == "Ambiguous");
    CHECK(both.parameters["candidates"].size() == 5);
    Json optional = ArbiterStand::claim_of({"1-9"}, "vm:web1");
    optional["targets"][0]["optional"] = true;
    CHECK(host->call("Claim", optional).parameters["claims"].empty());
    CHECK(host.idle());
}

TEST_CASE("a device that goes and returns while it is taken off the host's drivers is taken off again") {
    Host host;
    host.machine.hold_jobs = true;
    const auto claim = host->begin("Claim", ArbiterStand::claim_of({"1-1"}, "vm:web1"));
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 1; }));
    host->unplug("1-1");
    SUBCASE("it is back by then") {
        host->kernel().finish_jobs();
        host->plug({.where = xhci + "/1", .serial = "ONE", .address = 40});
        REQUIRE(host->end(claim).error.empty());
        host.machine.devices.at("/sys/1-1").interfaces[0].driver = "usb-storage";
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
        CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    }
    SUBCASE("it is still away: the request has failed, and nothing is claimed") {
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        const auto answer = host->end(claim);
        CHECK(answer.error == "Failed");
        CHECK(host->claims().empty());
        CHECK(host->stored().empty());
    }
}

TEST_CASE("a function that is left without a driver is free all the same, and its release says so") {
    Host host;
    REQUIRE(host->claim({"pci"}, "vm:web1").error.empty());
    host.machine.notes[Action::return_functions] = xhci + " has no driver any more";
    const auto released = host->release("vm:web1");
    REQUIRE(released.error.empty());
    CHECK(released.parameters["released"][0]["message"] == xhci + " has no driver any more");
    CHECK(host->claims().empty());
}

TEST_CASE("a function that could not be given back when its request failed stays claimed") {
    Host host;
    REQUIRE(host->claim({"1-3"}, "vm:web1").error.empty());
    host.machine.failing[Action::detach] = "no";
    host.machine.failing[Action::return_functions] = "a virtual machine holds it";
    host.machine.controllers["0000:00:15.0"] = usbarb::testing::usb_controller("0000:00:15.0");
    host->service().rescan().value();
    Json wanted = ArbiterStand::claim_of({"1-1"}, "vm:web2");
    wanted["targets"].push_back(ArbiterStand::pci("0000:00:15.0"));
    CHECK(host->call("Claim", wanted).error == "Failed");
    CHECK(host->claims() == Strings{xhci + "/3 vm:web1 active done", "0000:00:15.0 vm:web2 releasing failed"});
    host.machine.failing.clear();
    CHECK(host->release("vm:web2").error.empty());
    CHECK(host->claims().size() == 1);
}

TEST_CASE("a provisional claim whose device is open is taken for confirmed when its time is over") {
    Host host;
    host.start({.settings = {.provisional_timeout = std::chrono::seconds(1)}, .boot_id = "boot-1"});
    const Json provisional{{"provisional", true}, {"origin", "libvirt"}, {"keep_drivers", true}};
    REQUIRE(host->claim({"1-1"}, "vm:web1", provisional).error.empty());
    REQUIRE(host->claim({"1-3"}, "vm:web2", provisional).error.empty());
    host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {{.kind = UseKind::open, .text = "open by pid 7"}};
    CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active none"}; }));
}
