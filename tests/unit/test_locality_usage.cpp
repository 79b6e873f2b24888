// Mount table and swaps as text, who uses a device, and which devices the running system is on.

#include <doctest/doctest.h>

#include "locality/boot.hpp"
#include "locality/mounts.hpp"
#include "locality/usage.hpp"
#include "tests/unit/locality_facts.hpp"

using namespace storctl;
using namespace storctl::locality;
using namespace storctl::test;

namespace {

using Names = std::vector<std::string>;

BlockFacts numbered(BlockFacts facts, uint32_t major, uint32_t minor) {
    facts.number = {major, minor};
    return facts;
}

BlockFacts part(const std::string& name, const std::string& disk, uint32_t minor) {
    auto facts = numbered(block(name), 8, minor);
    facts.partition_of = disk;
    return facts;
}

/// A host: sda with three partitions (ESP, /boot, LVM), two logical volumes; sdb and sdc as a btrfs; dm-3 a map on sdd.
std::vector<BlockFacts> host() {
    auto root = numbered(mapped("dm-0", "LVM-root", {"sda3"}), 253, 0);
    root.dm_name = "vg-root";
    auto swap = numbered(mapped("dm-1", "LVM-swap", {"sda3"}), 253, 1);
    swap.dm_name = "vg-swap";
    auto link = numbered(block("sde"), 8, 64);
    link.links = {"/dev/disk/by-label/scratch"};
    return {numbered(block("sda"), 8, 0),
            part("sda1", "sda", 1),
            part("sda2", "sda", 2),
            part("sda3", "sda", 3),
            root,
            swap,
            numbered(block("sdb"), 8, 16),
            numbered(block("sdc"), 8, 32),
            numbered(block("sdd"), 8, 48),
            numbered(mapped("dm-3", "mpath-x", {"sdd"}), 253, 3),
            link};
}

const char* mountinfo =
    "22 27 0:21 / /proc rw - proc proc rw\n"
    "27 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n"
    "28 27 8:2 / /boot rw - ext4 /dev/sda2 rw\n"
    "29 27 0:40 / /boot/efi rw - autofs systemd-1 rw,fd=31\n"
    "30 29 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n"
    "31 27 0:50 / /data rw shared:7 - btrfs /dev/sdb rw\n"
    "32 27 0:50 /sub /data\\040two rw master:7 shared:8 - btrfs /dev/sdb rw\n"
    "33 27 8:64 / /scratch rw - ext4 /dev/disk/by-label/scratch rw\n";
const char* swaps = "Filename\t\tType\t\tSize\tUsed\tPriority\n/dev/dm-1  partition\t524284\t0\t-2\n";

std::vector<const BlockFacts*> pointers(const std::vector<BlockFacts>& devices) {
    std::vector<const BlockFacts*> out;
    for (const auto& facts : devices) out.push_back(&facts);
    return out;
}

UsageTexts texts(const std::string& mounts) {
    return {.mounts = parse_mountinfo(mounts), .swaps = parse_swaps(swaps), .groups = {{"sdb", "sdc"}}};
}

}  // namespace

TEST_CASE("mountinfo lines") {
    const auto mounts = parse_mountinfo(
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n"
        "37 35 0:31 / /with\\040blank\\134 rw - tmpfs tmp\\011fs rw\n");
    REQUIRE(mounts.size() == 2);
    CHECK(mounts[0].number == DeviceNumber{98, 0});
    CHECK(mounts[0].root == "/mnt1");
    CHECK(mounts[0].mount_point == "/mnt2");
    CHECK(mounts[0].type == "ext3");
    CHECK(mounts[0].source == "/dev/root");
    CHECK(mounts[1].mount_point == "/with blank\\");
    CHECK(mounts[1].source == "tmp\tfs");
}

TEST_CASE("mountinfo lines that cannot be read are left out") {
    for (const char* line :
         {"", "36", "36 35 98 / /mnt rw - ext3 /dev/root rw", "36 35 98:x / /mnt rw - ext3 /dev/root rw",
          "36 35 98:0 / /mnt rw ext3 /dev/root rw", "36 35 98:0 / /mnt rw - ext3",
          "36 35 99999999999:0 / /mnt rw - ext3 /dev/root rw", "36 35 :0 / /mnt rw - ext3 /dev/root rw"}) {
        CAPTURE(line);
        CHECK(parse_mountinfo(line).empty());
    }
    CHECK(unescape_octal("\\04") == "\\04");
    CHECK(unescape_octal("\\999") == "\\999");
    CHECK(unescape_octal("a\\") == "a\\");
}

TEST_CASE("swaps") {
    CHECK(parse_swaps(swaps) == Names{"/dev/dm-1"});
    CHECK(parse_swaps("Filename\tType\n/swap\\040file  file 1 0 -2\n/dev/sda1 partition 1 0 -3\n") ==
          Names{"/swap file", "/dev/sda1"});
    CHECK(parse_swaps("").empty());
}

TEST_CASE("who uses a device, its partitions and what is stacked on them") {
    const auto devices = host();
    const Usage usage(usage_tree(pointers(devices)), texts(mountinfo));
    CHECK(usage.users_of("sda") == Names{"mounted on /boot/efi (sda1)", "mounted on /boot (sda2)", "dm-0 (LVM vg-root)",
                                         "mounted on / (dm-0)", "dm-1 (LVM vg-swap)", "swap (dm-1)"});
    CHECK(usage.users_of("sda2") == Names{"mounted on /boot"});
    CHECK(usage.users_of("dm-1") == Names{"swap"});
    // btrfs names one of its devices and is on both
    CHECK(usage.users_of("sdb") == Names{"mounted on /data", "mounted on /data two"});
    CHECK(usage.users_of("sdc") == Names{"mounted on /data", "mounted on /data two"});
    CHECK(usage.users_of("sdd") == Names{"dm-3 (multipath map_dm-3)"});
    CHECK(usage.users_of("dm-3").empty());
    CHECK(usage.users_of("sde") == Names{"mounted on /scratch"});
    CHECK(usage.users_of("nothing").empty());
}

TEST_CASE("a device with a thousand mounts is described in short") {
    std::string text;
    for (int i = 0; i < 1000; ++i)
        text += "33 27 8:64 / /var/lib/containers/" + std::to_string(i) + " rw - ext4 /dev/sde rw\n";
    const auto devices = host();
    const auto users = Usage(usage_tree(pointers(devices)), texts(text)).users_of("sde");
    REQUIRE(users.size() == 9);
    CHECK(users.back() == "mounted on 992 more places");
}

TEST_CASE("mount points are shown so that a terminal takes them") {
    const auto devices = host();
    const Usage usage(usage_tree(pointers(devices)), texts("33 27 8:64 / /a\\033[2J\xc3\xa4 rw - ext4 /dev/sde rw\n"
                                                           "34 27 8:64 / /\xc3\xa4 rw - ext4 /dev/sde rw\n"));
    CHECK(usage.users_of("sde") == Names{"mounted on /a\\x1b[2J\\xc3\\xa4", "mounted on /\xc3\xa4"});
}

TEST_CASE("boot marks") {
    const auto devices = host();
    const auto marks = [&](const std::string& mounts) {
        const Usage usage(usage_tree(pointers(devices)), texts(mounts));
        return boot_marks(pointers(devices), usage);
    };
    SUBCASE("through LVM and partitions to the disk; others are known not to") {
        const auto boot = marks(mountinfo);
        CHECK(boot.of("sda") == true);
        CHECK(boot.of("dm-0") == true);
        CHECK(boot.of("sda3") == true);
        CHECK(boot.of("dm-1") == false);
        CHECK(boot.of("sdb") == false);
    }
    SUBCASE("a boot file system on another disk") {
        const auto boot = marks("27 1 8:16 / / rw - ext4 /dev/sdb rw\n28 27 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n");
        CHECK(boot.of("sda") == true);
        CHECK(boot.of("sdb") == true);
        CHECK(boot.of("sdd") == false);
    }
    SUBCASE("btrfs by its source, on all its devices") {
        const auto boot = marks("27 1 0:33 /root / rw - btrfs /dev/sdc rw\n");
        CHECK(boot.of("sdb") == true);
        CHECK(boot.of("sdc") == true);
        CHECK(boot.of("sda") == false);
    }
    SUBCASE("multipath: the map and its paths") {
        const auto boot = marks("27 1 253:3 / / rw - ext4 /dev/mapper/map_dm-3 rw\n");
        CHECK(boot.of("dm-3") == true);
        CHECK(boot.of("sdd") == true);
        CHECK(boot.of("sda") == false);
    }
    SUBCASE("the topmost root counts") {
        const auto boot = marks("1 1 0:2 / / rw - rootfs rootfs rw\n27 1 8:64 / / rw - ext4 /dev/sde rw\n");
        CHECK(boot.of("sde") == true);
        CHECK(boot.of("sda") == false);
    }
    SUBCASE("a root that we cannot follow leaves the others unknown") {
        const auto boot = marks("27 1 0:60 / / rw - overlay overlay rw\n28 27 8:1 / /boot rw - ext4 /dev/sda1 rw\n");
        CHECK(boot.of("sda") == true);
        CHECK_FALSE(boot.of("sdb").has_value());
    }
    SUBCASE("a root on no block device leaves none") {
        CHECK(marks("27 1 0:60 / / rw - nfs4 server:/root rw\n").of("sda") == false);
    }
    SUBCASE("no mount table at all") { CHECK_FALSE(marks("").of("sda").has_value()); }
}
