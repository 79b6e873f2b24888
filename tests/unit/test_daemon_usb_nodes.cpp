// Nodes over USB devices being made and removed.

#include "tests/unit/run_sql.hpp"
#include "tests/unit/usb_node_host.hpp"

using namespace storctl;
using namespace storctl::test;

TEST_CASE("a node is made together with its claim, and its removal brings the drivers back") {
    UsbNodeHost host;
    const std::string syspath = host.folder / "1-1";
    REQUIRE(make_directories(syspath).has_value());
    REQUIRE(write_file_atomic(syspath + "/descriptors", std::string("\x12\x01\xff\x00", 4), 0600, false).has_value());
    auto facts = host.machine.devices.extract("/sys/1-1");
    facts.mapped().interfaces.push_back({.number = 1, .device_class = 3, .driver = "usbhid"});
    facts.key() = facts.mapped().syspath = syspath;
    host.machine.devices.insert(std::move(facts));
    host.start();
    const auto made = host.create("token", "1-1", {{"interfaces", {1, 0}}, {"deny", {"reset"}}, {"reason", "a test"}});
    REQUIRE_MESSAGE(made.error.empty(), made.parameters.dump());
    const Json& node = made.parameters["node"];
    CHECK(node["kind"] == "usb");
    CHECK(node["state"] == "serving");
    CHECK(node["open"] == "single-writer");
    CHECK(node["backing"]["kind"] == "usb");
    CHECK(node["backing"]["path"] == "/dev/bus/usb/001/002");
    CHECK(node["usb"]["socket"] == xhci + "/1");
    CHECK(node["usb"]["holder"] == "vm:web1");
    CHECK(node["usb"]["own_claim"] == true);
    CHECK(node["usb"]["devnode"] == "/dev/bus/usb/001/002");
    CHECK(node["usb"]["major"] == 189);
    CHECK(node["usb"]["minor"] == 8192);
    CHECK(node["usb"]["interfaces"] == Json({0, 1}));
    CHECK(node["usb"]["deny"] == Json({"reset"}));
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK((*host->db().claims())[0].origin == "node:token");
    CHECK((*host->db().claims())[0].reason == "a test");
    CHECK(host->heard("node-added") == 1);
    const auto spec = node::Spec::load(host.paths.spec("token"));
    REQUIRE(spec.has_value());
    CHECK(spec->kind == node::NodeKind::usb);
    CHECK(spec->usb.device_name == "storctl/usb/token");
    CHECK(spec->usb.major == 189);
    CHECK(spec->usb.minor == 8192);
    CHECK(spec->usb.policy.interfaces == std::set<uint8_t>{0, 1});
    CHECK(spec->usb.descriptors == std::vector<uint8_t>{0x12, 0x01, 0xff, 0x00});
    CHECK(spec->wait_for_backing);

    const auto second = host.create("other", "1-3");
    CHECK(second.parameters["node"]["usb"]["minor"] == 8193);
    CHECK(second.parameters["node"]["usb"]["deny"] == Json({"firmware"}));
    CHECK(second.parameters["node"]["usb"]["interfaces"].is_null());

    CHECK(host->call("Node.Remove", {{"name", "token"}}).error.empty());
    CHECK(host.stored_nodes() == Strings{"other"});
    CHECK(host->stored() == Strings{xhci + "/3 vm:web1 active done"});
    CHECK(host->heard("node-removed") == 1);
    // the number is free again
    CHECK(host.create("third", "1-2.1").parameters["node"]["usb"]["minor"] == 8192);
}

TEST_CASE("a claim that the holder has already is used, and stays when the node is removed") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    const auto made = host.create("token", "1-1");
    REQUIRE_MESSAGE(made.error.empty(), made.parameters.dump());
    CHECK(made.parameters["node"]["usb"]["own_claim"] == false);
    CHECK(made.parameters["warnings"].size() == 1);
    CHECK(host->call("Node.Remove", {{"name", "token"}}).error.empty());
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host.machine.actions() == Actions{Action::detach});
}

TEST_CASE("what cannot be a node over a device is refused, and nothing has changed") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("taken", "1-3").error.empty());
    REQUIRE(host->claim({"1-2.1"}, "vm:other", {{"keep_drivers", true}, {"origin", "libvirt"}}).error.empty());
    const auto claims = host->stored();
    struct Row {
        const char* name;
        std::string node, target;
        Json more;
        std::string error, says;
    };
    const Row rows[] = {
        {"a name that is none", "a b", "1-1", {}, "Node.InvalidValue", "name"},
        {"a name that there is", "taken", "1-1", {}, "Node.AlreadyExists", "taken"},
        {"a device that has a node", "new", "1-3", {}, "Node.Refused", "behind node 'taken'"},
        {"an open policy that is none", "new", "1-1", {{"open", "often"}}, "Node.InvalidValue", "single-writer"},
        {"reading only", "new", "1-1", {{"open", "read-only"}}, "Node.InvalidValue", "descriptors"},
        {"no interface at all", "new", "1-1", {{"interfaces", Json::array()}}, "Node.InvalidValue", "at least one"},
        {"an interface beyond a byte", "new", "1-1", {{"interfaces", {256}}}, "Node.InvalidValue", "0 to 255"},
        {"an interface that it does not have", "new", "1-1", {{"interfaces", {0, 7}}}, "Node.InvalidValue", "but 0"},
        {"the same, only tried", "new", "1-1", {{"interfaces", {7}}, {"dry_run", true}}, "Node.InvalidValue", "but 0"},
        {"a denial that is none", "new", "1-1", {{"deny", {"speed"}}}, "Node.InvalidValue", "firmware"},
        {"a holder that is none", "new", "1-1", {{"holder", "me"}}, "Node.InvalidValue", "holder"},
        {"the host itself", "new", "1-1", {{"holder", "host"}}, "Node.InvalidValue", "vm:NAME"},
        {"a reason of two lines", "new", "1-1", {{"reason", "a\nb"}}, "Node.InvalidValue", "reason"},
        {"a hub", "new", "1-2", {}, "Node.InvalidValue", "hub"},
        {"a whole bus", "new", "usb1", {}, "Node.InvalidValue", "hub"},
        {"what is not there", "new", "1-4", {}, "Arbiter.NotFound", "1-4"},
        {"what is not one device", "new", "1234:0001", {}, "Arbiter.Ambiguous", "1-1"},
        {"what another has", "new", "1-2.1", {}, "Arbiter.Refused", "vm:other"},
        {"what libvirt drives", "new", "1-2.1", {{"holder", "vm:other"}}, "Node.Refused", "libvirt"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto answer = host.create(row.node, row.target, row.more.is_null() ? Json::object() : row.more);
            CHECK(answer.full_error == "io.storctl." + row.error);
            CHECK_MESSAGE(answer.parameters.dump().find(row.says) != std::string::npos, answer.parameters.dump());
            CHECK(host->stored() == claims);
            CHECK(host.stored_nodes() == Strings{"taken"});
            // and nothing of it is remembered
            CHECK(host.create("new", "1-1").error.empty());
        }
    }
}

TEST_CASE("interfaces of another configuration than the present one may be asked for") {
    UsbNodeHost host;
    const std::string syspath = host.folder / "1-1";
    REQUIRE(make_directories(syspath).has_value());
    const std::string device("\x12\x01\x00\x02\x00\x00\x00\x40\x34\x12\x01\x00\x00\x01\x00\x00\x00\x01", 18);
    const std::string configuration("\x09\x02\x12\x00\x01\x02\x00\x80\x32\x09\x04\x05\x00\x00\xff\x00\x00\x00", 18);
    REQUIRE(write_file_atomic(syspath + "/descriptors", device + configuration, 0600, false).has_value());
    auto facts = host.machine.devices.extract("/sys/1-1");
    facts.key() = facts.mapped().syspath = syspath;
    host.machine.devices.insert(std::move(facts));
    host.start();
    CHECK(host.create("token", "1-1", {{"interfaces", {7}}}).error == "InvalidValue");
    const auto made = host.create("token", "1-1", {{"interfaces", {5}}});
    CHECK_MESSAGE(made.error.empty(), made.parameters.dump());
}

TEST_CASE("a dry run makes every check and nothing else") {
    UsbNodeHost host;
    host.start();
    const auto shown = host.create("token", "1-1", {{"dry_run", true}});
    REQUIRE_MESSAGE(shown.error.empty(), shown.parameters.dump());
    CHECK(shown.parameters["node"]["usb"]["claim"] == 0);
    CHECK(shown.parameters["node"]["usb"]["own_claim"] == true);
    CHECK(shown.parameters["node"]["usb"]["socket"] == xhci + "/1");
    CHECK(host.clean());
    CHECK(host.machine.jobs.empty());
    host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {{.kind = UseKind::mount, .text = "mounted on /srv"}};
    CHECK(host.create("token", "1-1", {{"dry_run", true}}).full_error == "io.storctl.Arbiter.Refused");
}

TEST_CASE("whatever fails on the way, neither claim nor node is left") {
    UsbNodeHost host;
    host.start();
    SUBCASE("what is used is not known") {
        host.machine.fail_scans = true;
        CHECK(host.create("token", "1-1").error == "Failed");
    }
    SUBCASE("the drivers") {
        host.machine.failing[Action::detach] = "it hangs";
        const auto answer = host.create("token", "1-1");
        CHECK(answer.error == "Failed");
        CHECK(answer.parameters["message"] == "it hangs");
    }
    SUBCASE("the node's record") {
        run_sql(host.folder / "state.db",
                "CREATE TRIGGER no BEFORE INSERT ON node BEGIN SELECT RAISE(ABORT, 'disk'); END");
        CHECK(host.create("token", "1-1").error == "Failed");
    }
    SUBCASE("the node's process, with its own sentence") {
        host.behaviour["token"] = {.exit_at_once = 1, .last_words = "there is no /dev/cuse"};
        const auto answer = host.create("token", "1-1");
        CHECK(answer.full_error == "io.storctl.Node.Failed");
        CHECK(answer.parameters["message"] == "node 'token' could not be started: there is no /dev/cuse");
    }
    SUBCASE("the node's process, because somebody has the device") {
        host.behaviour["token"] = {.exit_at_once = node::exit_refused, .last_words = "it is held"};
        CHECK(host.create("token", "1-1").full_error == "io.storctl.Node.Refused");
    }
    SUBCASE("the device goes while its drivers are taken off") {
        host.machine.hold_jobs = true;
        const auto pending = host.begin_create("token", "1-1");
        REQUIRE(host->wait([&] { return !host.machine.jobs.empty(); }));
        const auto facts = host.machine.devices.at("/sys/1-1");
        host->unplug("1-1");
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        CHECK(host->end(pending).error == "Failed");
        CHECK(host->wait([&] { return host->stored().empty(); }));
        host.machine.devices["/sys/1-1"] = facts;
    }
    CHECK(host.clean());
    CHECK(::access(host.paths.spec("token").c_str(), F_OK) != 0);
}

TEST_CASE("where drivers stay off after releases, they come back after a node that failed, and not after its removal") {
    UsbNodeHost host;
    host.start({.return_drivers = false});
    host.behaviour["token"] = {.exit_at_once = 1, .last_words = "no"};
    CHECK(host.create("token", "1-1").error == "Failed");
    CHECK(host.clean());
    REQUIRE(host.create("other", "1-1").error.empty());
    CHECK(host->call("Node.Remove", {{"name", "other"}}).error.empty());
    CHECK(host->stored().empty());
    CHECK(host.machine.driver_of("1-1") == "");
}

TEST_CASE("a removal says what did not come back") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    REQUIRE(host.create("quiet", "1-3").error.empty());
    CHECK(host->call("Node.Remove", {{"name", "quiet"}}).parameters["warnings"] == Json::array());
    host.machine.failing[Action::attach] = "usb-storage does not come back";
    const auto removed = host->call("Node.Remove", {{"name", "token"}});
    REQUIRE(removed.error.empty());
    REQUIRE(removed.parameters["warnings"].size() == 1);
    CHECK(removed.parameters["warnings"][0].get<std::string>().find("does not come back") != std::string::npos);
    CHECK(host.stored_nodes().empty());
    CHECK(host->stored().empty());
}

TEST_CASE("a node whose record cannot be deleted stays, and so does its claim") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const std::string database = host.folder / "state.db";
    run_sql(database, "CREATE TRIGGER no BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'disk'); END");
    CHECK(host->call("Node.Remove", {{"name", "token"}}).error == "Failed");
    CHECK(host->wait([&] { return host.state("token") == "serving"; }));
    CHECK(host->call("Release", {{"holder", "vm:web1"}}).error == "Failed");
    CHECK(host->wait([&] { return host.state("token") == "serving"; }));
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host.machine.driver_of("1-1") == "");
    run_sql(database, "DROP TRIGGER no");
    CHECK(host->call("Node.Remove", {{"name", "token"}}).error.empty());
    CHECK(host.clean());
}

TEST_CASE("a claim that was there before survives a node that could not be started") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    host.behaviour["token"] = {.exit_at_once = 1, .last_words = "no"};
    CHECK(host.create("token", "1-1").error == "Failed");
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host.stored_nodes().empty());
}

TEST_CASE("of two requests at once exactly one is granted") {
    UsbNodeHost host;
    host.start();
    SUBCASE("for one device") {
        const auto first = host.begin_create("one", "1-1"), second = host.begin_create("two", "1-1");
        CHECK(host->end(first).error.empty());
        const auto late = host->end(second);
        CHECK(late.full_error == "io.storctl.Node.Refused");
        CHECK(late.parameters["message"].get<std::string>().find("behind node 'one'") != std::string::npos);
        CHECK(host.stored_nodes() == Strings{"one"});
    }
    SUBCASE("for one name") {
        const auto first = host.begin_create("one", "1-1"), second = host.begin_create("one", "1-3");
        CHECK(host->end(first).error.empty());
        CHECK(host->end(second).error == "AlreadyExists");
        CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    }
    SUBCASE("also when a third that was refused had the first one's name") {
        host.machine.hold_jobs = true;
        const auto first = host.begin_create("one", "1-1");
        REQUIRE(host->wait([&] { return !host.machine.jobs.empty(); }));
        CHECK(host.create("one", "1-3").error == "AlreadyExists");
        const auto third = host.create("two", "1-1");
        CHECK(third.full_error == "io.storctl.Node.Refused");
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        CHECK(host->end(first).error.empty());
        CHECK(host.stored_nodes() == Strings{"one"});
    }
    SUBCASE("for one name, by a disk in between") {
        host.machine.hold_jobs = true;
        const auto usb = host.begin_create("one", "1-1");
        REQUIRE(host->wait([&] { return !host.machine.jobs.empty(); }));
        const std::string image = host.folder / "image";
        REQUIRE(write_file_atomic(image, std::string(4096, 'x'), 0600, false).has_value());
        CHECK(host->call("Node.Create", {{"name", "one"}, {"device", image}}).error.empty());
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        CHECK(host->end(usb).error == "AlreadyExists");
        CHECK(host->wait([&] { return host->stored().empty(); }));
        const Json disk = host.show("one");
        CHECK(disk["kind"] == "block");
        CHECK(disk["usb"].is_null());
    }
}

TEST_CASE("a release while the node is being made has the device back, whoever comes first") {
    UsbNodeHost host;
    host.start();
    host.machine.hold_jobs = true;
    const auto made = host.begin_create("token", "1-1");
    REQUIRE(host->wait([&] { return !host.machine.jobs.empty(); }));
    const auto released = host.begin("Release", {{"holder", "vm:web1"}});
    host.machine.hold_jobs = false;
    host->kernel().finish_jobs();
    CHECK(host->end(released).error.empty());
    const auto answer = host->end(made);
    CHECK_MESSAGE((answer.error.empty() || answer.error == "Failed"), answer.parameters.dump());
    CHECK(host->wait([&] { return host.clean(); }));
}
