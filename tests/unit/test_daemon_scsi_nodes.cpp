// Nodes over disks with a SCSI generic device, as io.storctl.Node makes, shows and removes them.

#include "tests/unit/usb_node_host.hpp"

using namespace storctl;
using namespace storctl::test;
using Registration = node::scsi::Registration;

namespace {

struct Host : UsbNodeHost {
    Host() {
        devices.devices = {{.id = "naa5.5000c500a1b2c3d4",
                            .name = "sda",
                            .devnode = "/dev/sda",
                            .size_bytes = 1 << 30,
                            .product = {.vendor = "ATA", .model = "ST4000", .serial = "ZDH1", .revision = "SC60"},
                            .identifiers = {{locality::IdType::naa5, "5000c500a1b2c3d4"}}},
                           {.id = "path.b", .name = "sdb", .devnode = "/dev/sdb", .size_bytes = 1 << 30}};
    }
    void have_cuse() { REQUIRE(write_file_atomic(folder / "cuse", "").has_value()); }
    ArbiterStand::Answer create_disk(const std::string& name, const std::string& device, Json more = Json::object()) {
        more["name"] = name;
        more["device"] = device;
        return stand->end(begin("Node.Create", std::move(more)));
    }
    ArbiterStand::Answer remove(const std::string& name) {
        return stand->end(begin("Node.Remove", {{"name", name}, {"force", true}}));
    }
    node::Spec spec(const std::string& name) {
        auto out = node::Spec::load(paths.spec(name));
        REQUIRE_MESSAGE(out, out.error().message());
        return *out;
    }
};

const Registration by_host{{"alpha:host", 1}, 0xabc};

}  // namespace

TEST_CASE("a disk where CUSE is gets a SCSI generic device with the device's identity, for as long as it exists") {
    Host host;
    host.have_cuse();
    host.start();
    const auto made = host.create_disk("web1", "sda");
    REQUIRE_MESSAGE(made.error.empty(), made.parameters.dump());
    CHECK(made.parameters["node"]["sg"] == true);
    CHECK(made.parameters["node"]["reservations"] == node::reservations_json({}));
    REQUIRE(host.create_disk("web2", "sdb", {{"sg", true}}).error.empty());
    const auto first = host.spec("web1"), second = host.spec("web2");
    REQUIRE(first.sg.has_value());
    CHECK(first.sg->device_name == "storctl/sg/web1");
    CHECK(first.sg->minor == 40000);
    CHECK_FALSE(first.sg->required);
    CHECK(first.host == "alpha");
    CHECK(first.identity.product == "ST4000");
    CHECK(first.identity.naa == node::scsi::Bytes{0x50, 0, 0xc5, 0, 0xa1, 0xb2, 0xc3, 0xd4});
    REQUIRE(second.sg.has_value());
    CHECK(second.sg->minor == 40001);
    CHECK(second.sg->required);
    CHECK(second.identity.vendor == "STORCTL");

    // the number of one that is gone is free; what stays keeps its own
    REQUIRE(host.remove("web1").error.empty());
    host.start();
    REQUIRE(host.create_disk("web3", "sda").error.empty());
    CHECK(host.spec("web3").sg->minor == 40000);
    host.devices.devices[1].product.model = "Other";
    CHECK(host.spec("web2").sg->minor == 40001);
    CHECK(host.spec("web2").identity == second.identity);
}

TEST_CASE("where CUSE is not, a disk has no SCSI generic device, and who asks for one is told why") {
    Host host;
    host.start();
    const auto made = host.create_disk("web1", "sda");
    REQUIRE_MESSAGE(made.error.empty(), made.parameters.dump());
    CHECK(made.parameters["node"]["sg"] == false);
    CHECK_FALSE(host.spec("web1").sg.has_value());
    for (const bool dry_run : {true, false}) {
        const auto refused = host.create_disk("web2", "sdb", {{"sg", true}, {"dry_run", dry_run}});
        CHECK(refused.error == "InvalidValue");
        CHECK(refused.parameters["parameter"] == "sg");
    }
    CHECK(host->db().nodes()->size() == 1);
}

TEST_CASE("a change of a disk's reservations is an event with what they are now") {
    Host host;
    host.behaviour["web1"].registers = by_host;
    host.start();
    REQUIRE(host.create_disk("web1", "sda").error.empty());
    const Json expected =
        node::reservations_json({.version = 1, .generation = 1, .persists = false, .registrations = {by_host}});
    const auto told = [&] {
        return std::any_of(host->events.begin(), host->events.end(), [&](const Event& event) {
            return event.event == "node-changed" && event.subject == "web1" &&
                   event.summary == "node 'web1': nothing reserved, 1 registered" &&
                   event.detail["reservations"] == expected;
        });
    };
    REQUIRE(host->wait(told));
    CHECK(host.nodes->describe("web1")["reservations"] == expected);
}

TEST_CASE("reservations are the device's: they outlive its node, and what is empty does not") {
    Host host;
    host.behaviour["web1"].registers = by_host;
    host.start();
    REQUIRE(host.create_disk("web1", "sda").error.empty());
    REQUIRE(host.create_disk("web2", "sdb").error.empty());
    REQUIRE(host->wait([&] { return host->db().reservations()->size() == 1; }));
    REQUIRE(host.remove("web1").error.empty());
    REQUIRE(host.remove("web2").error.empty());
    REQUIRE(host->db().reservations()->size() == 1);
    host.start();
    const auto again = host.create_disk("web3", "sda");
    REQUIRE(again.error.empty());
    CHECK(host.spec("web3").reservations.registration(by_host.nexus) != nullptr);
    CHECK(again.parameters["node"]["reservations"]["registrations"].size() == 1);
    CHECK(host.create_disk("web4", "sdb").parameters["node"]["reservations"]["registrations"].empty());
}
