#include <doctest/doctest.h>
#include <unistd.h>

#include "base/file.hpp"
#include "daemon/node_request.hpp"
#include "tests/unit/fake_devices.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

struct Scene {
    TemporaryFolder folder;
    FakeDevices devices;
    std::vector<NodeRecord> existing;
    ClaimedBelow claimed;
    SgMeans sg;

    Scene() {
        devices.devices = {
            {.id = "naa6.private",
             .name = "sda",
             .devnode = "/dev/sda",
             .size_bytes = 1 << 30,
             .logical_block_bytes = 4096},
            {.id = "naa6.shared", .name = "sdb", .devnode = "/dev/sdb", .size_bytes = 1 << 30, .shared = true},
            {.id = "naa6.readonly", .name = "sr0", .devnode = "/dev/sr0", .size_bytes = 1 << 20, .read_only = true},
            {.id = "path.conflict", .name = "sdc", .devnode = "/dev/sdc", .size_bytes = 1 << 20, .conflict = true},
            {.id = "path.unready", .name = "sdd", .devnode = "/dev/sdd", .size_bytes = 1 << 20, .ready = false},
            {.id = "name.null", .name = "null", .devnode = "/dev/null", .size_bytes = 1 << 20},
        };
        devices.ambiguous["twice"] = {"path.a", "path.b"};
        REQUIRE(write_file_atomic(folder / "image", std::string(4096, 'i')).has_value());
        REQUIRE(write_file_atomic(folder / "odd", std::string(1000, 'o')).has_value());
        REQUIRE(write_file_atomic(folder / "empty", "").has_value());
        REQUIRE(::link((folder / "image").c_str(), (folder / "hard").c_str()) == 0);
        REQUIRE(::symlink("image", (folder / "soft").c_str()) == 0);
    }

    std::variant<CheckedNode, NodeRefusal> check(const NodeRequest& request) {
        return check_node_request(request, devices, existing, claimed, sg);
    }
    CheckedNode accepted(const NodeRequest& request) {
        auto checked = check(request);
        const auto* refusal = std::get_if<NodeRefusal>(&checked);
        REQUIRE_MESSAGE(refusal == nullptr, (refusal ? refusal->error + refusal->parameters.dump() : ""));
        return std::get<CheckedNode>(checked);
    }
    NodeRefusal refusal(const NodeRequest& request) {
        auto checked = check(request);
        REQUIRE(std::holds_alternative<NodeRefusal>(checked));
        return std::get<NodeRefusal>(checked);
    }
};

}  // namespace

TEST_CASE("a device that may be used becomes a record with what the inventory knows") {
    Scene scene;
    const auto node = scene.accepted({.name = "web1", .device = "sda", .loop = true});
    CHECK(node.record.name == "web1");
    CHECK(node.record.device_id == "naa6.private");
    CHECK(node.record.backing_path == "/dev/sda");
    CHECK(node.record.backing_kind == "block");
    CHECK(node.record.open == "single-writer");
    CHECK(node.record.loop);
    CHECK(node.record.size_bytes == 1u << 30);
    CHECK(node.record.logical_block_bytes == 4096);
    CHECK(node.warnings.empty());
}

TEST_CASE("a disk gets a SCSI generic device when it is asked for, or else as configured") {
    struct Row {
        const char* name;
        std::optional<bool> asked;
        SgDefault by_default;
        bool cuse, expected;
    };
    for (const Row& row : {
             Row{"nothing said, it can be had", std::nullopt, SgDefault::automatic, true, true},
             Row{"nothing said, it cannot be had", std::nullopt, SgDefault::automatic, false, false},
             Row{"always, it can be had", std::nullopt, SgDefault::yes, true, true},
             Row{"always, it cannot be had yet", std::nullopt, SgDefault::yes, false, true},
             Row{"never", std::nullopt, SgDefault::no, true, false},
             Row{"never, but asked for", true, SgDefault::no, true, true},
             Row{"always, but not wanted", false, SgDefault::yes, true, false},
             Row{"not wanted where it cannot be had", false, SgDefault::automatic, false, false},
         }) {
        SUBCASE(row.name) {
            Scene scene;
            scene.sg = {.by_default = row.by_default, .cuse = row.cuse};
            const auto sg = scene.accepted({.name = "a", .device = "sda", .sg = row.asked}).record.scsi.sg;
            REQUIRE(sg.has_value() == row.expected);
            if (!sg) return;
            CHECK(sg->asked == row.asked.value_or(false));
            CHECK(sg->minor == 40000);
        }
    }
}

TEST_CASE("a SCSI generic device that was asked for and cannot be had is refused with what to do") {
    Scene scene;
    scene.sg = {.by_default = SgDefault::yes, .cuse = false};
    const auto refusal = scene.refusal({.name = "a", .device = "sda", .sg = true});
    CHECK(refusal.error == "InvalidValue");
    CHECK(refusal.parameters["parameter"] == "sg");
    CHECK(refusal.parameters["message"].get<std::string>().find("modprobe cuse") != std::string::npos);
}

TEST_CASE("a SCSI generic device takes the lowest minor number that no node has") {
    Scene scene;
    scene.sg.cuse = true;
    const auto with = [](const std::string& name, unsigned minor) {
        NodeRecord record{.name = name, .backing_path = "/none/" + name};
        record.scsi.sg = {.asked = false, .minor = minor};
        return record;
    };
    scene.existing = {with("x", 40000), with("y", 40002), {.name = "z", .backing_path = "/none/z"}};
    CHECK(scene.accepted({.name = "a", .device = "sda"}).record.scsi.sg->minor == 40001);
    scene.existing.push_back(with("w", 40001));
    CHECK(scene.accepted({.name = "a", .device = "sda"}).record.scsi.sg->minor == 40003);
}

TEST_CASE("a shared device is warned about when it is written to, and only then") {
    Scene scene;
    CHECK(scene.accepted({.name = "a", .device = "sdb"}).warnings.size() == 1);
    CHECK(scene.accepted({.name = "a", .device = "sdb", .open = "shared"}).warnings.size() == 1);
    CHECK(scene.accepted({.name = "a", .device = "sdb", .open = "read-only"}).warnings.empty());
}

TEST_CASE("a read-only device gives a read-only node") {
    Scene scene;
    CHECK(scene.accepted({.name = "a", .device = "sr0"}).record.open == "read-only");
    const auto refusal = scene.refusal({.name = "a", .device = "sr0", .open = "shared"});
    CHECK(refusal.error == "InvalidValue");
    CHECK(refusal.parameters["parameter"] == "open");
}

TEST_CASE("a regular file becomes a record without a device") {
    Scene scene;
    const auto node = scene.accepted({.name = "a", .device = scene.folder / "image"});
    CHECK_FALSE(node.record.device_id.has_value());
    CHECK(node.record.backing_kind == "file");
    CHECK(node.record.size_bytes == 4096);
    CHECK(node.record.open == "single-writer");
}

TEST_CASE("what cannot become a node is refused by the error that says why") {
    Scene scene;
    scene.existing = {{.name = "there", .device_id = "naa6.private", .backing_path = "/dev/sda"},
                      {.name = "file", .backing_path = scene.folder / "image"}};
    const std::string image = scene.folder / "image";
    struct Row {
        const char* name;
        NodeRequest request;
        const char* error;
        const char* says;
    };
    const Row rows[] = {
        {"a name with a slash", {.name = "a/b", .device = "sdb"}, "InvalidValue", "name"},
        {"an empty name", {.name = "", .device = "sdb"}, "InvalidValue", "name"},
        {"a name that is taken", {.name = "there", .device = "sdb"}, "AlreadyExists", "there"},
        {"an open policy that is none",
         {.name = "a", .device = "sdb", .open = "rw"},
         "InvalidValue",
         "single-writer, shared or read-only"},
        {"a device in conflict", {.name = "a", .device = "sdc"}, "Refused", "identifier"},
        {"a device that is not ready", {.name = "a", .device = "sdd"}, "Refused", "not ready"},
        {"an ambiguous name", {.name = "a", .device = "twice"}, "DeviceAmbiguous", "path.b"},
        {"a name of nothing", {.name = "a", .device = "nothing"}, "DeviceNotFound", "nothing"},
        {"a path of nothing", {.name = "a", .device = scene.folder / "none"}, "DeviceNotFound", "none"},
        {"a folder",
         {.name = "a", .device = scene.folder.path()},
         "InvalidValue",
         "neither a block device nor a regular file"},
        {"a character device",
         {.name = "a", .device = "/dev/zero"},
         "InvalidValue",
         "neither a block device nor a regular file"},
        {"an empty file", {.name = "a", .device = scene.folder / "empty"}, "InvalidValue", "multiple of 512"},
        {"a file of half sectors", {.name = "a", .device = scene.folder / "odd"}, "InvalidValue", "1000 bytes"},
        {"a device behind another node", {.name = "a", .device = "sda"}, "Refused", "node 'there'"},
        {"a file behind another node", {.name = "a", .device = image}, "Refused", "node 'file'"},
        {"the same file by another link", {.name = "a", .device = scene.folder / "hard"}, "Refused", "node 'file'"},
        {"the same file by a symbolic link", {.name = "a", .device = scene.folder / "soft"}, "Refused", "node 'file'"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            const auto refusal = scene.refusal(row.request);
            INFO(refusal.parameters.dump());
            CHECK(refusal.error == row.error);
            CHECK(refusal.parameters.dump().find(row.says) != std::string::npos);
        }
    }
}

TEST_CASE("a partition is not silently taken for its whole disk") {
    Scene scene;
    // the lookup leads from one block device to another, as it does from a partition to its disk
    if (::access("/dev/loop0", F_OK) != 0 || ::access("/dev/loop1", F_OK) != 0) return;
    class Leading : public FakeDevices {
        DeviceMatch find(const std::string&) const override {
            return {.outcome = DeviceMatch::Outcome::found,
                    .device = DeviceSummary{.id = "x.y", .name = "loop0", .devnode = "/dev/loop0"}};
        }
    } devices;
    const auto part = check_node_request({.name = "a", .device = "/dev/loop1"}, devices, {});
    REQUIRE(std::holds_alternative<NodeRefusal>(part));
    CHECK(std::get<NodeRefusal>(part).error == "InvalidValue");
    CHECK(std::get<NodeRefusal>(part).parameters.dump().find("whole device") != std::string::npos);
    CHECK(std::holds_alternative<NodeRefusal>(check_node_request({.name = "a", .device = "loop1"}, devices, {})));
    CHECK(std::holds_alternative<CheckedNode>(check_node_request({.name = "a", .device = "/dev/loop0"}, devices, {})));
}

TEST_CASE("a disk on something that a virtual machine has claimed is refused, naming the claim") {
    Scene scene;
    std::vector<std::string> asked;
    scene.claimed = [&](const std::string& block) -> std::optional<std::string> {
        asked.push_back(block);
        if (block == "sda") return "claim 3: 0951:1666 Kingston (0000:00:14.0/2) for vm:web1: active";
        return std::nullopt;
    };
    const auto refusal = scene.refusal({.name = "a", .device = "naa6.private"});
    CHECK(refusal.error == "Refused");
    CHECK(refusal.parameters["blockers"][0].get<std::string>().find("vm:web1") != std::string::npos);
    CHECK(refusal.parameters["message"].get<std::string>().find("storctl usb release") != std::string::npos);
    scene.accepted({.name = "a", .device = "naa6.shared"});
    scene.accepted({.name = "a", .device = scene.folder / "image"});
    CHECK(asked == std::vector<std::string>{"sda", "sdb"});
}
