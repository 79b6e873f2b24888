#pragma once
// What state_db*.cpp share: prepared statements and errors that name the file. Nobody else includes it.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include <sqlite3.h>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace storctl::state_db {

std::string path_of(sqlite3* db);
Error damaged(const std::string& path, std::string_view detail);
/// Of the call that has just failed; `doing` completes "cannot …".
Error db_error(sqlite3* db, std::string_view doing);
Result<void> execute(sqlite3* db, const std::string& sql, std::string_view doing);

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
    std::optional<std::string> optional_text(int column) const {
        return is_null(column) ? std::nullopt : std::optional(text(column));
    }
    bool is_null(int column) const { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }
    int64_t integer(int column) const { return sqlite3_column_int64(handle_.get(), column); }
    Result<WallTime> time(int column) const {
        auto parsed = parse_time(text(column));
        if (!parsed) return damaged(path_of(db_), parsed.error().message());
        return *parsed;
    }
    Result<std::optional<WallTime>> optional_time(int column) const {
        if (is_null(column)) return std::optional<WallTime>();
        const WallTime there = TRY(time(column));
        return std::optional(there);
    }
    /// For a new set of values.
    void rewind() {
        sqlite3_reset(handle_.get());
        sqlite3_clear_bindings(handle_.get());
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
    int bind_one(int column, const std::optional<WallTime>& value) {
        return value ? bind_one(column, *value) : sqlite3_bind_null(handle_.get(), column);
    }
    template <class Integer>
    requires std::is_integral_v<Integer>
    int bind_one(int column, const std::optional<Integer>& value) {
        return value ? bind_one(column, *value) : sqlite3_bind_null(handle_.get(), column);
    }
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

/// All that is done while it lives is one change; undone unless `commit` came to its end.
class Transaction {
 public:
    static Result<Transaction> begin(sqlite3* db, std::string_view doing);
    Transaction(Transaction&& other) noexcept
        : db_(std::exchange(other.db_, nullptr)), doing_(std::move(other.doing_)) {}
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();
    Result<void> commit();

 private:
    Transaction(sqlite3* db, std::string_view doing) : db_(db), doing_(doing) {}
    sqlite3* db_;
    std::string doing_;
};

}  // namespace storctl::state_db
