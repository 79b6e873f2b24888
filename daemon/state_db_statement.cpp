#include "daemon/state_db_statement.hpp"

#include <fmt/format.h>

namespace storctl::state_db {
namespace {

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

}  // namespace

std::string path_of(sqlite3* db) {
    const char* path = sqlite3_db_filename(db, "main");
    return path != nullptr ? path : "";
}

Error damaged(const std::string& path, std::string_view detail) {
    return make_error(
        std::errc{},
        fmt::format("state database '{}' is damaged or is no state database ({}): move it aside together with "
                    "'{}-wal' and '{}-shm', or put a backup in its place, and start again; it holds the sharing "
                    "overrides, the list of nodes, persistent reservations, and the claims and rules of USB devices",
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

Result<Transaction> Transaction::begin(sqlite3* db, std::string_view doing) {
    TRY(execute(db, "BEGIN IMMEDIATE", doing));
    return Transaction(db, doing);
}

Transaction::~Transaction() {
    if (db_ != nullptr) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Result<void> Transaction::commit() {
    TRY(execute(db_, "COMMIT", doing_));
    db_ = nullptr;
    return {};
}

}  // namespace storctl::state_db
