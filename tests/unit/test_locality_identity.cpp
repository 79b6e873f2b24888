// Identifiers: their forms, what is a placeholder, and which ones a device's facts give in which order.

#include <doctest/doctest.h>

#include "locality/identity.hpp"
#include "tests/unit/locality_facts.hpp"

using namespace storctl;
using namespace storctl::locality;
using namespace storctl::test;

namespace {

std::string text_of(const std::optional<Identifier>& identifier) { return identifier ? identifier->text() : "none"; }

/// "naa5.5… t10.…" of the usable ones; unusable ones with '!' in front.
std::vector<std::string> shown(const std::vector<Identifier>& identifiers) {
    std::vector<std::string> out;
    for (const auto& identifier : identifiers) out.push_back((identifier.usable ? "" : "!") + identifier.text());
    return out;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("names that carry their type") {
    const auto scsi = [](const char* name) { return text_of(named_identifier(name, NameSpace::scsi)); };
    const auto nvme = [](const char* name) { return text_of(named_identifier(name, NameSpace::nvme)); };
    CHECK(scsi("naa.5000C500A1B2C3D7") == "naa5.5000c500a1b2c3d7");
    CHECK(scsi("eui.0024c90011223344") == "eui64.0024c90011223344");
    CHECK(scsi("t10.LIO-ORG vol1") == "t10.LIO-ORG_vol1");
    CHECK(scsi("iqn.2005-10.x:v") == "scsi-name.iqn.2005-10.x:v");
    CHECK(scsi("uuid.6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d") == "none");
    CHECK(scsi("something") == "none");
    CHECK(nvme("uuid.6D0C4B5E-9d3f-4c6b-8f25-0e5a7a1b2c3d") == "nvme-uuid.6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d");
    CHECK(nvme("uuid.6d0c4b5e9d3f4c6b8f250e5a7a1b2c3d") == "none");
    CHECK(nvme("eui.8ce38ee20a512f02") == "eui64.8ce38ee20a512f02");
    CHECK(nvme("eui.8ce38ee20a512f010000000000000001") == "nguid.8ce38ee20a512f010000000000000001");
    CHECK(nvme("eui.8ce38ee20a512f0") == "none");
    // serial number and model padded with blanks (20) and NULs (00)
    CHECK(nvme("nvme.1e4b-4142000000-434420202020-00000001") == "nvme-vendor.1e4b-4142-4344-00000001");
    CHECK(nvme("nvme.1e4b-4142-00000001") == "none");
    CHECK(nvme("t10.x") == "none");
}

TEST_CASE("multipath world-wide ids") {
    CHECK(text_of(multipath_identifier("3600140500a1b2c3d4e5f60718293a4b5")) ==
          "naa6.600140500a1b2c3d4e5f60718293a4b5");
    CHECK(text_of(multipath_identifier("35000c500a1b2c3d7")) == "naa5.5000c500a1b2c3d7");
    CHECK(text_of(multipath_identifier("20024c90011223344")) == "eui64.0024c90011223344");
    CHECK(text_of(multipath_identifier("1LIO-ORG_vol1")) == "t10.LIO-ORG_vol1");
    CHECK(text_of(multipath_identifier("8iqn.2005-10.x:v")) == "scsi-name.iqn.2005-10.x:v");
    CHECK(text_of(multipath_identifier("uuid.6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d")) ==
          "nvme-uuid.6d0c4b5e-9d3f-4c6b-8f25-0e5a7a1b2c3d");
    CHECK(text_of(multipath_identifier("SACME_Disk_1")) == "model-serial.ACME_Disk_1");
    CHECK(text_of(multipath_identifier("0QEMU_QEMU_HARDDISK_1")) == "none");
    CHECK(text_of(multipath_identifier("3")) == "none");
    CHECK(text_of(multipath_identifier("")) == "none");
    // ID_WWN's sixteen digits of an NAA 6 are not one
    CHECK(text_of(naa_identifier("0x600140500a1b2c3d")) == "none");
}

TEST_CASE("values are made fit for a shell and a path") {
    CHECK(normal_value("  A  B\tC  ") == "A_B_C");
    CHECK(normal_value(std::string_view("AB\0\0", 4)) == "AB");
    CHECK(normal_value("a/b;c$(d)") == "a_b_c__d_");
    CHECK(normal_value("\xff\xfe") == "__");
    CHECK(normal_value("") == "");
}

TEST_CASE("placeholders") {
    struct Row {
        IdType type;
        const char* value;
        bool placeholder;
    };
    const Row rows[] = {
        {IdType::naa5, "5000000000000001", true},
        {IdType::naa5, "50f0000000000000", true},
        {IdType::naa5, "5000c500a1b2c3d7", false},
        {IdType::naa5, "5000000a1b2c3d4e", true},  // company id 00-00-00
        {IdType::naa6, "60000000000000000000000000000000", true},
        {IdType::naa6, "600140500a1b2c3d4e5f60718293a4b5", false},
        {IdType::naa2, "2001000000a1b2c3", true},
        {IdType::naa2, "200000e08b05a1b2", false},
        {IdType::naa3, "3000000000000001", true},
        {IdType::eui64, "0000000000000000", true},
        {IdType::eui64, "ffffffffffffffff", true},
        {IdType::eui64, "0000000000000001", true},
        {IdType::eui64, "0024c90011223344", false},
        {IdType::nguid, "00000000000000000000000000000000", true},
        {IdType::nguid, "00000000000000018ce38ee20a512f02", false},
        {IdType::nvme_uuid, "00000000-0000-0000-0000-000000000000", true},
        {IdType::nvme_uuid, "ffffffff-ffff-ffff-ffff-ffffffffffff", true},
        {IdType::nvme_vendor, "1e4b-3030303030303030-4142-00000001", true},  // serial number "00000000"
        {IdType::nvme_vendor, "1e4b-41423132-4142-00000001", false},
        {IdType::serial, "0", true},
        {IdType::serial, "unknown", true},
        {IdType::serial, "Default_string", true},
        {IdType::serial, "To_Be_Filled_By_O.E.M.", true},
        {IdType::serial, "None", true},
        {IdType::serial, "WD-WCC7K0XX1234", false},
        {IdType::model_serial, "ACME_Disk_00000000", true},
        {IdType::model_serial, "ACME_Disk_0000000000CA", true},
        {IdType::model_serial, "ACME_Disk_A1", false},
        {IdType::t10, "ACME_Disk_00000000", true},
        {IdType::path, "0", false},
    };
    for (const auto& row : rows) {
        CAPTURE(row.value);
        CHECK(placeholder_reason({.type = row.type, .value = row.value}, {}).has_value() == row.placeholder);
    }
}

TEST_CASE("an administrator's own placeholders") {
    const std::vector<std::string> extra{"serial.LAB-1", "5000c500a1b2c3d7", "twin 7"};
    const auto listed = [&](IdType type, const char* value) {
        return placeholder_reason({.type = type, .value = value}, extra).has_value();
    };
    CHECK(listed(IdType::serial, "lab-1"));
    CHECK_FALSE(listed(IdType::t10, "LAB-2"));
    CHECK(listed(IdType::naa5, "5000c500a1b2c3d7"));
    CHECK(listed(IdType::serial, "TWIN_7"));
    CHECK_FALSE(listed(IdType::serial, "TWIN_8"));
}

TEST_CASE("a SATA disk in rank order, path and name last") {
    auto facts = sata_disk("sda", "5000c500a1b2c3d7");
    facts.vpd_pg80 = bytes("00800004 41314232");
    facts.ata_port = "1";
    CHECK(shown(identify(facts, {})) == Names{"naa5.5000c500a1b2c3d7", "model-serial.Disk_A1B2", "serial.A1B2",
                                              "path.pci-0000:00:1f.2-ata-1", "name.sda"});
}

TEST_CASE("a page that contradicts itself falls back to wwid and udev") {
    auto facts = sata_disk("sda", "5000c500a1b2c3d7");
    facts.vpd_pg83[3] = 0xff;
    facts.wwid = "naa.5000c500a1b2c3d8";
    CHECK(identify(facts, {}).front().text() == "naa5.5000c500a1b2c3d8");
    facts.wwid.clear();
    facts.properties["ID_WWN_WITH_EXTENSION"] = "0x600140500a1b2c3d4e5f60718293a4b5";
    CHECK(identify(facts, {}).front().text() == "naa6.600140500a1b2c3d4e5f60718293a4b5");
    facts.properties.clear();
    facts.properties = {{"ID_BUS", "scsi"}, {"ID_SERIAL", "35000c500a1b2c3d9"}};
    CHECK(identify(facts, {}).front().text() == "naa5.5000c500a1b2c3d9");
    // on another bus ID_SERIAL is a text
    facts.properties["ID_BUS"] = "ata";
    CHECK(identify(facts, {}).front().quality() == Quality::none);
}

TEST_CASE("udev's name that the device denies is not used") {
    auto facts = sata_disk("sda", "5000c500a1b2c3d7");
    facts.properties["ID_WWN_WITH_EXTENSION"] = "0x5000c500ffffffff";
    const auto identifiers = identify(facts, {});
    CHECK(shown(identifiers) ==
          Names{"naa5.5000c500a1b2c3d7", "!naa5.5000c500ffffffff", "path.pci-0000:00:1f.2-scsi-0:0:0", "name.sda"});
    CHECK(identifiers[1].why.find("naa5.5000c500a1b2c3d7") != std::string::npos);
}

TEST_CASE("NVMe: the uuid of the wwid, then NGUID and EUI-64") {
    auto facts = block("nvme0n1", {{"nvme0", "nvme", ""}, {"0000:01:00.0", "pci", "nvme"}});
    facts.controllers = {{"nvme0", "pcie", "0000:01:00.0", "live"}};
    facts.nsid = "1";
    facts.model = "ACME N1";
    facts.serial = "S1";
    facts.wwid = "eui.8ce38ee20a512f010000000000000001";
    facts.nguid = "8ce38ee2-0a51-2f01-0000-000000000001";
    facts.eui64 = "8c e3 8e e2 0a 51 2f 02";
    CHECK(shown(identify(facts, {})) == Names{"nguid.8ce38ee20a512f010000000000000001", "eui64.8ce38ee20a512f02",
                                              "model-serial.ACME_N1_S1", "path.pci-0000:01:00.0-nvme-1",
                                              "name.nvme0n1"});
    // a second namespace shares the controller's serial number and must not look like the first
    facts.nsid = "2";
    facts.wwid = "nvme.1e4b-5331-41434d45-00000002";
    facts.nguid.clear();
    facts.eui64 = "00 00 00 00 00 00 00 00";
    CHECK(shown(identify(facts, {})) == Names{"!eui64.0000000000000000", "nvme-vendor.1e4b-5331-41434d45-00000002",
                                              "model-serial.ACME_N1_n2_S1", "path.pci-0000:01:00.0-nvme-2",
                                              "name.nvme0n1"});
}

TEST_CASE("units of one USB reader are told apart") {
    const std::vector<ParentFacts> above{{"host5", "scsi", ""},
                                         {"2-1.3:1.0", "usb", "usb-storage"},
                                         {"2-1.3", "usb", "usb"},
                                         {"0000:00:14.0", "pci", "xhci_hcd"}};
    auto first = scsi_disk("sdb", "5:0:0:0", above);
    auto second = scsi_disk("sdc", "5:0:0:1", above);
    first.usb_serial = second.usb_serial = "CR1";
    CHECK(shown(identify(first, {})) == Names{"model-serial.ACME_Disk_CR1", "serial.CR1",
                                              "path.pci-0000:00:14.0-usb-0:1.3:1.0-scsi-0:0:0:0", "name.sdb"});
    CHECK(identify(second, {}).front().text() == "model-serial.ACME_Disk_CR1-lun1");
}

TEST_CASE("a virtio disk with and without a serial number") {
    auto facts = block("vda", {{"virtio1", "virtio", "virtio_blk"}, {"0000:00:02.0", "pci", "virtio-pci"}});
    CHECK(shown(identify(facts, {})) == Names{"path.pci-0000:00:02.0", "name.vda"});
    facts.serial = "vol-1";
    CHECK(shown(identify(facts, {})) == Names{"serial.vol-1", "path.pci-0000:00:02.0", "name.vda"});
    facts.properties["ID_PATH"] = "pci-0000:00:02.0-virtio";
    CHECK(device_path(facts) == "pci-0000:00:02.0-virtio");
}
