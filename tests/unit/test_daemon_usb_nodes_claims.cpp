// Nodes over USB devices that end, wait and come back with their claims, also over the end of stord.

#include "tests/unit/captured_log.hpp"
#include "tests/unit/run_sql.hpp"
#include "tests/unit/usb_node_host.hpp"

using namespace storctl;
using namespace storctl::test;
using namespace std::chrono_literals;

namespace {

const FakeNode open_node{.busy = true};

usbarb::ClaimRecord stored_claim(UsbNodeHost& host) { return host->db().claims()->at(0); }

}  // namespace

TEST_CASE("a release takes the node along, and drivers return only when nothing of it is left") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto dry = host->call("Release", {{"holder", "vm:web1"}, {"dry_run", true}});
    CHECK(dry.parameters["released"][0]["message"] == "node 'token' goes with it");
    CHECK(host.state("token") == "serving");
    bool gone_before = false;
    host.machine.before_job = [&](const Job& job) {
        if (job.action == Action::attach) gone_before = host.stored_nodes().empty() && !host.runs();
    };
    const auto released = host->call("Release", {{"targets", {ArbiterStand::usb("1-1")}}});
    REQUIRE_MESSAGE(released.error.empty(), released.parameters.dump());
    REQUIRE(released.parameters["released"].size() == 1);
    CHECK(released.parameters["released"][0]["message"] == "node 'token' went with it");
    CHECK(gone_before);
    CHECK(host.clean());
    CHECK(host->heard("node-removed") == 1);
}

TEST_CASE("while the node is open its claim is not released without force, and who has it is said") {
    UsbNodeHost host;
    host.behaviour["token"] = open_node;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    for (const bool dry_run : {true, false}) {
        const auto refused = host->call("Release", {{"holder", "vm:web1"}, {"dry_run", dry_run}});
        CHECK(refused.full_error == "io.storctl.Arbiter.Refused");
        const Json& blocker = refused.parameters["blockers"][0];
        CHECK(blocker["target"] == xhci + "/1");
        CHECK(blocker["holder"] == "proc:4711");
        CHECK(blocker["since"] == "2026-11-22T12:00:00Z");
        CHECK(blocker["reason"] == "node 'token' is open for write by qemu (pid 4711)");
    }
    CHECK(host.state("token") == "serving");
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host->call("Node.Remove", {{"name", "token"}}).full_error == "io.storctl.Node.Refused");
    CHECK(host->call("Release", {{"holder", "vm:web1"}, {"dry_run", true}, {"force", true}}).error.empty());
    CHECK(host.state("token") == "serving");
    CHECK(host->call("Release", {{"holder", "vm:web1"}, {"force", true}}).error.empty());
    CHECK(host.clean());
}

TEST_CASE("by force a node that does not answer is killed soon") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    REQUIRE(::kill(host.started[0], SIGSTOP) == 0);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(host->call("Release", {{"holder", "vm:web1"}, {"force", true}}).error.empty());
    CHECK(std::chrono::steady_clock::now() - begin < 15s);
    CHECK(host.clean());
}

TEST_CASE("what drivers say and the node that went are both told") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    REQUIRE(host->claim({"1-3"}, "vm:web1").error.empty());
    host.machine.failing[Action::attach] = "usb-storage does not come back";
    const auto released = host->call("Release", {{"holder", "vm:web1"}}).parameters["released"];
    REQUIRE(released.size() == 2);
    CHECK(released[0]["phase"] == "failed");
    CHECK(released[0]["message"] == "usb-storage does not come back; node 'token' went with it");
    CHECK(released[1]["message"] == "usb-storage does not come back");
}

TEST_CASE("by force nobody waits behind who tries without") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    host.nodes->set_settings({.start_timeout = 1h, .reply_timeout = 100ms});
    REQUIRE(::kill(host.started[0], SIGSTOP) == 0);
    const Json plain{{"holder", "vm:web1"}}, force{{"holder", "vm:web1"}, {"force", true}};
    const Json node{{"name", "token"}}, node_by_force{{"name", "token"}, {"force", true}};
    std::string first, second;
    Json with;
    SUBCASE("a release behind a release") { first = second = "Release", with = force; }
    SUBCASE("a release of what is named, which is gone by then") {
        first = second = "Release";
        with = {{"targets", {ArbiterStand::usb("1-1")}}, {"force", true}};
    }
    SUBCASE("a release behind a removal") { first = "Node.Remove", second = "Release", with = force; }
    SUBCASE("a removal behind a release") { first = "Release", second = "Node.Remove", with = node_by_force; }
    SUBCASE("a removal behind a removal") { first = second = "Node.Remove", with = node_by_force; }
    const auto waiting = host.begin(first, first == "Release" ? plain : node);
    REQUIRE(host->wait([&] { return host.nodes->busy("token"); }));
    CHECK(host->end(host.begin(second, with)).error.empty());
    CHECK(host->end(waiting).error.empty());
    CHECK(host->wait([&] { return host.clean(); }));
}

TEST_CASE("of several claims none is released when one has its node open, not even opened just now") {
    UsbNodeHost host;
    host.behaviour["open"] = {.busy = true, .hides_openers = true};
    host.start();
    REQUIRE(host.create("idle", "1-1").error.empty());
    REQUIRE(host.create("open", "1-3").error.empty());
    const auto refused = host->call("Release", {{"holder", "vm:web1"}});
    CHECK(refused.error == "Refused");
    CHECK(refused.parameters["blockers"][0]["reason"].get<std::string>().find("qemu") != std::string::npos);
    CHECK(host->stored().size() == 2);
    CHECK(host.stored_nodes() == Strings{"idle", "open"});
    CHECK(host->wait([&] { return host.state("idle") == "serving"; }));
    CHECK(host.state("open") == "serving");
}

TEST_CASE("two releases at once both end well") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto first = host.begin("Release", {{"holder", "vm:web1"}});
    const auto second = host.begin("Release", {{"holder", "vm:web1"}});
    const auto removed = host.begin("Node.Remove", {{"name", "token"}, {"force", true}});
    CHECK(host->end(first).error.empty());
    CHECK(host->end(second).error.empty());
    const auto last = host->end(removed);
    CHECK_MESSAGE((last.error.empty() || last.error == "NotFound" || last.error == "Failed"), last.parameters.dump());
    CHECK(host->wait([&] { return host.clean(); }));
}

TEST_CASE("while its device is away a node waits, and the same one in the same socket is opened again") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const Json before = host.show("token");
    host->unplug("1-1");
    REQUIRE(host->wait([&] { return host.nodes->describe("token")["usb"]["devnode"].is_null(); }));
    host->plug({.where = xhci + "/1", .serial = "TWO", .address = 8});
    const Json other = host.show("token");
    CHECK(other["usb"]["devnode"].is_null());
    CHECK(other["message"] == "another device is in its socket: 1234:0001");
    host->unplug("1-1");
    CHECK(host.show("token")["message"] == "");
    host->plug({.where = xhci + "/1", .serial = "ONE", .address = 9});
    REQUIRE(host->wait([&] { return host.nodes->describe("token")["backing"]["path"] == "/dev/bus/usb/001/009"; }));
    const Json after = host.show("token");
    CHECK(after["state"] == "serving");
    CHECK(after["usb"]["devnode"] == "/dev/bus/usb/001/009");
    CHECK(after["usb"]["minor"] == before["usb"]["minor"]);
    CHECK(after["pid"] == before["pid"]);
    CHECK(host.machine.driver_of("1-1") == "");
    CHECK(host->db().nodes()->at(0).backing_path == "/dev/bus/usb/001/009");
}

TEST_CASE("a device that is plugged in and cannot be used is shown as it is, with the reason") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    host->unplug("1-1");
    const std::string reason =
        "its device is plugged in, but the host's drivers could not be taken off: usb-storage hangs";
    SUBCASE("the process has not noticed that it went") {}
    SUBCASE("the process waits for it") {
        ::kill(host.started[0], SIGKILL);
        REQUIRE(host->wait([&] { return host.state("token") == "backing-lost"; }));
    }
    host.machine.failing[Action::detach] = "usb-storage hangs";
    host.machine.hold_jobs = true;
    host->plug({.where = xhci + "/1", .serial = "ONE", .address = 9});
    const Json moving = host.show("token");
    CHECK(moving["usb"]["devnode"] == "/dev/bus/usb/001/009");
    CHECK(moving["message"] == "its device is plugged in; the host's drivers are being taken off");
    host.machine.hold_jobs = false;
    host->kernel().finish_jobs();
    REQUIRE(host->wait([&] { return host.nodes->describe("token")["message"] == reason; }));
    CHECK(host.show("token")["usb"]["devnode"] == "/dev/bus/usb/001/009");
    // who follows the events is told as well
    CHECK(host->wait([&] {
        return std::any_of(host->events.begin(), host->events.end(), [&](const Event& event) {
            return event.event == "node-changed" && event.detail["message"] == reason;
        });
    }));
    host.machine.failing.clear();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    REQUIRE(host->wait([&] { return host.nodes->describe("token")["message"] == ""; }));
    CHECK(host->wait([&] { return host.state("token") == "serving"; }));
}

TEST_CASE("a device that does not return within the grace period ends its node, open or not") {
    UsbNodeHost host;
    host.behaviour["token"] = open_node;
    host.start({.grace = 0s});
    REQUIRE(host.create("token", "1-1").error.empty());
    host->unplug("1-1");
    CHECK(host->wait([&] { return host.stored_nodes().empty() && host->stored().empty(); }));
    CHECK(host->wait([&] { return !host.runs(); }));
    CHECK(host.nodes->describe_all().empty());
}

TEST_CASE("a node outlives stord, which finds it again with its claim") {
    UsbNodeHost host;
    host.behaviour["token"] = open_node;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const Json before = host.show("token");
    host.machine.jobs.clear();
    host.start();
    const Json after = host.show("token");
    CHECK(after["state"] == "serving");
    CHECK(after["pid"] == before["pid"]);
    CHECK(after["usb"] == before["usb"]);
    CHECK(host.started.size() == 1);
    CHECK(host.machine.jobs.empty());
    CHECK(host->call("Release", {{"holder", "vm:web1"}}).error == "Refused");
    CHECK(host->call("Release", {{"holder", "vm:web1"}, {"force", true}}).error.empty());
    CHECK(host.clean());
}

TEST_CASE("what a stord that was killed left half done is brought together by the next") {
    UsbNodeHost host;
    host.behaviour["token"] = open_node;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto claim = stored_claim(host);
    host.machine.jobs.clear();
    bool gone_before = false;  // outlives the subcase that sets it: more jobs come when the node is made again
    SUBCASE("the claim was there, its node not yet, or not any more") {
        REQUIRE(host->db().remove_node("token").has_value());
        ::kill(host.started[0], SIGKILL);
        host.start();
    }
    SUBCASE("the claim is gone, the node runs") {
        REQUIRE(host->db().change_claims({}, {claim.id}).has_value());
        host.machine.devices.at("/sys/1-1").interfaces[0].driver = "usb-storage";
        host.start();
    }
    SUBCASE("the claim was ending by itself, the node runs: it ends before drivers return") {
        auto ending = claim;
        ending.state = usbarb::ClaimState::releasing;
        REQUIRE(host->db().change_claims({ending}, {}).has_value());
        host.machine.before_job = [&](const Job&) { gone_before = host.stored_nodes().empty() && !host.runs(); };
        host.start();
        CHECK(host->wait([&] { return !host.machine.jobs.empty(); }));
        CHECK(host->wait([&] { return gone_before; }));
    }
    CHECK(host->wait([&] { return host.clean(); }));
    CHECK(host.create("token", "1-1").error.empty());
}

TEST_CASE("a claim that is ending already is not said to be released because it has no node") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    auto claim = stored_claim(host);
    bool said = false;
    SUBCASE("it ends") { claim.state = usbarb::ClaimState::releasing; }
    SUBCASE("it does not") { said = true; }
    REQUIRE(host->db().change_claims({claim}, {}).has_value());
    REQUIRE(host->db().remove_node("token").has_value());
    ::kill(host.started[0], SIGKILL);
    const CapturedLog log;
    host.start();
    CHECK(host->wait([&] { return host.clean(); }));
    CHECK(log.has("it was made for node 'token', which does not exist") == said);
}

TEST_CASE("a node that could not be ended with its claim is ended later, though nothing happens") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const std::string database = host.folder / "state.db";
    run_sql(database, "CREATE TRIGGER no BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'disk'); END");
    const CapturedLog log;
    CHECK(host->call("Release", {{"holder", "vm:web1"}, {"force", true}}).error.empty());
    CHECK(host->wait([&] { return log.has("could not be ended"); }));
    CHECK(host.stored_nodes() == Strings{"token"});
    const auto events = host->events.size();
    run_sql(database, "DROP TRIGGER no");
    CHECK(host->wait([&] { return host.clean(); }));
    REQUIRE(host->events.size() == events + 1);
    CHECK(host->events.back().event == "node-removed");
}

TEST_CASE("a claim that has the number of a node's is not taken for it") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto claim = stored_claim(host);
    auto other = claim;
    SUBCASE("it is of another device") {
        other.target = usbarb::testing::socket(xhci + "/3");
        other.identities = {};
        other.follow_socket = true;
        other.origin = "rule:1";
    }
    SUBCASE("it is another's") {
        other.holder = "vm:other";
        other.origin = "rule:1";
    }
    SUBCASE("it was not made for the node") { other.origin = "admin"; }
    REQUIRE(host->db().change_claims({other}, {}).has_value());
    host.start();
    CHECK(host->wait([&] { return host.stored_nodes().empty() && !host.runs(); }));
    REQUIRE(host->db().claims()->size() == 1);
    CHECK(stored_claim(host).target == other.target);
    CHECK(stored_claim(host).holder == other.holder);
    CHECK(stored_claim(host).state == usbarb::ClaimState::active);
}

TEST_CASE("a device is behind a node or open past it, whoever came first") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    SUBCASE("its holder has it open") {
        for (const auto kind : {UseKind::open, UseKind::usbfs}) {
            host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {
                {.kind = kind, .text = "opened by qemu (pid 812)", .pid = 812}};
            for (const bool dry_run : {true, false}) {
                const auto answer = host.create("token", "1-1", {{"dry_run", dry_run}});
                CHECK(answer.full_error == "io.storctl.Arbiter.Refused");
                CHECK(answer.parameters["blockers"][0]["holder"] == "proc:812");
            }
        }
        CHECK(host.stored_nodes().empty());
        host.machine.uses.clear();
        CHECK(host.create("token", "1-1").error.empty());
    }
    SUBCASE("it is being opened") {
        host.machine.hold_jobs = true;
        const size_t jobs = host.machine.jobs.size();
        const auto opened = host.begin("OpenDevice", {{"target", ArbiterStand::usb("1-1")}, {"holder", "vm:web1"}});
        REQUIRE(host->wait([&] { return host.machine.jobs.size() > jobs; }));
        const auto shown = host.create("token", "1-1", {{"dry_run", true}});
        CHECK(shown.error.empty());
        const auto made = host.begin_create("token", "1-1");
        CHECK(host->wait([&] { return host.usb->at(usbarb::testing::socket(xhci + "/1")).has_value(); }));
        host.machine.hold_jobs = false;
        host->kernel().finish_jobs();
        CHECK(host->end(opened).full_error == "io.storctl.Arbiter.Refused");
        CHECK(host->end(made).error.empty());
    }
    SUBCASE("libvirt would drive it") {
        REQUIRE(host.create("token", "1-1").error.empty());
        const auto claimed = host->claim({"1-1"}, "vm:web1", {{"keep_drivers", true}, {"origin", "libvirt"}});
        CHECK(claimed.full_error == "io.storctl.Arbiter.Refused");
        CHECK(claimed.parameters["message"].get<std::string>().find("behind node 'token'") != std::string::npos);
        CHECK(host->claim({"1-1"}, "vm:web1").error.empty());
    }
}

TEST_CASE("the number of a claim that a stored node knows is not given again") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto id = stored_claim(host).id;
    REQUIRE(host->db().change_claims({}, {id}).has_value());
    host.start();
    REQUIRE(host->claim({"1-3"}, "vm:other").error.empty());
    CHECK(stored_claim(host).id > id);
}

TEST_CASE("a node whose process was not there any more is started again, over the same device") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    const auto minor = host.show("token")["usb"]["minor"];
    host.kill_stord();
    ::kill(host.started[0], SIGKILL);
    ::waitpid(host.started[0], nullptr, 0);
    ::unlink(host.paths.socket("token").c_str());
    host.start();
    CHECK(host->wait([&] { return host.state("token") == "serving"; }));
    CHECK(host.show("token")["usb"]["minor"] == minor);
    CHECK(host.started.size() == 2);
}

TEST_CASE("the node's own process is no use that stands in anybody's way") {
    UsbNodeHost host;
    host.start();
    REQUIRE(host.create("token", "1-1").error.empty());
    CHECK(host.usb->devices() == std::map<std::string, std::string>{{"/dev/bus/usb/001/002", "token"}});
    const auto same = [&] { return NodeProcesses{.by_pid = {{host.started[0], "token"}}, .unknown = {}}; };
    CHECK(host.usb->processes() == same());
    REQUIRE(host->call("Explain", {{"target", ArbiterStand::usb("1-3")}}).error.empty());
    CHECK(host.machine.asked.processes == same());
    host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {
        {.kind = UseKind::node, .text = "behind node 'token'", .pid = 77}};
    const auto explained = host->call("Explain", {{"target", ArbiterStand::usb("1-1")}, {"holder", "vm:web1"}});
    CHECK(explained.parameters["granted"] == true);
    // drivers are taken off again at a restart although the node has the device
    host.machine.devices.at("/sys/1-1").interfaces[0].driver = "usb-storage";
    host.start();
    CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
    const auto events = host->events.size();
    CHECK(host->call("Release", {{"holder", "vm:web1"}}).error.empty());
    for (size_t i = events; i < host->events.size(); ++i) {
        CHECK(host->events[i].summary.find("seen:") == std::string::npos);
    }
}
