// Which devices there are: folding, what is left out, quarantine of identifiers, order.

#include <doctest/doctest.h>

#include "locality/inventory.hpp"
#include "tests/unit/locality_facts.hpp"

using namespace storctl;
using namespace storctl::locality;
using namespace storctl::test;

namespace {

const std::string lun = "600140500a1b2c3d4e5f60718293a4b5";
const std::string other_lun = "600140500a1b2c3d4e5f60718293a4b6";

std::vector<std::string> names(const std::vector<Device>& devices) {
    std::vector<std::string> out;
    for (const auto& device : devices) out.push_back(device.name);
    return out;
}

std::vector<std::string> ids(const std::vector<Device>& devices) {
    std::vector<std::string> out;
    for (const auto& device : devices) out.push_back(device.id);
    return out;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("paths are folded behind their map") {
    const auto blocks = known({fc_path("sda", "1:0:0:5", lun), fc_path("sdb", "1:0:1:5", lun),
                               mapped("dm-0", "mpath-3" + lun, {"sda", "sdb"}), sata_disk("sdc", "5000c500a1b2c3d7")});
    const auto devices = build_inventory(blocks, {});
    REQUIRE(names(devices) == Names{"dm-0", "sdc"});
    const Device& map = devices[0];
    CHECK(map.id == "naa6." + lun);
    CHECK(map.kind == Kind::multipath);
    CHECK(map.quality == Quality::high);
    CHECK(map.transport == Transport::fc);
    CHECK(map.verdict.locality == Locality::no);
    CHECK(map.product.vendor == "ACME");
    CHECK_FALSE(map.conflict.has_value());
    REQUIRE(map.paths.size() == 2);
    CHECK(map.paths[1] == Path{"sdb", "/dev/sdb", Transport::fc, "1:0:1:5", "running"});
    CHECK(device_name_of(blocks, "sdb") == "dm-0");
    CHECK(device_name_of(blocks, "sdc") == "sdc");
}

TEST_CASE("paths without a map are a conflict, not one device") {
    const auto devices = build_inventory(known({fc_path("sda", "1:0:0:5", lun), fc_path("sdb", "1:0:1:5", lun)}), {});
    REQUIRE(names(devices) == Names{"sda", "sdb"});
    for (const auto& device : devices) {
        CHECK(device.conflict.has_value());
        CHECK(device.quality == Quality::none);
    }
    CHECK(devices[0].conflict == "naa6." + lun + " is also that of sdb");
    CHECK(devices[0].id != devices[1].id);
}

TEST_CASE("a path left outside its map is in conflict with it") {
    const auto devices = build_inventory(known({fc_path("sda", "1:0:0:5", lun), fc_path("sdb", "1:0:1:5", lun),
                                                mapped("dm-0", "mpath-3" + lun, {"sda"})}),
                                         {});
    REQUIRE(names(devices) == Names{"dm-0", "sdb"});
    CHECK(devices[0].conflict == "naa6." + lun + " is also that of sdb");
    CHECK(devices[1].conflict == "naa6." + lun + " is also that of dm-0");
}

TEST_CASE("a LUN mapped anew under one path does not speak for the map") {
    const auto devices = build_inventory(known({fc_path("sda", "1:0:0:5", lun), fc_path("sdb", "1:0:1:5", other_lun),
                                                mapped("dm-0", "mpath-3" + lun, {"sda", "sdb"})}),
                                         {});
    REQUIRE(devices.size() == 1);
    CHECK(devices[0].id == "naa6." + lun);
    for (const auto& identifier : devices[0].identifiers) CHECK(identifier.value != other_lun);
}

TEST_CASE("a map whose paths are gone stays") {
    const auto devices = build_inventory(known({mapped("dm-0", "mpath-3" + lun, {"sda"})}), {});
    REQUIRE(devices.size() == 1);
    CHECK(devices[0].id == "naa6." + lun);
    CHECK(devices[0].paths.empty());
    CHECK(devices[0].verdict.locality == Locality::unknown);
}

TEST_CASE("a map with a placeholder or a name that says nothing") {
    auto devices = build_inventory(known({mapped("dm-0", "mpath-35000000000000001", {})}), {});
    CHECK(ids(devices) == Names{"name.dm-0"});
    devices = build_inventory(known({mapped("dm-1", "mpath-0QEMU_QEMU_HARDDISK_1", {})}), {});
    CHECK(ids(devices) == Names{"name.dm-1"});
}

TEST_CASE("what is no device of its own is left out") {
    auto partition = block("sda1");
    partition.partition_of = "sda";
    auto hidden = block("nvme0c0n1");
    hidden.hidden = true;
    auto cdrom = scsi_disk("sr0", "1:0:0:0", {{"host1", "scsi", ""}});
    auto writer = scsi_disk("sdx", "1:0:0:1", {{"host1", "scsi", ""}});
    writer.properties["ID_CDROM"] = "1";
    auto empty_slot = scsi_disk("sdy", "2:0:0:0", {{"host2", "scsi", ""}, {"1-1:1.0", "usb", ""}});
    empty_slot.removable = true;
    empty_slot.size_bytes = 0;
    auto idle_nbd = block("nbd3");
    idle_nbd.size_bytes = 0;
    auto stopped = block("md1");
    stopped.size_bytes = 0;
    auto failed = scsi_disk("sdf", "3:0:0:0", {{"host3", "scsi", ""}});
    failed.size_bytes = 0;
    const auto devices = build_inventory(
        known({sata_disk("sda", "5000c500a1b2c3d7"), partition, hidden, cdrom, writer, empty_slot, idle_nbd, stopped,
               failed, block("loop0"), block("ram0"), block("zram0"), mapped("dm-0", "LVM-abc", {"sda1"}),
               block("mmcblk0boot0"), block("mmcblk0"), block("bcache0"), block("nbd0")}),
        {});
    // a disk that is there and says nothing of its size is shown
    CHECK(names(devices) == Names{"mmcblk0", "nbd0", "sda", "sdf"});
}

TEST_CASE("partitions and kpartx partitions lead to their device") {
    auto partition = block("sda1");
    partition.partition_of = "sda";
    const auto blocks = known({fc_path("sda", "1:0:0:5", lun), partition, mapped("dm-0", "mpath-3" + lun, {"sda"}),
                               mapped("dm-1", "part1-mpath-3" + lun, {"dm-0"}), mapped("dm-2", "LVM-x", {"dm-1"})});
    CHECK(device_name_of(blocks, "sda1") == "dm-0");
    CHECK(device_name_of(blocks, "dm-1") == "dm-0");
    CHECK(device_name_of(blocks, "dm-2") == "dm-2");
    CHECK(device_name_of(blocks, "nothing") == "nothing");
}

TEST_CASE("a serial number that an array gives to all its LUNs is no conflict") {
    auto one = fc_path("sda", "1:0:0:1", lun);
    auto two = fc_path("sdb", "1:0:0:2", other_lun);
    one.vpd_pg80 = two.vpd_pg80 = bytes("00800004 41314232");
    const auto devices = build_inventory(known({one, two}), {});
    CHECK(ids(devices) == Names{"naa6." + lun, "naa6." + other_lun});
    for (const auto& device : devices) {
        CHECK_FALSE(device.conflict.has_value());
        for (const auto& identifier : device.identifiers) {
            if (identifier.type == IdType::serial) CHECK(identifier.why.starts_with("also that of sd"));
        }
    }
}

TEST_CASE("a device in conflict falls back to its next identifier") {
    auto one = sata_disk("sda", "5000c500a1b2c3d7");
    auto two = sata_disk("sdb", "5000c500a1b2c3d7");
    auto three = sata_disk("sdc", "5000c500a1b2c3d7");
    one.vpd_pg80 = bytes("00800004 41314232");
    two.vpd_pg80 = bytes("00800004 43334434");
    const auto devices = build_inventory(known({one, two, three}), {});
    CHECK(ids(devices) == Names{"model-serial.Disk_A1B2", "model-serial.Disk_C3D4", "name.sdc"});
    for (const auto& device : devices) CHECK(device.conflict.has_value());
    CHECK(devices[0].quality == Quality::medium);
    CHECK(devices[0].conflict == "naa5.5000c500a1b2c3d7 is also that of sdb and sdc");
}

TEST_CASE("many claimants are named in short") {
    std::vector<BlockFacts> devices;
    for (const char* name : {"sda", "sdb", "sdc", "sdd", "sde", "sdf"})
        devices.push_back(sata_disk(name, "5000c500a1b2c3d7"));
    CHECK(build_inventory(known(devices), {})[0].conflict ==
          "naa5.5000c500a1b2c3d7 is also that of sdb, sdc, sdd and 2 more");
}

TEST_CASE("ready as udev and device-mapper say") {
    auto facts = sata_disk("sda", "5000c500a1b2c3d7");
    const auto ready = [&] { return build_inventory(known({facts}), {})[0].ready; };
    CHECK(ready());
    facts.properties["SYSTEMD_READY"] = "0";
    CHECK_FALSE(ready());
    facts.properties = {{"DM_UDEV_DISABLE_OTHER_RULES_FLAG", "1"}};
    CHECK_FALSE(ready());
    facts.properties.clear();
    facts.initialized = false;
    CHECK_FALSE(ready());
}

TEST_CASE("an md array is a device as remote as its members") {
    auto array = block("md0");
    array.md_level = "raid1";
    array.md_uuid = "A1B2C3D4:00112233:44556677:8899AABB";
    array.slaves = {"sda", "sdb"};
    auto devices =
        build_inventory(known({array, sata_disk("sda", "5000c500a1b2c3d7"), fc_path("sdb", "1:0:0:1", lun)}), {});
    REQUIRE(names(devices) == Names{"md0", "sda", "sdb"});
    CHECK(devices[0].kind == Kind::array);
    CHECK(devices[0].id == "md-uuid.a1b2c3d4:00112233:44556677:8899aabb");
    CHECK(devices[0].quality == Quality::medium);
    CHECK(devices[0].verdict.locality == Locality::no);
    array.slaves = {"sda"};
    devices = build_inventory(known({array, sata_disk("sda", "5000c500a1b2c3d7")}), {});
    CHECK(devices[0].verdict.locality == Locality::yes);
}

TEST_CASE("names in the order people expect") {
    std::vector<BlockFacts> devices;
    int i = 0;
    for (const char* name : {"sdaa", "nvme10n1", "sdb", "vda", "nvme2n1", "sdz", "nvme2n10", "nvme2n2"}) {
        auto facts = block(name);
        facts.serial = "serial" + std::to_string(++i);
        devices.push_back(facts);
    }
    CHECK(names(build_inventory(known(devices), {})) ==
          Names{"nvme2n1", "nvme2n2", "nvme2n10", "nvme10n1", "sdb", "sdz", "sdaa", "vda"});
}
