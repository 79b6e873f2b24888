// OpenDevice: who gets a claimed device's own node, and when.

#include "tests/unit/fake_arbiter_kernel.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

/// Devices in sockets 1 and 3, a hub in 2 with device 2.1.
struct Host : ArbiterHost {
    Host()
        : ArbiterHost({{.where = xhci + "/1", .serial = "ONE", .address = 2},
                       {.where = xhci + "/2", .hub = true, .address = 3},
                       {.where = xhci + "/2.1", .serial = "A", .address = 4},
                       {.where = xhci + "/3", .serial = "E", .address = 6}}) {
        start();
    }
    static Json wanted(const Json& target, Json more = Json::object()) {
        more["target"] = target;
        if (!more.contains("holder")) more["holder"] = "vm:web1";
        return more;
    }
    ArbiterStand::Answer open(const std::string& what, Json more = Json::object()) {
        return stand->call("OpenDevice", wanted(ArbiterStand::usb(what), std::move(more)));
    }
    void claim(const std::string& what, const Json& more = Json::object()) {
        const auto claimed = stand->claim({what}, "vm:web1", more);
        REQUIRE_MESSAGE(claimed.error.empty(), claimed.parameters.dump());
    }
    bool waits_for_jobs(size_t count) {
        return stand->wait([&] { return machine.jobs.size() == count; });
    }
};

bool says(const ArbiterStand::Answer& answer, const std::string& text) {
    return answer.parameters.value("message", "").find(text) != std::string::npos;
}

class OneNode final : public ClaimNodes {
 public:
    std::optional<std::string> over(usbarb::ClaimId claim) const override {
        return claim == served ? std::optional<std::string>("token") : std::nullopt;
    }
    std::optional<std::string> at(const usbarb::Socket& socket) const override {
        return socket == place ? std::optional<std::string>("token") : std::nullopt;
    }
    std::optional<Refusal> refusal(const std::vector<usbarb::ClaimId>&) const override { return std::nullopt; }
    void end(const std::vector<usbarb::ClaimId>&, bool, Ended done) override { done(std::nullopt); }
    void hurry(const std::vector<usbarb::ClaimId>&) override {}

    usbarb::ClaimId served = 0;
    std::optional<usbarb::Socket> place;
};

}  // namespace

TEST_CASE("the holder of a claim gets the device's own node, open") {
    Host host;
    host.claim("1-1");
    const size_t scans = host.machine.scans;
    const auto opened = host.open("1-1");
    REQUIRE_MESSAGE(opened.error.empty(), opened.parameters.dump());
    CHECK(opened.parameters["claim"]["target"] == xhci + "/1");
    CHECK(opened.parameters["claim"]["holder"] == "vm:web1");
    CHECK(opened.parameters["devnode"] == "/dev/bus/usb/001/002");
    CHECK(opened.parameters["descriptor"] == 0);
    CHECK(opened.descriptors.size() == 1);
    const Job& job = host.machine.jobs.back();
    CHECK(job.action == Action::open_device);
    CHECK(job.devices == std::vector<std::string>{"/sys/1-1"});
    CHECK(job.node->devnode == "/dev/bus/usb/001/002");
    CHECK_FALSE(job.node->interfaces);
    // what it does with the device is looked at like any other program's use
    CHECK(host->wait([&] { return host.machine.scans > scans; }));
    CHECK(host->claims() == std::vector<std::string>{xhci + "/1 vm:web1 active done"});
    CHECK(host->release("vm:web1").error.empty());
}

TEST_CASE("a descriptor can be restricted to interfaces") {
    Host host;
    host.claim("1-1");
    CHECK(host.open("1-1", {{"interfaces", {0, 2, 31}}}).descriptors.size() == 1);
    CHECK(host.machine.jobs.back().node->interfaces == std::vector<uint8_t>{0, 2, 31});
    for (const Json& wrong : {Json{32}, Json{-1}, Json{0, 4096}, Json(Json::array())}) {
        CAPTURE(wrong.dump());
        const auto answer = host.open("1-1", {{"interfaces", wrong}});
        CHECK(answer.error == "InvalidValue");
        CHECK(answer.parameters["parameter"] == "interfaces");
    }
    CHECK(host.machine.actions() == Actions{Action::detach, Action::open_device});
}

TEST_CASE("a device below the holder's own hub is opened too") {
    Host host;
    host.claim("1-2");
    const auto opened = host.open("1-2.1");
    REQUIRE_MESSAGE(opened.error.empty(), opened.parameters.dump());
    CHECK(opened.parameters["claim"]["target"] == xhci + "/2");
    CHECK(host.machine.jobs.back().devices == std::vector<std::string>{"/sys/1-2.1"});
    CHECK(host.open("1-2.1", {{"holder", "vm:other"}}).error == "Refused");
}

TEST_CASE("who does not hold the device does not get it") {
    Host host;
    host.claim("1-1");
    const size_t jobs = host.machine.jobs.size();
    const auto other = host.open("1-1", {{"holder", "vm:other"}});
    CHECK(other.error == "Refused");
    CHECK(says(other, xhci + "/1 is vm:web1's, not vm:other's"));
    CHECK(other.parameters["blockers"][0]["holder"] == "vm:web1");
    const auto nobody = host.open("1-3");
    CHECK(nobody.error == "Refused");
    CHECK(says(nobody, xhci + "/3 is not claimed"));
    CHECK(nobody.parameters["blockers"].empty());
    CHECK(host.open("1-9").error == "NotFound");
    CHECK(host.open("1-1", {{"holder", ""}}).error == "InvalidValue");
    const auto hub = host.open("1-2");
    CHECK(hub.error == "InvalidValue");
    CHECK(says(hub, "is a hub"));
    const auto function = host->call("OpenDevice", Host::wanted(ArbiterStand::pci(xhci)));
    CHECK(function.error == "InvalidValue");
    CHECK(host.machine.jobs.size() == jobs);
}

TEST_CASE("a provisional claim is no right yet, and a lost one none any more") {
    Host host;
    SUBCASE("provisional") {
        host.claim("1-1", {{"provisional", true}});
        const auto answer = host.open("1-1");
        CHECK(answer.error == "Refused");
        CHECK(says(answer, "it is provisional"));
        REQUIRE(host->call("Confirm", {{"holder", "vm:web1"}}).error.empty());
        CHECK(host.open("1-1").descriptors.size() == 1);
    }
    SUBCASE("lost") {
        host.claim("1-1");
        host->unplug("1-1");
        const auto answer = host.open(xhci + "/1");
        CHECK_FALSE(answer.error.empty());
        CHECK(answer.descriptors.empty());
    }
}

TEST_CASE("a device that a mediated node serves is not handed out past it") {
    Host host;
    host.claim("1-1");
    OneNode nodes;
    nodes.place = usbarb::testing::socket(xhci + "/1");
    nodes.served = host->call("Claims", Json::object()).parameters["claims"][0]["id"];
    host->service().set_claim_nodes(nodes);
    const auto answer = host.open("1-1");
    CHECK(answer.error == "Refused");
    CHECK(says(answer, "node 'token' serves it"));
    nodes.served = 0;
    nodes.place.reset();
    CHECK(host.open("1-1").descriptors.size() == 1);
}

TEST_CASE("opening waits for the claim's drivers, and a release waits for it") {
    Host host;
    host.machine.hold_jobs = true;
    const auto claiming = host->begin("Claim", ArbiterStand::claim_of({"1-1"}, "vm:web1"));
    REQUIRE(host.waits_for_jobs(1));
    auto client = host->connect();
    const auto opening = host->begin("OpenDevice", Host::wanted(ArbiterStand::usb("1-1")), client.get());
    auto third = host->connect();
    host->call("Claims", Json::object(), third.get());
    CHECK(host.machine.actions() == Actions{Action::detach});
    host->kernel().finish_jobs();
    CHECK(host->end(claiming).error.empty());
    REQUIRE(host.waits_for_jobs(2));
    CHECK(host.machine.actions() == Actions{Action::detach, Action::open_device});
    const auto releasing = host->begin("Release", {{"holder", "vm:web1"}});
    host->call("Claims", Json::object(), third.get());
    CHECK(host.machine.jobs.size() == 2);
    host->kernel().finish_jobs();
    CHECK(host->end(opening).descriptors.size() == 1);
    REQUIRE(host.waits_for_jobs(3));
    host->kernel().finish_jobs();
    CHECK(host->end(releasing).error.empty());
    CHECK(host.machine.actions() == Actions{Action::detach, Action::open_device, Action::attach});
}

TEST_CASE("nothing is handed out when opening fails, or the device goes meanwhile") {
    Host host;
    host.claim("1-1");
    SUBCASE("it cannot be opened") {
        host.machine.failing[Action::open_device] = "cannot open '/dev/bus/usb/001/002': no reason";
        const auto answer = host.open("1-1");
        CHECK(answer.error == "Failed");
        CHECK(says(answer, "no reason"));
        CHECK(answer.descriptors.empty());
    }
    SUBCASE("it goes") {
        host.machine.hold_jobs = true;
        const auto opening = host->begin("OpenDevice", Host::wanted(ArbiterStand::usb("1-1")));
        REQUIRE(host.waits_for_jobs(2));
        host->unplug("1-1");
        host->kernel().finish_jobs();
        const auto answer = host->end(opening);
        CHECK(answer.error == "Failed");
        CHECK(says(answer, "has ended meanwhile"));
        CHECK(answer.descriptors.empty());
    }
}
