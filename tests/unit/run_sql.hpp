#pragma once
// SQL on a database file, past the code that is tested: to damage it, or to make it an older one.

#include <string>

#include <doctest/doctest.h>
#include <sqlite3.h>

namespace storctl::test {

inline void run_sql(const std::string& path, const char* sql) {
    sqlite3* raw = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &raw) == SQLITE_OK);
    char* message = nullptr;
    CHECK_MESSAGE(sqlite3_exec(raw, sql, nullptr, nullptr, &message) == SQLITE_OK, message);
    sqlite3_close(raw);
}

}  // namespace storctl::test
