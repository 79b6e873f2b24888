#include <doctest/doctest.h>

#include "daemon/state_db.hpp"
#include "tests/unit/run_sql.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace storctl::test;
using node::scsi::ReservationState;

namespace {

StateDb open_or_fail(const std::string& path) {
    auto db = StateDb::open(path);
    REQUIRE_MESSAGE(db.has_value(), db.error().message());
    return std::move(*db);
}

NodeRecord disk(const std::string& name) {
    NodeRecord entry{.name = name, .backing_path = "/dev/sda", .backing_kind = "block", .open = "shared"};
    entry.created = *parse_time("2026-11-22T12:00:00Z");
    entry.scsi.sg = {.asked = true, .minor = 40002};
    entry.scsi.identity = {.vendor = "ATA",
                           .product = "Disk",
                           .revision = "1",
                           .serial = "S1",
                           .naa = {0x50, 0, 0xc5, 0, 0xa1, 0xb2, 0xc3, 0xd4},
                           .eui64 = {}};
    return entry;
}

ReservationState state(uint64_t version, uint64_t key = 0xabc) {
    return {.version = version, .generation = 1, .registrations = {{{"alpha:host", 1}, key}}};
}

}  // namespace

TEST_CASE("a disk comes back with its SCSI generic device and its identity") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        REQUIRE(db.put_node(disk("a")).has_value());
        NodeRecord without = disk("b");
        without.scsi.sg.reset();
        REQUIRE(db.put_node(without).has_value());
    }
    StateDb db = open_or_fail(path);
    const auto nodes = *db.nodes();
    REQUIRE(nodes.size() == 2);
    REQUIRE(nodes[0].scsi.sg.has_value());
    CHECK(nodes[0].scsi.sg->asked);
    CHECK(nodes[0].scsi.sg->minor == 40002);
    CHECK(nodes[0].scsi.identity == disk("a").scsi.identity);
    CHECK_FALSE(nodes[1].scsi.sg.has_value());
    CHECK(nodes[1].scsi.identity == disk("b").scsi.identity);
}

TEST_CASE("a database of the schema before SCSI disks keeps its nodes, without SCSI generic devices") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        REQUIRE(db.put_node(disk("a")).has_value());
    }
    run_sql(path, "ALTER TABLE node DROP COLUMN scsi; DROP TABLE reservation; PRAGMA user_version=3");
    StateDb db = open_or_fail(path);
    REQUIRE(db.nodes()->size() == 1);
    CHECK((*db.nodes())[0].backing_path == "/dev/sda");
    CHECK_FALSE((*db.nodes())[0].scsi.sg.has_value());
    CHECK(db.reservations()->empty());
    REQUIRE(db.put_node(disk("a")).has_value());
    CHECK((*db.nodes())[0].scsi.sg.has_value());
    CHECK(*db.change_reservations({.device = "d", .state = state(1), .boot_id = "b"}, std::nullopt));
}

TEST_CASE("a disk that cannot be read is damage, named with the file and the node") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    REQUIRE(db.put_node(disk("web1")).has_value());
    struct Row {
        const char* name;
        const char* sql;
    };
    for (const Row& row : {
             Row{"no JSON", "UPDATE node SET scsi = '{'"},
             Row{"no object", "UPDATE node SET scsi = '3'"},
             Row{"no minor number", "UPDATE node SET scsi = json_remove(scsi, '$.sg.minor')"},
             Row{"no identity", "UPDATE node SET scsi = json_remove(scsi, '$.identity')"},
             Row{"an identifier of a wrong length", "UPDATE node SET scsi = json_set(scsi, '$.identity.naa', '50')"},
         }) {
        SUBCASE(row.name) {
            run_sql(path, row.sql);
            const auto nodes = db.nodes();
            REQUIRE_FALSE(nodes.has_value());
            CHECK(nodes.error().message().find(path) != std::string::npos);
            CHECK(nodes.error().message().find("node 'web1'") != std::string::npos);
        }
    }
}

TEST_CASE("reservations change only from the version that was expected") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        const auto change = [&](const char* device, const ReservationState& to, std::optional<uint64_t> expected) {
            auto changed = db.change_reservations({.device = device, .state = to, .boot_id = "boot-1"}, expected);
            REQUIRE_MESSAGE(changed, changed.error().message());
            return *changed;
        };
        CHECK_FALSE(change("d", state(1), 0));  // nothing is stored
        CHECK(change("d", state(1), std::nullopt));
        CHECK_FALSE(change("d", state(1, 0xfff), std::nullopt));
        CHECK(change("d", state(2), 1));
        CHECK_FALSE(change("d", state(2, 0xfff), 1));
        CHECK(change("e", state(7), std::nullopt));
    }
    StateDb db = open_or_fail(path);
    auto stored = *db.reservations();
    REQUIRE(stored.size() == 2);
    CHECK(stored[0].device == "d");
    CHECK(stored[0].state == state(2));
    CHECK(stored[0].boot_id == "boot-1");
    CHECK(stored[1].device == "e");
    REQUIRE(db.remove_reservations("d").has_value());
    stored = *db.reservations();
    REQUIRE(stored.size() == 1);
    CHECK(stored[0].device == "e");
    run_sql(path, "UPDATE reservation SET state = json_set(state, '$.version', -1)");
    const auto damaged = db.reservations();
    REQUIRE_FALSE(damaged.has_value());
    CHECK(damaged.error().message().find("'e'") != std::string::npos);
    CHECK(damaged.error().message().find(path) != std::string::npos);
}
