// The schema is a list of migrations; PRAGMA user_version counts those that were applied. A file is ours by
// its application_id. WAL with synchronous=FULL: a commit has reached the disk when it returns, and a reader
// (sqlite3(1) in an administrator's hands) never holds up a writer.

#include "daemon/state_db.hpp"

#include <array>
#include <type_traits>

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include "base/file.hpp"

namespace storctl {
namespace {

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
});
constexpr int newest_schema = static_cast<int>(migrations.size());

std::errc code_of(int sqlite_code) {
    switch (sqlite_code & 0xff) {
        case SQLITE_FULL:
            return std::errc::no_space_on_device;
        case SQLITE_READONLY:
            return std::errc::read_only_file_system;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return std::errc::device_or_resource_busy;
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
            return std::errc::permission_denied;
        case SQLITE_NOMEM:
            return std::errc::not_enough_memory;
        default:
            return std::errc::io_error;
    }
}

std::string path_of(sqlite3* db) {
    const char* path = sqlite3_db_filename(db, "main");
    return path != nullptr ? path : "";
}

Error damaged(const std::string& path, std::string_view detail) {
    return make_error(
        std::errc{},
        fmt::format("state database '{}' is damaged or is no state database ({}): move it aside together with "
                    "'{}-wal' and '{}-shm', or put a backup in its place, and start again; it holds the sharing "
                    "overrides and the list of nodes",
                    path, detail, path, path));
}

Error db_error(sqlite3* db, std::string_view doing) {
    const int code = sqlite3_extended_errcode(db);
    const std::string detail = sqlite3_errmsg(db);
    const std::string path = path_of(db);
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB) return damaged(path, detail);
    return make_error(code_of(code), fmt::format("state database '{}': cannot {} ({})", path, doing, detail));
}

Result<void> execute(sqlite3* db, const std::string& sql, std::string_view doing) {
    if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return db_error(db, doing);
    return {};
}

/// A prepared statement; `doing` completes "cannot …" in its errors.
class Statement {
 public:
    static Result<Statement> prepare(sqlite3* db, const char* sql, std::string_view doing) {
        sqlite3_stmt* raw = nullptr;
        if (sqlite3_prepare_v2(db, sql, -1, &raw, nullptr) != SQLITE_OK) return db_error(db, doing);
        return Statement(db, raw, doing);
    }

    template <class... Values>
    Result<void> bind(const Values&... values) {
        int column = 0;
        const bool good = ((bind_one(++column, values) == SQLITE_OK) && ...);
        if (!good) return db_error(db_, doing_);
        return {};
    }
    /// True: a row is there.
    Result<bool> step() {
        const int code = sqlite3_step(handle_.get());
        if (code == SQLITE_ROW) return true;
        if (code == SQLITE_DONE) return false;
        return db_error(db_, doing_);
    }
    std::string text(int column) const {
        const auto* bytes = sqlite3_column_text(handle_.get(), column);
        const auto length = static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column));
        return bytes == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(bytes), length);
    }
    bool is_null(int column) const { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }
    int64_t integer(int column) const { return sqlite3_column_int64(handle_.get(), column); }
    Result<WallTime> time(int column) const {
        auto parsed = parse_time(text(column));
        if (!parsed) return damaged(path_of(db_), parsed.error().message());
        return *parsed;
    }

 private:
    Statement(sqlite3* db, sqlite3_stmt* raw, std::string_view doing) : db_(db), handle_(raw), doing_(doing) {}

    int bind_one(int column, const std::string& value) {
        return sqlite3_bind_text(handle_.get(), column, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
    }
    int bind_one(int column, const std::optional<std::string>& value) {
        return value ? bind_one(column, *value) : sqlite3_bind_null(handle_.get(), column);
    }
    int bind_one(int column, WallTime value) { return bind_one(column, format_time(value)); }
    template <class Integer>
    requires std::is_integral_v<Integer>
    int bind_one(int column, Integer value) {
        return sqlite3_bind_int64(handle_.get(), column, static_cast<int64_t>(value));
    }

    struct Finalize {
        void operator()(sqlite3_stmt* raw) const { sqlite3_finalize(raw); }
    };
    sqlite3* db_;
    std::unique_ptr<sqlite3_stmt, Finalize> handle_;
    std::string doing_;
};

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
                        "overrides and nodes in it",
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

Result<std::vector<NodeRecord>> StateDb::nodes() {
    Statement rows =
        TRY(Statement::prepare(db_,
                               "SELECT name, device_id, backing_path, backing_kind, open, loop, size_bytes, "
                               "logical_block_bytes, created, created_by FROM node ORDER BY name",
                               "read the nodes"));
    std::vector<NodeRecord> out;
    for (;;) {
        const bool row = TRY(rows.step());
        if (!row) return out;
        NodeRecord entry{.name = rows.text(0),
                         .backing_path = rows.text(2),
                         .backing_kind = rows.text(3),
                         .open = rows.text(4),
                         .loop = rows.integer(5) != 0,
                         .size_bytes = static_cast<uint64_t>(rows.integer(6)),
                         .logical_block_bytes = static_cast<uint32_t>(rows.integer(7)),
                         .created_by = rows.text(9)};
        if (!rows.is_null(1)) entry.device_id = rows.text(1);
        entry.created = TRY(rows.time(8));
        out.push_back(std::move(entry));
    }
}

Result<void> StateDb::put_node(const NodeRecord& entry) {
    Statement put =
        TRY(Statement::prepare(db_,
                               "INSERT OR REPLACE INTO node (name, device_id, backing_path, backing_kind, open, "
                               "loop, size_bytes, logical_block_bytes, created, created_by) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                               fmt::format("save the node '{}'", entry.name)));
    TRY(put.bind(entry.name, entry.device_id, entry.backing_path, entry.backing_kind, entry.open, entry.loop,
                 entry.size_bytes, entry.logical_block_bytes, entry.created, entry.created_by));
    TRY(put.step());
    return {};
}

Result<void> StateDb::remove_node(const std::string& name) {
    Statement removal =
        TRY(Statement::prepare(db_, "DELETE FROM node WHERE name = ?", fmt::format("remove the node '{}'", name)));
    TRY(removal.bind(name));
    TRY(removal.step());
    return {};
}

}  // namespace storctl
