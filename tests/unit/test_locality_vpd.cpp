// VPD pages as devices send them: every designator, and every way to be malformed.

#include <doctest/doctest.h>

#include "locality/vpd.hpp"
#include "tests/unit/locality_facts.hpp"

using namespace storctl;
using namespace storctl::locality;
using storctl::test::bytes;

namespace {

/// Page 0x83 around designators given in hexadecimal.
std::vector<uint8_t> page83(const std::string& designators) {
    return bytes(fmt::format("0083{:04x}{}", bytes(designators).size(), designators));
}

std::vector<std::string> names(const std::vector<Identifier>& identifiers) {
    std::vector<std::string> out;
    for (const auto& identifier : identifiers) out.push_back(identifier.text());
    return out;
}

}  // namespace

TEST_CASE("designators of the logical unit") {
    struct Row {
        const char* name;
        const char* designators;
        std::vector<std::string> expected;
    };
    const Row rows[] = {
        {"NAA 6 in full length",
         "01030010 600140500a1b2c3d4e5f60718293a4b5",
         {"naa6.600140500a1b2c3d4e5f60718293a4b5"}},
        {"NAA 5", "01030008 5000c500a1b2c3d7", {"naa5.5000c500a1b2c3d7"}},
        {"NAA 2", "01030008 200000e08b05a1b2", {"naa2.200000e08b05a1b2"}},
        {"NAA 3, locally assigned", "01030008 3000000a0b0c0d0e", {"naa3.3000000a0b0c0d0e"}},
        {"NAA 6 of eight bytes is malformed", "01030008 600140500a1b2c3d", {}},
        {"NAA 5 of sixteen bytes is malformed", "01030010 5000c500a1b2c3d75000c500a1b2c3d7", {}},
        {"an unknown NAA", "01030008 4000c500a1b2c3d7", {}},
        {"NAA as text is malformed", "02030010 35303030633530306131623263336437", {}},
        {"EUI-64 of eight bytes", "01020008 0024c90011223344", {"eui64.0024c90011223344"}},
        {"EUI-64 of twelve bytes", "0102000c 0024c90011223344aabbccdd", {"eui64.0024c90011223344aabbccdd"}},
        {"EUI-64 of sixteen bytes",
         "01020010 00112233445566770024c90011223344",
         {"eui64.00112233445566770024c90011223344"}},
        {"EUI-64 of ten bytes is malformed", "0102000a 0024c900112233445566", {}},
        // "LIO-ORG vol 1"
        {"T10 vendor, blanks become one mark", "0201000d 4c494f2d4f524720766f6c2031", {"t10.LIO-ORG_vol_1"}},
        {"T10 ends at its first NUL", "02010010 4c494f2d4f524720766f6c0031000000", {"t10.LIO-ORG_vol"}},
        {"T10 with no more than the vendor", "02010008 4c494f2d4f524720", {}},
        {"T10 as binary is malformed", "0101000d 4c494f2d4f524720766f6c2031", {}},
        // "naa.5000c500a1b2c3d7"
        {"SCSI name string that repeats an NAA",
         "03080018 6e61612e3530303063353030613162326333643700000000",
         {"naa5.5000c500a1b2c3d7"}},
        // "iqn.2005-10.x:v,L,0x1"
        {"SCSI name string of iSCSI",
         "03080018 69716e2e323030352d31302e783a762c4c2c307831000000",
         {"scsi-name.iqn.2005-10.x:v,L,0x1"}},
        {"SCSI name string of a length that is no multiple of four",
         "03080016 6e61612e35303030633530306131623263336437 0000",
         {}},
        {"SCSI name string that is no UTF-8", "03080008 6e61612effff0000", {}},
        {"vendor specific", "02000004 61626364", {}},
        {"relative target port, port group, unit group, MD5",
         "01040004 00000001 01050004 00000001 01060004 00000001",
         {}},
        {"a UUID designator is not used for identity", "010a0012 1000 00112233445566778899aabbccddeeff", {}},
        {"a target port's NAA is not the unit's", "01130008 5000c500a1b2c3d5", {}},
        {"a target device's NAA is not the unit's", "01230008 5000c500a1b2c3d4", {}},
        {"a protocol identifier and its flag change nothing", "61830008 5000c500a1b2c3d7", {"naa5.5000c500a1b2c3d7"}},
        {"an empty designator", "01030000", {}},
        {"the same twice", "01030008 5000c500a1b2c3d7 01030008 5000c500a1b2c3d7", {"naa5.5000c500a1b2c3d7"}},
        {"two of one unit",
         "01030008 5000c500a1b2c3d7 01030010 600140500a1b2c3d4e5f60718293a4b5",
         {"naa5.5000c500a1b2c3d7", "naa6.600140500a1b2c3d4e5f60718293a4b5"}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto parsed = parse_vpd83(page83(row.designators));
        REQUIRE(parsed.has_value());
        CHECK(names(logical_unit_identifiers(*parsed)) == row.expected);
    }
}

TEST_CASE("all designators are given, whatever they are of") {
    const auto parsed = parse_vpd83(page83("61930008 5000c500a1b2c3d5 02000004 61626364"));
    REQUIRE(parsed.has_value());
    REQUIRE(parsed->size() == 2);
    CHECK((*parsed)[0].association == Association::target_port);
    CHECK((*parsed)[0].code_set == 1);
    CHECK((*parsed)[0].value.size() == 8);
    CHECK((*parsed)[1].type == static_cast<uint8_t>(DesignatorType::vendor_specific));
}

TEST_CASE("malformed pages say nothing") {
    struct Row {
        const char* name;
        const char* page;
    };
    const Row rows[] = {
        {"empty", ""},
        {"half a header", "008300"},
        {"another page", "00800008 0102030405060708"},
        {"longer than its bytes", "0083000d 01030008 5000c500a1b2c3d7"},
        {"a designator over the end", "0083000c 01030009 5000c500a1b2c3d7"},
        {"half a designator's header", "0083000e 01030008 5000c500a1b2c3d7 0103"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        CHECK_FALSE(parse_vpd83(bytes(row.page)).has_value());
    }
    CHECK(parse_vpd83(bytes("00830000"))->empty());
    // sysfs may hand out more than the page
    CHECK(parse_vpd83(bytes("00830000 ffff"))->empty());
}

TEST_CASE("unit serial number") {
    CHECK(parse_vpd80(bytes("00800008 2020413142320000")).value() == "A1B2");
    CHECK(parse_vpd80(bytes("00800000")).value().empty());
    CHECK_FALSE(parse_vpd80(bytes("00800009 2020413142320000")).has_value());
    CHECK_FALSE(parse_vpd80(bytes("00830008 2020413142320000")).has_value());
}

TEST_CASE("an ATA disk's whole model and serial number") {
    const std::string text = "ATA     Samsung SSD 860 EVO 500GB               S3Z2NB0K123456A     ";
    REQUIRE(text.size() == 68);
    const Designator designator{.code_set = 2, .type = 1, .value = {text.begin(), text.end()}};
    const auto name = ata_name({designator});
    REQUIRE(name.has_value());
    CHECK(name->model == "Samsung SSD 860 EVO 500GB");
    CHECK(name->serial == "S3Z2NB0K123456A");
    const Designator other{.code_set = 2, .type = 1, .value = {text.begin(), text.begin() + 40}};
    CHECK_FALSE(ata_name({other}).has_value());
}
