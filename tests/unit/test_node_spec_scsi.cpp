#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "daemon/node/describe.hpp"
#include "daemon/node/reservation_json.hpp"
#include "daemon/node/spec.hpp"

using namespace storctl;
using namespace storctl::node;
using nlohmann::json;

namespace {

scsi::ReservationState reserved() {
    return {.version = 7,
            .generation = 0xffffffff,
            .persists = true,
            .type = scsi::ReservationType::write_exclusive,
            .holder = scsi::NexusName{"alpha:vm:web1", 1},
            .registrations = {{{"alpha:host", 1}, 0x1}, {{"alpha:vm:web1", 1}, 0xfedcba9876543210}}};
}

Spec disk() {
    return {.name = "web1",
            .backing_path = "/dev/sdb",
            .backing_kind = "block",
            .control_socket = "/run/storctl/node/web1.socket",
            .mount_path = "/run/storctl/block/web1"};
}

json good_spec() {
    Spec spec = disk();
    spec.sg = SgSpec{.device_name = "storctl/sg/web1", .major = sg_node_major, .minor = sg_node_first_minor};
    spec.reservations = reserved();
    return json::parse(spec.to_json());
}

}  // namespace

TEST_CASE("reservations survive the way to JSON and back") {
    scsi::ReservationState state = reserved();
    SUBCASE("with a holder") {}
    SUBCASE("nothing is reserved and nobody registered") { state = {}; }
    SUBCASE("all registrants hold it") {
        state.type = scsi::ReservationType::exclusive_access_all_registrants;
        state.holder.reset();
    }
    SUBCASE("another port") {
        state.registrations[1].nexus.target_port = 65535;
        state.holder->target_port = 65535;
    }
    const auto again = parse_reservations(json::parse(reservations_json(state).dump()));
    REQUIRE_MESSAGE(again, again.error().message());
    CHECK(*again == state);
}

TEST_CASE("reservations are shown as the interface says") {
    const json shown = reservations_json(reserved());
    CHECK(shown["version"] == 7);
    CHECK(shown["type"] == "write-exclusive");
    CHECK(shown["holder"] == "alpha:vm:web1");
    CHECK(shown["holder_port"] == 1);
    CHECK(shown["registrations"][0]["key"] == "0x0000000000000001");
    CHECK(shown["registrations"][1] ==
          json{{"initiator", "alpha:vm:web1"}, {"port", 1}, {"key", "0xfedcba9876543210"}});
    const json none = reservations_json({});
    CHECK(none["type"].is_null());
    CHECK(none["holder"].is_null());
    CHECK(none["registrations"].empty());

    Description description{.name = "web1"};
    CHECK(to_json(description)["reservations"].is_null());
    CHECK(to_json(description)["proposed"].is_null());
    description.reservations = scsi::ReservationState{};
    description.proposed = reserved();
    CHECK(to_json(description)["reservations"] == none);
    CHECK(to_json(description)["proposed"] == shown);
}

TEST_CASE("reservations that are not what they should be are refused with the key that is wrong") {
    struct Row {
        const char* name;
        const char* patch;  ///< RFC 7386, on `reserved`
        const char* expected;
    };
    for (const Row& row : {
             Row{"no version", R"({"version":null})", "'version'"},
             Row{"a negative version", R"({"version":-1})", "'version'"},
             Row{"half a version", R"({"version":1.5})", "'version'"},
             Row{"a version that no interface can carry", R"({"version":9223372036854775808})", "'version'"},
             Row{"a generation of more than 32 bits", R"({"generation":4294967296})", "'generation'"},
             Row{"a number for a flag", R"({"persists":1})", "'persists'"},
             Row{"an unknown type", R"({"type":"mine"})", "'type': it is not write-exclusive"},
             Row{"a number for a type", R"({"type":1})", "'type'"},
             Row{"a holder without a port", R"({"holder_port":null})", "'holder_port'"},
             Row{"a holder who is not registered", R"({"holder":"beta:host"})", "holder is not registered"},
             Row{"a holder of nothing", R"({"type":null})", "holder of no reservation"},
             Row{"registrations that are no list", R"({"registrations":{}})", "'registrations'"},
             Row{"a registration that is no object", R"({"registrations":[1]})", "'registrations'"},
             Row{"a port of more than 16 bits",
                 R"({"registrations":[{"initiator":"a","port":65536,"key":"0x0000000000000001"}]})", "'port'"},
             Row{"no port at all", R"({"registrations":[{"initiator":"a","key":"0x0000000000000001"}]})", "'port'"},
             Row{"nobody's registration", R"({"registrations":[{"port":1,"key":"0x0000000000000001"}]})",
                 "'initiator'"},
             Row{"a key of 15 digits", R"({"registrations":[{"initiator":"a","port":1,"key":"0x000000000000001"}]})",
                 "'key'"},
             Row{"a key with a sign", R"({"registrations":[{"initiator":"a","port":1,"key":"0x-000000000000001"}]})",
                 "'key'"},
             Row{"a key that is a number", R"({"registrations":[{"initiator":"a","port":1,"key":1}]})", "'key'"},
             Row{"an empty key", R"({"registrations":[{"initiator":"a","port":1,"key":""}]})", "'key'"},
             Row{"the key 0", R"({"registrations":[{"initiator":"a","port":1,"key":"0x0000000000000000"}]})",
                 "without a key"},
             Row{"one registration twice",
                 R"({"registrations":[{"initiator":"a","port":1,"key":"0x0000000000000001"},
                                      {"initiator":"a","port":1,"key":"0x0000000000000002"}]})",
                 "not in order"},
         }) {
        SUBCASE(row.name) {
            json in = reservations_json(reserved());
            in.merge_patch(json::parse(row.patch));
            const auto state = parse_reservations(in);
            REQUIRE_FALSE(state.has_value());
            CHECK_MESSAGE(state.error().message().find(row.expected) != std::string::npos, state.error().message());
        }
    }
    CHECK_FALSE(parse_reservations(json::array()).has_value());
    CHECK_FALSE(parse_reservations(json(nullptr)).has_value());
}

TEST_CASE("what a specification says of a SCSI disk survives the way to JSON and back") {
    Spec spec = disk();
    SUBCASE("all of it") {
        spec.sg = SgSpec{.device_name = "storctl/sg/web1",
                         .major = sg_node_major,
                         .minor = sg_node_first_minor + 3,
                         .required = true};
        spec.identity = {.vendor = "ATA",
                         .product = "Disk of some kind",
                         .revision = "0001",
                         .serial = "S 1",
                         .naa = {0x50, 0, 0xc5, 0, 0xa1, 0xb2, 0xc3, 0xd4},
                         .eui64 = {1, 2, 3, 4, 5, 6, 7, 8},
                         .target_ports = 2};
        spec.host = "alpha";
        spec.reservations = reserved();
    }
    SUBCASE("none of it") {}
    const auto again = Spec::parse(spec.to_json(), "test");
    REQUIRE_MESSAGE(again, again.error().message());
    CHECK(again->to_json() == spec.to_json());
    CHECK(again->identity == spec.identity);
    CHECK(again->host == spec.host);
    CHECK(again->reservations == spec.reservations);
    REQUIRE(again->sg.has_value() == spec.sg.has_value());
    if (!spec.sg) return;
    CHECK(again->sg->device_name == "storctl/sg/web1");
    CHECK(again->sg->major == 21);
    CHECK(again->sg->minor == 40003);
    CHECK(again->sg->required);
}

TEST_CASE("a specification from before there were SCSI disks is read") {
    json old = good_spec();
    for (const char* key : {"sg", "identity", "host", "reservations"}) old.erase(key);
    const auto spec = Spec::parse(old.dump(), "test");
    REQUIRE_MESSAGE(spec, spec.error().message());
    CHECK_FALSE(spec->sg.has_value());
    CHECK(spec->identity == scsi::Identity{});
    CHECK(spec->host.empty());
    CHECK(spec->reservations == scsi::ReservationState{});
}

TEST_CASE("a bad specification of a SCSI disk is refused with the key that is wrong") {
    struct Row {
        const char* name;
        const char* patch;
        const char* expected;
    };
    for (const Row& row : {
             Row{"a list for the device", R"({"sg":[]})", "'sg'"},
             Row{"a device without a name", R"({"sg":{"device_name":""}})", "'device_name'"},
             Row{"a device without a minor", R"({"sg":{"minor":null}})", "'minor'"},
             Row{"a negative major", R"({"sg":{"major":-1}})", "'major'"},
             Row{"a number for a flag", R"({"sg":{"required":1}})", "boolean"},
             Row{"an identity that is a text", R"({"identity":"x"})", "'identity'"},
             Row{"a vendor that is not ASCII", R"({"identity":{"vendor":"Ä"}})", "'vendor'"},
             Row{"a serial of two lines", R"({"identity":{"serial":"a\nb"}})", "'serial'"},
             Row{"an identifier that is no bytes", R"({"identity":{"naa":"5x"}})", "'naa'"},
             Row{"an identifier of a wrong length", R"({"identity":{"naa":"5000"}})", "NAA identifier of 2 bytes"},
             Row{"another identifier of a wrong length", R"({"identity":{"eui64":"00"}})", "EUI-64 identifier of 1"},
             Row{"no port", R"({"identity":{"target_ports":0}})", "no target port"},
             Row{"a host that names no initiator", R"({"host":"two words"})", "'host'"},
             Row{"reservations that are none", R"({"reservations":{"version":-1}})", "'reservations'"},
         }) {
        SUBCASE(row.name) {
            json in = good_spec();
            in.merge_patch(json::parse(row.patch));
            const auto spec = Spec::parse(in.dump(), "test.json");
            REQUIRE_FALSE(spec.has_value());
            CHECK_MESSAGE(spec.error().message().find(row.expected) != std::string::npos, spec.error().message());
            CHECK(spec.error().message().find("test.json") != std::string::npos);
        }
    }
}
