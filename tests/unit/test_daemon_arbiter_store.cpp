#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include "base/file.hpp"
#include "daemon/state_db.hpp"
#include "tests/unit/run_sql.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using test::run_sql;
using namespace storctl::usbarb;
using storctl::test::TemporaryFolder;

namespace {

StateDb open_or_fail(const std::string& path) {
    auto db = StateDb::open(path);
    REQUIRE_MESSAGE(db.has_value(), db.error().message());
    return std::move(*db);
}

ClaimRecord full_claim(ClaimId id) {
    ClaimRecord claim{.id = id,
                      .kind = ClaimKind::hub,
                      .target = {.controller = "0000:00:14.0", .usb3_only = true, .ports = {2, 14, 1}},
                      .holder = "vm:web \"1\"; ü",
                      .state = ClaimState::provisional,
                      .since = *parse_time("2026-11-22T12:00:00Z"),
                      .deadline = *parse_time("2026-11-22T12:02:00Z"),
                      .provisional_until = *parse_time("2026-11-22T12:03:00Z"),
                      .covered = true,
                      .origin = "rule:7",
                      .reason = "it's ours",
                      .description = "1d6b:0002 A hub",
                      .follow_socket = true,
                      .keep_drivers = true,
                      .keep_off = true,
                      .former_driver = "xhci_hcd",
                      .boot_id = "b0",
                      .phase = Phase::failed,
                      .message = "no"};
    claim.identities[0] = Identity{.vendor_id = 0xffff, .product_id = 0x0002, .serial = "S/N \"1\""};
    claim.identities[1] = Identity{.vendor_id = 1, .product_id = 0};
    return claim;
}

}  // namespace

TEST_CASE("claims come back from the database as they were put in, without what is computed") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    const ClaimRecord claim = full_claim(41);
    ClaimRecord plain{.id = 42, .kind = ClaimKind::controller, .target = {.controller = "platform/xhci-hcd.0"}};
    plain.since = *parse_time("2026-11-22T12:00:01Z");
    {
        StateDb db = open_or_fail(path);
        CHECK(db.claims()->empty());
        ClaimRecord counted = claim;
        counted.counted = {"0000:00:14.0"};
        counted.observed = true;
        REQUIRE(db.change_claims({plain, counted}, {}).has_value());
    }
    StateDb db = open_or_fail(path);
    auto stored = db.claims();
    REQUIRE_MESSAGE(stored.has_value(), stored.error().message());
    REQUIRE(stored->size() == 2);
    CHECK((*stored)[0] == claim);
    CHECK((*stored)[1] == plain);

    ClaimRecord changed = plain;
    changed.state = ClaimState::lost;
    REQUIRE(db.change_claims({changed}, {41, 99}).has_value());
    stored = db.claims();
    REQUIRE(stored->size() == 1);
    CHECK((*stored)[0] == changed);
}

TEST_CASE("a change of several claims that fails leaves all of them as they were") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    REQUIRE(db.change_claims({full_claim(1)}, {}).has_value());
    run_sql(path, "CREATE TRIGGER full BEFORE INSERT ON claim WHEN NEW.id = 3 BEGIN SELECT RAISE(FAIL, 'full'); END");
    auto put = db.change_claims({full_claim(2), full_claim(3)}, {1});
    REQUIRE_FALSE(put.has_value());
    CHECK(put.error().message().find("full") != std::string::npos);
    REQUIRE(db.claims()->size() == 1);
    CHECK((*db.claims())[0].id == 1);
    run_sql(path, "DROP TRIGGER full");
    CHECK(db.change_claims({full_claim(2), full_claim(3)}, {1}).has_value());
    CHECK(db.claims()->size() == 2);
}

TEST_CASE("rules come back as they were, under ids that are never given twice") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    Rule by_socket{.socket = Socket{.controller = "0000:00:14.0", .ports = {2, 1}}, .holder = "vm:web1"};
    by_socket.created = *parse_time("2026-11-22T12:00:00Z");
    by_socket.created_by = "root (uid 0)";
    Rule by_ids{.vendor_id = 0x046d, .product_id = 0xc31c, .serial = "", .device_class = 255, .holder = "host"};
    by_ids.created = by_socket.created;
    {
        StateDb db = open_or_fail(path);
        by_socket.id = *db.add_usb_rule(by_socket);
        by_ids.id = *db.add_usb_rule(by_ids);
        CHECK(by_socket.id != by_ids.id);
    }
    StateDb db = open_or_fail(path);
    const auto stored = *db.usb_rules();
    REQUIRE(stored.size() == 2);
    CHECK(stored[0] == by_socket);
    CHECK(stored[1] == by_ids);
    REQUIRE(db.remove_usb_rule(by_ids.id).has_value());
    CHECK(*db.add_usb_rule(by_ids) > by_ids.id);
}

TEST_CASE("a database of the schema before claims keeps its data and learns of claims") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    run_sql(path, R"(
        CREATE TABLE sharing_override (
          device_id TEXT PRIMARY KEY NOT NULL, shared INTEGER NOT NULL, reason TEXT NOT NULL,
          author TEXT NOT NULL, time TEXT NOT NULL) STRICT;
        CREATE TABLE node (
          name TEXT PRIMARY KEY NOT NULL, device_id TEXT, backing_path TEXT NOT NULL, backing_kind TEXT NOT NULL,
          open TEXT NOT NULL, loop INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
          logical_block_bytes INTEGER NOT NULL, created TEXT NOT NULL, created_by TEXT NOT NULL) STRICT;
        INSERT INTO node VALUES ('web1', NULL, '/srv/web1', 'file', 'shared', 0, 4096, 512, '2026-11-22T12:00:00Z', 'root');
        INSERT INTO sharing_override VALUES ('naa6.1', 1, 'ours', 'root', '2026-11-22T12:00:00Z');
        PRAGMA application_id=0x73746f72; PRAGMA user_version=1)");
    StateDb db = open_or_fail(path);
    REQUIRE(db.nodes()->size() == 1);
    CHECK((*db.nodes())[0].backing_path == "/srv/web1");
    REQUIRE(db.sharing_overrides()->size() == 1);
    CHECK(db.claims()->empty());
    CHECK(db.usb_rules()->empty());
    CHECK(db.change_claims({full_claim(1)}, {}).has_value());
}

TEST_CASE("a claim that cannot be read is damage, named with the file") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    REQUIRE(db.change_claims({full_claim(1)}, {}).has_value());
    struct Row {
        const char* name;
        const char* sql;
    };
    const Row rows[] = {
        {"a state that is none", "UPDATE claim SET state = 'sleeping'"},
        {"a kind that is none", "UPDATE claim SET kind = 'bus'"},
        {"a phase that is none", "UPDATE claim SET phase = ''"},
        {"a socket that is none", "UPDATE claim SET target = '0000:00:14.0/0'"},
        {"a time that is none", "UPDATE claim SET since = 'now'"},
        {"identities that are no JSON", "UPDATE claim SET identities = '{'"},
        {"identities of another form", "UPDATE claim SET identities = '{\"usb2\": 3}'"},
        {"an identity without its serial",
         "UPDATE claim SET identities = '{\"usb3\": {\"vendor_id\": 1, \"product_id\": 2}}'"},
        {"an identity with a number that is too long",
         "UPDATE claim SET identities = '{\"usb2\": {\"vendor_id\": 65536, \"product_id\": 2, \"serial\": \"\"}}'"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            run_sql(path, row.sql);
            auto claims = db.claims();
            REQUIRE_FALSE(claims.has_value());
            CHECK(claims.error().message().find(path) != std::string::npos);
        }
    }
}
