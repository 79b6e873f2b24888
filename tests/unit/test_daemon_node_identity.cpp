#include <set>

#include <doctest/doctest.h>

#include "daemon/node_identity.hpp"
#include "daemon/node_spec.hpp"

using namespace storctl;
using locality::IdType;
using node::scsi::Bytes;

namespace {

DeviceSummary sata_disk() {
    return {.id = "naa5.5000c500a1b2c3d4",
            .product = {.vendor = "ATA", .model = "ST4000", .serial = "ZDH1", .revision = "SC60"},
            .identifiers = {{IdType::naa5, "5000c500a1b2c3d4"}, {IdType::t10, "ATA_ST4000_ZDH1"}}};
}

NodeRecord over(const std::string& device_id, const std::string& name = "web1") {
    return {.name = name, .device_id = device_id, .backing_path = "/dev/sda"};
}

NodeRecord file(const std::string& path) { return {.name = "image", .backing_path = path}; }

}  // namespace

TEST_CASE("a disk is what the device behind it is") {
    const auto device = sata_disk();
    const auto identity = identity_of(over(device.id), &device, "m");
    CHECK(identity == node::scsi::Identity{.vendor = "ATA",
                                           .product = "ST4000",
                                           .revision = "SC60",
                                           .serial = "ZDH1",
                                           .naa = {0x50, 0x00, 0xc5, 0x00, 0xa1, 0xb2, 0xc3, 0xd4},
                                           .eui64 = {}});
}

TEST_CASE("identifiers are told in the form that SCSI has for them") {
    struct Row {
        const char* name;
        std::vector<locality::Identifier> identifiers;
        size_t naa_bytes, eui_bytes;
    };
    const std::string naa6 = "60014050001122334455667788990011", nguid = "00112233-4455-6677-8899-aabbccddeeff";
    for (const Row& row : {
             Row{"NAA 6", {{IdType::naa6, naa6}}, 16, 0},
             Row{"the best of several", {{IdType::naa6, naa6}, {IdType::naa5, "5000c500a1b2c3d4"}}, 16, 0},
             Row{"EUI-64", {{IdType::eui64, "0011223344556677"}}, 0, 8},
             Row{"NGUID, with dashes", {{IdType::nguid, nguid}}, 0, 16},
             Row{"both kinds", {{IdType::naa5, "5000c500a1b2c3d4"}, {IdType::eui64, "0011223344556677"}}, 8, 8},
             Row{"one that means nothing, a locally assigned one instead",
                 {{IdType::naa5, "5000000000000000", false, "made up"}},
                 8,
                 0},
             Row{"none of a length that SCSI has", {{IdType::t10, "ATA_X"}}, 8, 0},
         }) {
        SUBCASE(row.name) {
            DeviceSummary device{.id = "d", .identifiers = row.identifiers};
            const auto identity = identity_of(over("d"), &device, "m");
            CHECK(identity.naa.size() == row.naa_bytes);
            CHECK(identity.eui64.size() == row.eui_bytes);
            CHECK(node::scsi::check(identity, {.blocks = 1}, {}).has_value());
        }
    }
}

TEST_CASE("what has no identity of its own gets one that stays, and that nobody else has") {
    const auto identity = identity_of(file("/srv/a.img"), nullptr, "machine");
    CHECK(identity.vendor == "STORCTL");
    CHECK(identity.product == "image");
    CHECK_FALSE(identity.revision.empty());
    CHECK(identity.serial.size() == 16);
    REQUIRE(identity.naa.size() == 8);
    CHECK((identity.naa[0] >> 4) == 3);
    CHECK(identity == identity_of(file("/srv/a.img"), nullptr, "machine"));
    // a value that must never change: a guest finds its disk by it
    CHECK(identity.naa == Bytes{0x3b, 0xc2, 0xc3, 0x33, 0x8f, 0xb0, 0x7c, 0xf9});

    std::set<Bytes> seen;
    for (int i = 0; i < 2000; ++i) seen.insert(identity_of(file("/srv/" + std::to_string(i)), nullptr, "m").naa);
    CHECK(seen.size() == 2000);
    CHECK(identity_of(file("/srv/a.img"), nullptr, "other").naa != identity.naa);
    // the node's name is not the disk
    const DeviceSummary nameless{.id = "path.pci-1"};
    CHECK(identity_of(over("path.pci-1", "x"), &nameless, "m").naa ==
          identity_of(over("path.pci-1", "y"), &nameless, "m").naa);
}

TEST_CASE("what a device says of itself is made fit for a specification") {
    DeviceSummary device = sata_disk();
    device.product.vendor = "\xff\n";
    device.product.serial = std::string(300, 's');
    NodeRecord record = over(device.id);
    record.open = "shared";
    record.scsi.sg = {.asked = true, .minor = 40007};
    record.scsi.identity = identity_of(record, &device, "m");
    const auto spec = spec_of(record, {.run_dir = "/run/storctl", .dev_dir = "/dev/storctl"},
                              {.first_start = true,
                               .located = "/dev/sda",
                               .host = initiator_host("h\xc3\xb6st 1"),
                               .reservations = {.version = 4}});
    REQUIRE(spec.has_value());
    const auto read = node::Spec::parse(spec->to_json(), "test");
    REQUIRE_MESSAGE(read, read.error().message());
    CHECK(read->identity == record.scsi.identity);
    CHECK(read->identity.vendor == "\\xff\\x0a");
    CHECK(read->identity.serial.size() == 252);
    CHECK(read->host == "h%C3%B6st%201");
    CHECK(read->reservations.version == 4);
    REQUIRE(read->sg.has_value());
    CHECK(read->sg->device_name == "storctl/sg/web1");
    CHECK(read->sg->major == 21);
    CHECK(read->sg->minor == 40007);
    CHECK(read->sg->required);
}

TEST_CASE("a host's name is one that an initiator can have, and not another host's") {
    CHECK(initiator_host("alpha-1.example.org") == "alpha-1.example.org");
    CHECK(initiator_host("a:b") == "a%3Ab");
    CHECK(initiator_host("a%3Ab") == "a%253Ab");
    CHECK(initiator_host(std::string(300, 'a')).size() == 128);
}
