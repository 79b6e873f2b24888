// The reader of sysfs on a scripted tree in a folder.

#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "locality/sysfs_block.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace storctl::locality;

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

/// A disk sda on AHCI with sda1 under an LVM volume dm-0 that is mounted.
class Tree {
 public:
    Tree() {
        write(disk + "/uevent", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n");
        write(disk + "/size", "2048\n");
        write(disk + "/ro", "1\n");
        write(disk + "/queue/logical_block_size", "4096\n");
        write(disk + "/queue/rotational", "1\n");
        write(unit + "/vendor", "ATA     \n");
        write(unit + "/model", "Some disk       \n");
        write(disk + "/sda1/uevent", "MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition\n");
        write(disk + "/sda1/partition", "1\n");
        link(unit, disk + "/device");
        link("bus/scsi", unit + "/subsystem");
        link("bus/scsi/drivers/sd", unit + "/driver");
        write(volume + "/uevent", "MAJOR=253\nMINOR=0\nDEVNAME=dm-0\nDEVTYPE=disk\n");
        write(volume + "/dm/uuid", "LVM-abc\n");
        write(volume + "/dm/name", "vg-data\n");
        link(disk + "/sda1", volume + "/slaves/sda1");
        link(volume, disk + "/sda1/holders/dm-0");
        for (const auto& [number, path] : {std::pair{"8:0", disk}, {"8:1", disk + "/sda1"}, {"253:0", volume}}) {
            link(path, std::string("dev/block/") + number);
        }
        for (const auto& path : {disk, disk + "/sda1", volume})
            link(path, "class/block/" + fs::path(path).filename().string());
        write("../mountinfo", "40 1 253:0 / /srv rw - xfs /dev/mapper/vg-data rw\n");
        write("../swaps", "Filename Type\n");
    }

    KernelPaths paths() const { return {folder_ / "sys", folder_ / "mountinfo", folder_ / "swaps"}; }
    std::string sys(const std::string& path) const { return folder_ / ("sys/" + path); }
    void write(const std::string& path, const std::string& content) {
        fs::create_directories(fs::path(sys(path)).parent_path());
        std::ofstream(sys(path)) << content;
    }
    void link(const std::string& target, const std::string& path) {
        fs::create_directories(fs::path(sys(path)).parent_path());
        fs::create_directories(sys(target));
        fs::create_directory_symlink(sys(target), sys(path));
    }

    const std::string unit = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0";
    const std::string disk = unit + "/block/sda";
    const std::string volume = "devices/virtual/block/dm-0";

 private:
    test::TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("a disk's facts") {
    Tree tree;
    SysfsReader reader(tree.paths().sys);
    const auto facts = reader.read(tree.sys(tree.disk));
    REQUIRE(facts.has_value());
    CHECK(facts->name == "sda");
    CHECK(facts->devnode == "/dev/sda");
    CHECK(facts->number == DeviceNumber{8, 0});
    CHECK(facts->size_bytes == 2048 * 512);
    CHECK(facts->read_only);
    CHECK(facts->logical_block_bytes == 4096);
    CHECK(facts->physical_block_bytes == 4096);
    CHECK(facts->rotational == true);
    CHECK(facts->vendor == "ATA");
    CHECK(facts->model == "Some disk");
    CHECK(facts->vpd_pg83.empty());
    REQUIRE(facts->parents.size() == 6);
    CHECK(facts->parents[0] == ParentFacts{"0:0:0:0", "scsi", "sd"});
    CHECK(facts->parents[3].name == "ata1");

    const auto part = reader.read(tree.sys(tree.disk + "/sda1"));
    REQUIRE(part.has_value());
    CHECK(part->partition_of == "sda");
    const auto volume = reader.read(tree.sys(tree.volume));
    REQUIRE(volume.has_value());
    CHECK(volume->dm_name == "vg-data");
    CHECK(volume->slaves == Names{"sda1"});
}

TEST_CASE("a device that is gone is an error") {
    Tree tree;
    SysfsReader reader(tree.paths().sys);
    const auto facts = reader.read(tree.sys("devices/virtual/block/dm-9"));
    REQUIRE_FALSE(facts.has_value());
    CHECK(facts.error().code == std::errc::no_such_device);
}

TEST_CASE("who uses a device, asked of sysfs alone") {
    Tree tree;
    CHECK(who_uses({8, 0}, tree.paths()).value() == Names{"dm-0 (LVM vg-data)", "mounted on /srv (dm-0)"});
    CHECK(who_uses({8, 1}, tree.paths()).value() == Names{"dm-0 (LVM vg-data)", "mounted on /srv (dm-0)"});
    CHECK(who_uses({253, 0}, tree.paths()).value() == Names{"mounted on /srv"});
    CHECK_FALSE(who_uses({8, 99}, tree.paths()).has_value());
    // a whole disk that is held keeps its partitions from being opened
    tree.write("../mountinfo", "40 1 8:0 / /whole rw - xfs /dev/sda rw\n");
    CHECK(who_uses({8, 1}, tree.paths()).value() == Names{"dm-0 (LVM vg-data)", "sda: mounted on /whole"});
}
