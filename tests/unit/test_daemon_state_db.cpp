#include <map>
#include <random>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.hpp"
#include "daemon/state_db.hpp"
#include "tests/unit/run_sql.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using storctl::test::TemporaryFolder;
using test::run_sql;

namespace {

StateDb open_or_fail(const std::string& path) {
    auto db = StateDb::open(path);
    REQUIRE_MESSAGE(db.has_value(), db.error().message());
    return std::move(*db);
}

NodeRecord sample_node(const std::string& name) {
    NodeRecord entry{.name = name,
                     .device_id = "naa6.60014050001",
                     .backing_path = "/dev/sda",
                     .backing_kind = "block",
                     .open = "single-writer",
                     .loop = true,
                     .size_bytes = uint64_t{1} << 44,
                     .logical_block_bytes = 4096,
                     .created_by = "root (uid 0)"};
    entry.created = *parse_time("2026-11-22T12:00:00Z");
    return entry;
}

NodeRecord sample_usb_node(const std::string& name) {
    NodeRecord entry{.name = name,
                     .backing_path = "/dev/bus/usb/001/004",
                     .backing_kind = "usb",
                     .open = "shared",
                     .created_by = "root (uid 0)"};
    entry.created = *parse_time("2026-11-22T12:00:00Z");
    entry.usb = UsbNodeRecord{.claim = 7,
                              .socket = {.controller = "0000:00:14.0", .ports = {2, 1}},
                              .description = "1050:0407 Yubico \xff",
                              .holder = "vm:web1",
                              .own_claim = true,
                              .minor = 8193,
                              .policy = {.interfaces = std::set<uint8_t>{0, 255},
                                         .deny = {node::usbfs::Denial::reset, node::usbfs::Denial::vendor}},
                              .descriptors = {0x12, 0x01, 0xff}};
    return entry;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a new state database is private, empty, and keeps what is put into it") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        CHECK(db.nodes()->empty());
        CHECK(db.sharing_overrides()->empty());
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0600);

        SharingOverride entry{
            .device_id = "eui64.00a0", .shared = true, .reason = "it's \"ours\"; ü", .author = "root (uid 0)"};
        entry.time = *parse_time("2026-11-22T12:30:00Z");
        REQUIRE(db.put_sharing_override(entry).has_value());
        REQUIRE(db.put_node(sample_node("web1")).has_value());
        NodeRecord file = sample_node("file1");
        file.device_id.reset();
        REQUIRE(db.put_node(file).has_value());
    }
    StateDb db = open_or_fail(path);
    const auto overrides = *db.sharing_overrides();
    REQUIRE(overrides.size() == 1);
    CHECK(overrides[0].device_id == "eui64.00a0");
    CHECK(overrides[0].shared);
    CHECK(overrides[0].reason == "it's \"ours\"; ü");
    CHECK(overrides[0].author == "root (uid 0)");
    CHECK(format_time(overrides[0].time) == "2026-11-22T12:30:00Z");
    const auto nodes = *db.nodes();
    REQUIRE(nodes.size() == 2);
    CHECK(nodes[0].name == "file1");
    CHECK_FALSE(nodes[0].device_id.has_value());
    CHECK(nodes[1].name == "web1");
    CHECK(nodes[1].device_id == "naa6.60014050001");
    CHECK(nodes[1].backing_path == "/dev/sda");
    CHECK(nodes[1].backing_kind == "block");
    CHECK(nodes[1].open == "single-writer");
    CHECK(nodes[1].loop);
    CHECK(nodes[1].size_bytes == uint64_t{1} << 44);
    CHECK(nodes[1].logical_block_bytes == 4096);
    CHECK(format_time(nodes[1].created) == "2026-11-22T12:00:00Z");
    CHECK(nodes[1].created_by == "root (uid 0)");
}

TEST_CASE("seeded random changes leave what a plain map would hold, over reopening") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    const unsigned seed = std::random_device{}();
    INFO("seed ", seed);
    std::mt19937 random(seed);
    std::map<std::string, uint64_t> sizes;
    std::map<std::string, bool> flags;
    StateDb db = open_or_fail(path);
    for (int step = 0; step < 150; ++step) {
        const std::string key = "k" + std::to_string(random() % 8);
        switch (random() % 5) {
            case 0: {
                NodeRecord entry = sample_node(key);
                entry.size_bytes = sizes[key] = random();
                REQUIRE(db.put_node(entry).has_value());
                break;
            }
            case 1:
                REQUIRE(db.remove_node(key).has_value());
                sizes.erase(key);
                break;
            case 2: {
                flags[key] = random() % 2 == 0;
                REQUIRE(
                    db.put_sharing_override({.device_id = key, .shared = flags[key], .time = wall_now()}).has_value());
                break;
            }
            case 3:
                REQUIRE(db.remove_sharing_override(key).has_value());
                flags.erase(key);
                break;
            case 4:
                if (step % 10 == 0) {
                    StateDb gone = std::move(db);
                    db = open_or_fail(path);
                }
                break;
        }
    }
    std::map<std::string, uint64_t> stored_sizes;
    const auto nodes = *db.nodes();
    for (const auto& entry : nodes) stored_sizes[entry.name] = entry.size_bytes;
    std::map<std::string, bool> stored_flags;
    const auto overrides = *db.sharing_overrides();
    for (const auto& entry : overrides) stored_flags[entry.device_id] = entry.shared;
    CHECK(stored_sizes == sizes);
    CHECK(stored_flags == flags);
}

TEST_CASE("a USB node comes back with its claim, its policy and its descriptors") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        REQUIRE(db.put_node(sample_usb_node("token")).has_value());
        NodeRecord open_to_all = sample_usb_node("all");
        open_to_all.usb->policy = {.interfaces = std::nullopt, .deny = {}};
        open_to_all.usb->own_claim = false;
        open_to_all.usb->descriptors.clear();
        REQUIRE(db.put_node(open_to_all).has_value());
        REQUIRE(db.put_node(sample_node("web1")).has_value());
    }
    StateDb db = open_or_fail(path);
    const auto nodes = *db.nodes();
    REQUIRE(nodes.size() == 3);
    REQUIRE(nodes[0].usb.has_value());
    CHECK_FALSE(nodes[0].usb->policy.interfaces.has_value());
    CHECK(nodes[0].usb->policy.deny.empty());
    CHECK_FALSE(nodes[0].usb->own_claim);
    CHECK(nodes[0].usb->descriptors.empty());
    REQUIRE(nodes[1].kind() == node::NodeKind::usb);
    const UsbNodeRecord& usb = *nodes[1].usb;
    CHECK(usb.claim == 7);
    CHECK(usbarb::to_text(usb.socket) == "0000:00:14.0/2.1");
    CHECK(usb.description.starts_with("1050:0407 Yubico "));
    CHECK(usb.holder == "vm:web1");
    CHECK(usb.own_claim);
    CHECK(usb.minor == 8193);
    CHECK(usb.policy.interfaces == std::set<uint8_t>{0, 255});
    CHECK(usb.policy.deny == std::set{node::usbfs::Denial::reset, node::usbfs::Denial::vendor});
    CHECK(usb.descriptors == std::vector<uint8_t>{0x12, 0x01, 0xff});
    CHECK(nodes[1].backing_kind == "usb");
    CHECK(nodes[2].kind() == node::NodeKind::block);
}

TEST_CASE("a database of the schema before USB nodes keeps its nodes, as disks") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    {
        StateDb db = open_or_fail(path);
        REQUIRE(db.put_node(sample_node("web1")).has_value());
    }
    run_sql(path,
            "DROP TABLE reservation; ALTER TABLE node DROP COLUMN scsi; ALTER TABLE node DROP COLUMN usb; "
            "ALTER TABLE node DROP COLUMN kind; PRAGMA user_version=2");
    StateDb db = open_or_fail(path);
    REQUIRE(db.nodes()->size() == 1);
    CHECK((*db.nodes())[0].kind() == node::NodeKind::block);
    CHECK((*db.nodes())[0].backing_path == "/dev/sda");
    REQUIRE(db.put_node(sample_usb_node("token")).has_value());
    CHECK((*db.nodes())[0].kind() == node::NodeKind::usb);
}

TEST_CASE("a USB node that cannot be read is damage, named with the file and the node") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    REQUIRE(db.put_node(sample_usb_node("token")).has_value());
    struct Row {
        const char* name;
        const char* sql;
    };
    const Row rows[] = {
        {"a kind that is none", "UPDATE node SET kind = 'tape'"},
        {"nothing", "UPDATE node SET usb = NULL"},
        {"no JSON", "UPDATE node SET usb = '{'"},
        {"no object", "UPDATE node SET usb = '3'"},
        {"a socket that is none", "UPDATE node SET usb = json_set(usb, '$.socket', '0000:00:14.0/0')"},
        {"a claim that is no number", "UPDATE node SET usb = json_set(usb, '$.claim', 'one')"},
        {"no minor number", "UPDATE node SET usb = json_remove(usb, '$.minor')"},
        {"an interface beyond a byte", "UPDATE node SET usb = json_set(usb, '$.interfaces', json('[256]'))"},
        {"a denial that is none", "UPDATE node SET usb = json_set(usb, '$.deny', json('[\"speed\"]'))"},
        {"descriptors that are not hexadecimal", "UPDATE node SET usb = json_set(usb, '$.descriptors', 'zz')"},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name) {
            run_sql(path, row.sql);
            const auto nodes = db.nodes();
            REQUIRE_FALSE(nodes.has_value());
            CHECK(contains(nodes.error().message(), path));
            CHECK(contains(nodes.error().message(), "node 'token'"));
        }
    }
}

TEST_CASE("a process that is killed after put_node has lost nothing") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        auto db = StateDb::open(path);
        const bool good = db && db->put_node(sample_node("survivor")).has_value();
        if (good) ::kill(::getpid(), SIGKILL);
        ::_exit(1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    StateDb db = open_or_fail(path);
    REQUIRE(db.nodes()->size() == 1);
    CHECK((*db.nodes())[0].name == "survivor");
}

TEST_CASE("files that cannot be used are refused by name, with what to do, and left as they are") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    const auto refusal = [&] {
        auto db = StateDb::open(path);
        REQUIRE_FALSE(db.has_value());
        CHECK(contains(db.error().message(), path));
        return db.error().message();
    };

    SUBCASE("text") {
        REQUIRE(write_file_atomic(path, std::string(5000, 'x')).has_value());
        CHECK(contains(refusal(), "move it aside"));
        CHECK(*read_file(path) == std::string(5000, 'x'));
    }
    SUBCASE("a database of another program") {
        run_sql(path, "CREATE TABLE theirs (a); PRAGMA user_version=1");
        CHECK(contains(refusal(), "another program"));
    }
    SUBCASE("a newer schema") {
        { StateDb db = open_or_fail(path); }
        run_sql(path, "PRAGMA user_version=99");
        const std::string message = refusal();
        CHECK(contains(message, "schema 99"));
        CHECK(contains(message, "newer stord"));
    }
    SUBCASE("damage inside") {
        {
            StateDb db = open_or_fail(path);
            for (int i = 0; i < 200; ++i) REQUIRE(db.put_node(sample_node("n" + std::to_string(i))).has_value());
        }
        {
            const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
            const std::string junk(8192, '\xa5');
            REQUIRE(::pwrite(file.get(), junk.data(), junk.size(), 4096) == 8192);
        }
        CHECK(contains(refusal(), "damaged"));
    }
    SUBCASE("a folder that is not there") {
        auto db = StateDb::open(folder / "missing/state.db");
        REQUIRE_FALSE(db.has_value());
        CHECK(db.error().code == std::errc::no_such_file_or_directory);
        CHECK(contains(db.error().message(), "missing/state.db"));
    }
    SUBCASE("a value that is no time") {
        {
            StateDb db = open_or_fail(path);
            REQUIRE(db.put_node(sample_node("web1")).has_value());
        }
        run_sql(path, "UPDATE node SET created='yesterday'");
        StateDb db = open_or_fail(path);
        auto nodes = db.nodes();
        REQUIRE_FALSE(nodes.has_value());
        CHECK(contains(nodes.error().message(), path));
        CHECK(contains(nodes.error().message(), "yesterday"));
    }
}

TEST_CASE("a reader that keeps a transaction open does not hold up a change") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    sqlite3* reader = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &reader) == SQLITE_OK);
    REQUIRE(sqlite3_exec(reader, "BEGIN; SELECT * FROM node", nullptr, nullptr, nullptr) == SQLITE_OK);
    CHECK(db.put_node(sample_node("web1")).has_value());
    sqlite3_close(reader);
}

TEST_CASE("a writer that will not let go is an error that says so, not a hang") {
    TemporaryFolder folder;
    const std::string path = folder / "state.db";
    StateDb db = open_or_fail(path);
    sqlite3* writer = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &writer) == SQLITE_OK);
    REQUIRE(sqlite3_exec(writer, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
    auto put = db.put_node(sample_node("web1"));
    REQUIRE_FALSE(put.has_value());
    CHECK(put.error().code == std::errc::device_or_resource_busy);
    CHECK(contains(put.error().message(), "web1"));
    sqlite3_close(writer);
}
