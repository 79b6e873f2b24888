#include <fmt/format.h>
#include <sqlite3.h>

#include <nlohmann/json.hpp>

#include "daemon/node/reservation_json.hpp"
#include "daemon/state_db.hpp"
#include "daemon/state_db_statement.hpp"

namespace storctl {

using namespace state_db;
using nlohmann::json;

Result<std::vector<ReservationRecord>> StateDb::reservations() {
    Statement rows = TRY(Statement::prepare(db_, "SELECT device, state, boot_id FROM reservation ORDER BY device",
                                            "read the persistent reservations"));
    std::vector<ReservationRecord> out;
    for (;;) {
        const bool row = TRY(rows.step());
        if (!row) return out;
        auto state = node::parse_reservations(json::parse(rows.text(1), nullptr, false));
        if (!state) return damaged(path_of(db_), fmt::format("device '{}': {}", rows.text(0), state.error().message()));
        out.push_back({.device = rows.text(0), .state = std::move(*state), .boot_id = rows.text(2)});
    }
}

Result<bool> StateDb::change_reservations(const ReservationRecord& entry, std::optional<uint64_t> expected) {
    const std::string doing = fmt::format("save the persistent reservations of '{}'", entry.device);
    const char* const sql = expected ? "UPDATE reservation SET version = ?1, state = ?2, boot_id = ?3 "
                                       "WHERE device = ?4 AND version = ?5"
                                     : "INSERT INTO reservation (version, state, boot_id, device) "
                                       "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (device) DO NOTHING";
    Statement change = TRY(Statement::prepare(db_, sql, doing));
    const std::string state = node::reservations_json(entry.state).dump();
    TRY(expected ? change.bind(entry.state.version, state, entry.boot_id, entry.device, *expected)
                 : change.bind(entry.state.version, state, entry.boot_id, entry.device));
    TRY(change.step());
    return sqlite3_changes(db_) == 1;
}

Result<void> StateDb::remove_reservations(const std::string& device) {
    Statement removal = TRY(Statement::prepare(db_, "DELETE FROM reservation WHERE device = ?",
                                               fmt::format("remove the persistent reservations of '{}'", device)));
    TRY(removal.bind(device));
    TRY(removal.step());
    return {};
}

}  // namespace storctl
