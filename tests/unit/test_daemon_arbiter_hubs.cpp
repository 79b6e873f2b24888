// What is plugged in below held hubs, and rules.

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/fake_arbiter_kernel.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

/// A hub in socket 2 with a device in 2.1 and a hub in 2.4 with a device in 2.4.1; a device in socket 3.
struct Host : ArbiterHost {
    Host()
        : ArbiterHost({{.where = xhci + "/2", .hub = true, .address = 3},
                       {.where = xhci + "/2.1", .serial = "A", .address = 4},
                       {.where = xhci + "/2.4", .hub = true, .address = 5},
                       {.where = xhci + "/2.4.1", .serial = "D", .address = 6},
                       {.where = xhci + "/3", .serial = "E", .address = 7}}) {
        start();
    }
    std::vector<Job> jobs_since(size_t first) const {
        return {machine.jobs.begin() + static_cast<ptrdiff_t>(first), machine.jobs.end()};
    }
};

std::string text(const usbarb::HubPorts& hub) { return fmt::format("{}:{}", hub.devnode, fmt::join(hub.ports, ",")); }

Strings texts(const std::vector<usbarb::HubPorts>& hubs) {
    Strings out;
    for (const auto& hub : hubs) out.push_back(text(hub));
    return out;
}

}  // namespace

TEST_CASE("a hub claim holds every port that has no hub in it, of all hubs below, and detaches their devices") {
    Host host;
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    REQUIRE(host.machine.jobs.size() == 1);
    const Job& job = host.machine.jobs[0];
    CHECK(job.action == Action::hold_hub);
    CHECK(texts(job.hubs) == Strings{"/dev/bus/usb/001/003:1,2,3", "/dev/bus/usb/001/005:1,2,3,4"});
    CHECK(job.devices == Strings{"/sys/1-2.1", "/sys/1-2.4.1"});
    CHECK(host.machine.driver_of("1-2.1") == "");
    REQUIRE(host->release("vm:web1").error.empty());
    CHECK(host.machine.driver_of("1-2.4.1") == "usb-storage");
    CHECK(host.machine.driver_of("1-3") == "usb-storage");
}

TEST_CASE("a device plugged in below a held hub is configured without drivers; a hub works and is held as well") {
    Host host;
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    DeviceFacts& plugged = host.machine.put({.where = xhci + "/2.2", .serial = "NEW", .address = 8});
    plugged.configured = false;
    plugged.interfaces.clear();
    host->plug_again("1-2.2");
    REQUIRE(host->wait([&] { return host.machine.devices.at("/sys/1-2.2").configured; }));
    CHECK(host.machine.jobs.back().action == Action::configure);
    host->plug_again("1-2.2");
    CHECK(host.machine.jobs.size() == 2);

    DeviceFacts& hub = host.machine.put({.where = xhci + "/2.3", .hub = true, .address = 9});
    hub.configured = false;
    hub.ports = 0;
    host->plug_again("1-2.3");
    REQUIRE(host->wait([&] { return host.machine.devices.at("/sys/1-2.3").configured; }));
    const Job& freed = host.machine.jobs.back();
    CHECK(freed.action == Action::free_port);
    CHECK(texts(freed.hubs) == Strings{"/dev/bus/usb/001/003:3"});
    host.machine.devices.at("/sys/1-2.3").ports = 4;
    host->plug_again("1-2.3");
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 4; }));
    CHECK(host.machine.jobs.back().action == Action::hold_hub);
    CHECK(texts(host.machine.jobs.back().hubs) == Strings{"/dev/bus/usb/001/009:1,2,3,4"});

    // its port is held again once the hub is gone
    REQUIRE(host->wait([&] { return host->claims().size() == 1; }));
    host->unplug("1-2.3");
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 5; }));
    CHECK(texts(host.machine.jobs.back().hubs) == Strings{"/dev/bus/usb/001/003:3"});
    const Json device = host->call("Inventory", Json::object()).parameters;
    for (const auto& one : device["devices"]) {
        if (one["kernel_name"] == "1-2.2") CHECK(one["holder"] == "vm:web1");
    }
}

TEST_CASE("a device that is claimed itself below an own hub stays off the host's drivers when the hub is released") {
    Host host;
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    const auto covered = host->claim({"1-2.1"}, "vm:web1");
    CHECK(covered.parameters["claims"][0]["covered"] == true);
    CHECK(covered.parameters["claims"][0]["counted"].empty());
    REQUIRE(host->call("Release", {{"targets", {ArbiterStand::usb("1-2")}}}).error.empty());
    CHECK(host.machine.driver_of("1-2.1") == "");
    CHECK(host.machine.driver_of("1-2.4.1") == "usb-storage");
    CHECK(host->stored() == Strings{xhci + "/2.1 vm:web1 active done"});
    REQUIRE(host->release("vm:web1").error.empty());
    CHECK(host.machine.driver_of("1-2.1") == "usb-storage");
}

TEST_CASE("the name under which a held hub is stored says everything about it") {
    const usbarb::HubPorts hub{.devnode = "/dev/bus/usb/001/023", .ports = {1, 2, 31}};
    const std::string name = stored_name(12, hub);
    CHECK(name == "hub-12-001-023-80000006");
    const auto stored = parse_stored_name(name);
    REQUIRE(stored.has_value());
    CHECK(stored->claim == 12);
    CHECK(stored->hub.devnode == hub.devnode);
    CHECK(stored->hub.ports == hub.ports);
    for (const char* wrong :
         {"", "hub", "hub-x-1-2-3", "hub-1-1-1", "hub-1-1-1-1-1", "node-1-1-1-1", "hub-1-99999-1-1"}) {
        CAPTURE(wrong);
        CHECK_FALSE(parse_stored_name(wrong).has_value());
    }
}

TEST_CASE("held hubs are put into the service manager's store and taken out at the release") {
    Host host;
    const UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const std::string path = host.folder / "notify";
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    const auto told = [&] {
        char text[256];
        const ssize_t got = ::recv(manager.get(), text, sizeof text, 0);
        return got > 0 ? std::string(text, static_cast<size_t>(got)) : "";
    };
    CHECK(told() == "FDSTORE=1\nFDNAME=hub-1-001-003-0000000e");
    CHECK(told() == "FDSTORE=1\nFDNAME=hub-1-001-005-0000001e");
    REQUIRE(host->release("vm:web1").error.empty());
    CHECK(told() == "FDSTOREREMOVE=1\nFDNAME=hub-1-001-003-0000000e");
    CHECK(told() == "FDSTOREREMOVE=1\nFDNAME=hub-1-001-005-0000001e");
    ::unsetenv("NOTIFY_SOCKET");
}

TEST_CASE("a hub's ports are given back by its release, before devices are, and only then out of the store") {
    Host host;
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    REQUIRE(host->release("vm:web1").error.empty());
    REQUIRE(host.machine.actions() == Actions{Action::hold_hub, Action::attach});
    CHECK(texts(host.machine.jobs[1].hubs) == Strings{"/dev/bus/usb/001/003:1,2,3", "/dev/bus/usb/001/005:1,2,3,4"});
    CHECK(host.machine.files_in[1] == 2);

    // also with nothing to attach
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    REQUIRE(host->call("Release", {{"holder", "vm:web1"}, {"keep_off", true}}).error.empty());
    CHECK(host.machine.jobs.back().devices.empty());
    CHECK(host.machine.files_in.back() == 2);
}

TEST_CASE("what comes below a held hub is configured whoever has claimed it") {
    Host host;
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    REQUIRE(host->claim({"1-2.1"}, "vm:web1", {{"keep_drivers", true}}).error.empty());
    host->unplug("1-2.1");
    DeviceFacts& back = host.machine.put({.where = xhci + "/2.1", .serial = "A", .address = 20});
    back.configured = false;
    back.interfaces.clear();
    host->plug_again("1-2.1");
    CHECK(host->wait([&] { return host.machine.devices.at("/sys/1-2.1").configured; }));
}

TEST_CASE("a hub that goes and returns while its ports are being held is held where it is now") {
    Host host;
    host.machine.hold_jobs = true;
    const auto claim = host->begin("Claim", ArbiterStand::claim_of({"1-2"}, "vm:web1"));
    REQUIRE(host->wait([&] { return host.machine.jobs.size() == 1; }));
    for (const char* name : {"1-2.4.1", "1-2.4", "1-2.1", "1-2"}) host->unplug(name);
    host->plug({.where = xhci + "/2", .hub = true, .address = 30});
    host.machine.hold_jobs = false;
    host->kernel().finish_jobs();
    REQUIRE(host->end(claim).error.empty());
    CHECK(host->wait([&] {
        return std::any_of(host.machine.jobs.begin(), host.machine.jobs.end(), [](const Job& job) {
            return job.action == Action::hold_hub && texts(job.hubs) == Strings{"/dev/bus/usb/001/030:1,2,3,4"};
        });
    }));
    REQUIRE(host->release("vm:web1").error.empty());
    // the file of the hub that went is not kept
    CHECK(texts(host.machine.jobs.back().hubs) == Strings{"/dev/bus/usb/001/030:1,2,3,4"});
}

// ---- rules

TEST_CASE("a rule claims when a device is plugged in, once udev has settled it, and not what is there already") {
    Host host;
    const auto added =
        host->call("AddRule", {{"vendor_id", "1234"}, {"product_id", "0001"}, {"serial", "E"}, {"holder", "vm:web1"}});
    REQUIRE_MESSAGE(added.error.empty(), added.parameters.dump());
    const auto id = added.parameters["rule"]["id"].get<int>();
    CHECK(added.parameters["rule"]["created_by"].get<std::string>().find("uid") != std::string::npos);
    host->plug_again("1-3");
    CHECK(host->claims().empty());
    host->unplug("1-3");
    host->plug({.where = xhci + "/3", .serial = "E", .address = 8}, false);
    CHECK(host->claims().empty());
    host->plug_again("1-3");
    REQUIRE(host->wait([&] { return host->stored() == Strings{xhci + "/3 vm:web1 active done"}; }));
    CHECK((*host->db().claims())[0].origin == fmt::format("rule:{}", id));
    // given back by hand, it is not taken again before the next plug
    REQUIRE(host->release("vm:web1").error.empty());
    host->plug_again("1-3");
    CHECK(host->claims().empty());
    host->unplug("1-3");
    host->plug({.where = xhci + "/3", .serial = "E", .address = 9});
    REQUIRE(host->wait([&] { return host->stored().size() == 1; }));

    REQUIRE(host->call("RemoveRule", {{"id", id}}).error.empty());
    CHECK(host->call("RemoveRule", {{"id", id}}).error == "RuleNotFound");
    CHECK(host->call("ListRules", Json::object()).parameters["rules"].empty());
    CHECK(host->stored().size() == 1);
}

TEST_CASE("a rule by socket follows whatever comes back there") {
    Host host;
    REQUIRE(host->call("AddRule", {{"socket", xhci + "/1"}, {"holder", "vm:web1"}}).error.empty());
    host->plug({.where = xhci + "/1", .serial = "NORMAL", .address = 8});
    REQUIRE(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    host->unplug("1-1");
    host->plug({.where = xhci + "/1", .product = 0x0dfe, .serial = "FIRMWARE", .address = 9});
    REQUIRE(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
    CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    CHECK(host->heard("claim-restored") == 1);
}

TEST_CASE("a rule whose claim is refused says so everywhere, once, and not again until the next plug") {
    Host host;
    REQUIRE(host->call("AddRule", {{"vendor_id", "1234"}, {"holder", "vm:web1"}}).error.empty());
    host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {
        {.kind = UseKind::mount, .text = "mounted on /srv (sdb1)"}};
    host->plug({.where = xhci + "/1", .serial = "X", .address = 8});
    REQUIRE(host->wait([&] { return host->heard("rule-failed") == 1; }));
    REQUIRE(host->service().findings().size() == 1);
    CHECK(host->service().findings()[0].find("mounted on /srv") != std::string::npos);
    host.machine.uses.clear();
    host->plug_again("1-1");
    CHECK(host->claims().empty());
    CHECK(host->heard("rule-failed") == 1);
    host->unplug("1-1");
    CHECK(host->service().findings().empty());
    host->plug({.where = xhci + "/1", .serial = "X", .address = 9});
    CHECK(host->wait([&] { return host->stored().size() == 1; }));
}

TEST_CASE("rules that make no sense are refused") {
    Host host;
    struct Row {
        const char* name;
        Json rule;
        const char* parameter;  ///< that is wrong
    };
    const Row rows[] = {
        {"nothing to match", {{"holder", "vm:web1"}}, "socket"},
        {"a product without its vendor", {{"holder", "vm:web1"}, {"product_id", "0001"}}, "product_id"},
        {"an id that is no hexadecimal number", {{"holder", "vm:web1"}, {"vendor_id", "12g4"}}, "vendor_id"},
        {"an id that is too short", {{"holder", "vm:web1"}, {"vendor_id", "1"}}, "vendor_id"},
        {"a class that is none", {{"holder", "vm:web1"}, {"device_class", 256}}, "device_class"},
        {"a socket that is none", {{"holder", "vm:web1"}, {"socket", "1-1"}}, "socket"},
        {"a socket that is a controller", {{"holder", "vm:web1"}, {"socket", xhci}}, "socket"},
        {"an empty serial number", {{"holder", "vm:web1"}, {"socket", xhci + "/1"}, {"serial", " "}}, "serial"},
        {"a holder that is none", {{"holder", "web1"}, {"vendor_id", "1234"}}, "holder"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto answer = host->call("AddRule", row.rule);
            CHECK(answer.error == "InvalidValue");
            CHECK(answer.parameters["parameter"] == row.parameter);
            CHECK(host->db().usb_rules()->empty());
        }
    }
}

TEST_CASE("after a restart rules run for what was plugged in meanwhile only") {
    Host host;
    REQUIRE(host->call("AddRule", {{"vendor_id", "1234"}, {"holder", "vm:web1"}}).error.empty());
    host.machine.put({.where = xhci + "/1", .serial = "NEW", .address = 8});
    std::set<std::string> seen{xhci + "/2 /dev/bus/usb/001/003", xhci + "/2.1 /dev/bus/usb/001/004",
                               xhci + "/2.4 /dev/bus/usb/001/005", xhci + "/2.4.1 /dev/bus/usb/001/006",
                               xhci + "/3 /dev/bus/usb/001/007"};
    host.start({.boot_id = "boot-1", .seen_plugs = seen});
    CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
}

TEST_CASE("rules wait for udev with what an enumeration finds") {
    Host host;
    REQUIRE(host->call("AddRule", {{"vendor_id", "1234"}, {"holder", "vm:web1"}}).error.empty());
    host.machine.put({.where = xhci + "/1", .serial = "NEW", .address = 8});
    host.machine.unsettled = {"/sys/1-1"};
    SUBCASE("while stord runs") { REQUIRE(host->kernel().rescan()); }
    SUBCASE("at its start") {
        host.start({.boot_id = "boot-1",
                    .seen_plugs = {xhci + "/2 /dev/bus/usb/001/003", xhci + "/2.1 /dev/bus/usb/001/004",
                                   xhci + "/2.4 /dev/bus/usb/001/005", xhci + "/2.4.1 /dev/bus/usb/001/006",
                                   xhci + "/3 /dev/bus/usb/001/007"}});
    }
    // this one's claim would come after the other's
    REQUIRE(host->claim({"1-3"}, "vm:web2").error.empty());
    CHECK(host->stored() == Strings{xhci + "/3 vm:web2 active done"});
    host->plug_again("1-1");
    CHECK(host->wait([&] { return host->stored().size() == 2; }));
}

TEST_CASE("an enumeration that could not read something keeps what was known of it") {
    Host host;
    REQUIRE(host->claim({"1-3"}, "vm:web1").error.empty());
    REQUIRE(host->kernel().rescan());
    const auto before = host->call("Inventory", Json::object()).parameters;
    SUBCASE("a device") { host.machine.unreadable = {"/sys/1-3", "/sys/1-99"}; }
    SUBCASE("a controller") { host.machine.unreadable = {xhci}; }
    SUBCASE("everything") {
        host.machine.unreadable = {xhci};
        for (const auto& [path, device] : host.machine.devices) host.machine.unreadable.insert(path);
    }
    REQUIRE(host->kernel().rescan());
    CHECK(host->call("Inventory", Json::object()).parameters == before);
    CHECK(host->heard("usb-removed") == 0);
    // what can be read again and is not there has gone
    host.machine.unreadable.clear();
    host.machine.devices.erase("/sys/1-3");
    REQUIRE(host->kernel().rescan());
    CHECK(host->heard("usb-removed") == 1);
}

TEST_CASE("a function's return runs the rules for its devices again, whichever comes first") {
    Host host;
    REQUIRE(host->claim({"pci"}, "vm:web1").error.empty());
    host->service().rescan().value();
    REQUIRE(host->call("AddRule", {{"serial", "E"}, {"holder", "vm:web2"}}).error.empty());
    SUBCASE("the devices are plugged in after the function is free") {
        REQUIRE(host->release("vm:web1").error.empty());
        CHECK(host->stored().empty());
        host->plug_again("1-3");
    }
    SUBCASE("a device is plugged in while its function is still being given back") {
        host.machine.hold_jobs = true;
        const auto release = host->begin("Release", {{"holder", "vm:web1"}});
        REQUIRE(host->wait([&] { return host.machine.actions().back() == Action::return_functions; }));
        host.machine.devices.merge(host.machine.behind_vfio);
        host->plug_again("1-3");
        REQUIRE(host->wait([&] { return host->heard("rule-failed") == 1; }));
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        REQUIRE(host->end(release).error.empty());
    }
    CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/3 vm:web2 active done"}; }));
}
