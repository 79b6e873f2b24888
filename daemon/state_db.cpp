// The schema is a list of migrations; PRAGMA user_version counts those that were applied. A file is ours by
// its application_id. WAL with synchronous=FULL: a commit has reached the disk when it returns, and a reader
// (sqlite3(1) in an administrator's hands) never holds up a writer.

#include "daemon/state_db.hpp"

#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include "base/file.hpp"
#include "daemon/state_db_statement.hpp"

namespace storctl {
namespace {

using namespace state_db;

constexpr int application_id = 0x73746f72;  // "stor"
constexpr int busy_timeout_ms = 2000;
constexpr mode_t file_mode = 0600;

/// Applied in order, each in one transaction; never edited once released, only appended to.
constexpr auto migrations = std::to_array<const char*>({
    R"(CREATE TABLE sharing_override (
         device_id TEXT PRIMARY KEY NOT NULL, shared INTEGER NOT NULL, reason TEXT NOT NULL,
         author TEXT NOT NULL, time TEXT NOT NULL) STRICT;
       CREATE TABLE node (
         name TEXT PRIMARY KEY NOT NULL, device_id TEXT, backing_path TEXT NOT NULL, backing_kind TEXT NOT NULL,
         open TEXT NOT NULL, loop INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
         logical_block_bytes INTEGER NOT NULL, created TEXT NOT NULL, created_by TEXT NOT NULL) STRICT;)",
    // ids are never given twice: "rule:3" in a claim's origin means one rule for ever
    R"(CREATE TABLE claim (
         id INTEGER PRIMARY KEY NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, holder TEXT NOT NULL,
         state TEXT NOT NULL, since TEXT NOT NULL, deadline TEXT, provisional_until TEXT, covered INTEGER NOT NULL,
         origin TEXT NOT NULL,
         reason TEXT NOT NULL, identities TEXT NOT NULL, description TEXT NOT NULL, follow_socket INTEGER NOT NULL,
         keep_drivers INTEGER NOT NULL, keep_off INTEGER NOT NULL, former_driver TEXT NOT NULL,
         boot_id TEXT NOT NULL, phase TEXT NOT NULL, message TEXT NOT NULL) STRICT;
       CREATE TABLE usb_rule (
         id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, socket TEXT, vendor_id INTEGER, product_id INTEGER,
         serial TEXT, device_class INTEGER, holder TEXT NOT NULL, created TEXT NOT NULL,
         created_by TEXT NOT NULL) STRICT;)",
    // usb: what only a node over a USB device has, as JSON
    R"(ALTER TABLE node ADD COLUMN kind TEXT NOT NULL DEFAULT 'block';
       ALTER TABLE node ADD COLUMN usb TEXT;)",
    // scsi: what only a node over a disk has, as JSON
    R"(ALTER TABLE node ADD COLUMN scsi TEXT;
       CREATE TABLE reservation (
         device TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
         boot_id TEXT NOT NULL) STRICT;)",
});
constexpr int newest_schema = static_cast<int>(migrations.size());

Result<int64_t> pragma_value(sqlite3* db, const char* sql) {
    Statement statement = TRY(Statement::prepare(db, sql, "be read"));
    const bool row = TRY(statement.step());
    return row ? statement.integer(0) : 0;
}

Result<void> check_integrity(sqlite3* db) {
    Statement check = TRY(Statement::prepare(db, "PRAGMA quick_check(1)", "be checked"));
    const bool row = TRY(check.step());
    if (!row || check.text(0) != "ok") return damaged(path_of(db), row ? check.text(0) : "no answer to a check");
    return {};
}

Result<void> migrate(sqlite3* db) {
    const int64_t owner = TRY(pragma_value(db, "PRAGMA application_id"));
    const int64_t schema = TRY(pragma_value(db, "PRAGMA user_version"));
    const int64_t objects = TRY(pragma_value(db, "SELECT count(*) FROM sqlite_schema"));
    if (owner != application_id && (owner != 0 || objects != 0)) {
        return damaged(path_of(db), fmt::format("it belongs to another program, application id {:#x}", owner));
    }
    if (schema > newest_schema) {
        return make_error(
            std::errc{},
            fmt::format("state database '{}' has schema {}, this stord knows up to {}: it was written by a newer "
                        "stord; install that version again, or move the file aside to start without the sharing "
                        "overrides, nodes, claims and rules in it",
                        path_of(db), schema, newest_schema));
    }
    for (auto next = static_cast<size_t>(schema); next < migrations.size(); ++next) {
        const std::string sql =
            fmt::format("BEGIN IMMEDIATE; {} PRAGMA application_id={}; PRAGMA user_version={}; COMMIT;",
                        migrations[next], application_id, next + 1);
        if (auto done = execute(db, sql, fmt::format("be brought to schema {}", next + 1)); !done) {
            sqlite3_exec(db, "ROLLBACK", nullptr, nullptr, nullptr);
            return done;
        }
    }
    return {};
}

/// Created by us, so that the file, and after it the -wal and -shm files, are private from birth.
Result<void> create_file(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, file_mode));
    if (!file) return errno_error(fmt::format("cannot open the state database '{}'", path));
    const UniqueFd folder = TRY(open_file(dir_name(path), O_RDONLY | O_DIRECTORY));
    if (::fsync(folder.get()) != 0) return errno_error(fmt::format("cannot sync the folder of '{}'", path));
    return {};
}

}  // namespace

Result<StateDb> StateDb::open(const std::string& path) {
    TRY(create_file(path));
    sqlite3* raw = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
    StateDb db(raw);
    if (raw == nullptr) return make_error(std::errc::not_enough_memory, "cannot open a database");
    if (code != SQLITE_OK) return db_error(raw, "be opened");
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, busy_timeout_ms);
    TRY(execute(raw, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF", "be opened"));
    TRY(check_integrity(raw));
    TRY(migrate(raw));
    return db;
}

StateDb::StateDb(StateDb&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
StateDb& StateDb::operator=(StateDb&& other) noexcept {
    std::swap(db_, other.db_);
    return *this;
}
StateDb::~StateDb() { sqlite3_close(db_); }

Result<std::vector<SharingOverride>> StateDb::sharing_overrides() {
    Statement rows = TRY(Statement::prepare(
        db_, "SELECT device_id, shared, reason, author, time FROM sharing_override ORDER BY device_id",
        "read the sharing overrides"));
    std::vector<SharingOverride> out;
    for (;;) {
        const bool row = TRY(rows.step());
        if (!row) return out;
        SharingOverride entry{
            .device_id = rows.text(0), .shared = rows.integer(1) != 0, .reason = rows.text(2), .author = rows.text(3)};
        entry.time = TRY(rows.time(4));
        out.push_back(std::move(entry));
    }
}

Result<void> StateDb::put_sharing_override(const SharingOverride& entry) {
    Statement put = TRY(Statement::prepare(db_,
                                           "INSERT OR REPLACE INTO sharing_override (device_id, shared, "
                                           "reason, author, time) VALUES (?, ?, ?, ?, ?)",
                                           fmt::format("save the sharing override of '{}'", entry.device_id)));
    TRY(put.bind(entry.device_id, entry.shared, entry.reason, entry.author, entry.time));
    TRY(put.step());
    return {};
}

Result<void> StateDb::remove_sharing_override(const std::string& device_id) {
    Statement removal = TRY(Statement::prepare(db_, "DELETE FROM sharing_override WHERE device_id = ?",
                                               fmt::format("remove the sharing override of '{}'", device_id)));
    TRY(removal.bind(device_id));
    TRY(removal.step());
    return {};
}

}  // namespace storctl
