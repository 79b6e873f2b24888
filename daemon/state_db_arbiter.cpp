#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "daemon/state_db.hpp"
#include "daemon/state_db_statement.hpp"

namespace storctl {
namespace {

using namespace state_db;
using nlohmann::json;
using usbarb::ClaimRecord;
using usbarb::Half;
using usbarb::Identity;
using usbarb::Rule;

std::string identities_text(const ClaimRecord& claim) {
    json out = json::object();
    for (const auto& [half, name] : EnumNames<Half>::table) {
        const auto& identity = claim.identities[static_cast<size_t>(half)];
        if (!identity) continue;
        out[std::string(name)] = {
            {"vendor_id", identity->vendor_id}, {"product_id", identity->product_id}, {"serial", identity->serial}};
    }
    // a serial number is whatever bytes the device gives
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Nothing: it is no text of ours.
std::optional<std::array<std::optional<Identity>, 2>> parse_identities(const std::string& text) {
    const json in = json::parse(text, nullptr, false);
    if (!in.is_object()) return std::nullopt;
    std::array<std::optional<Identity>, 2> out;
    for (const auto& [half, name] : EnumNames<Half>::table) {
        const auto found = in.find(std::string(name));
        if (found == in.end()) continue;
        const auto id = [&](const char* key) {
            return found->is_object() && found->contains(key) && found->at(key).is_number_unsigned() &&
                   found->at(key) <= std::numeric_limits<uint16_t>::max();
        };
        if (!id("vendor_id") || !id("product_id") || !found->contains("serial") || !found->at("serial").is_string()) {
            return std::nullopt;
        }
        out[static_cast<size_t>(half)] = Identity{
            .vendor_id = found->at("vendor_id"), .product_id = found->at("product_id"), .serial = found->at("serial")};
    }
    return out;
}

constexpr auto claim_columns =
    "id, kind, target, holder, state, since, covered, origin, reason, identities, description, follow_socket, "
    "keep_drivers, keep_off, former_driver, boot_id, phase, message, deadline, provisional_until";

template <class E>
Result<E> enum_of(sqlite3* db, const std::string& text) {
    const auto value = from_text<E>(text);
    if (!value) return damaged(path_of(db), fmt::format("'{}' in a claim is not {}", text, all_names<E>()));
    return *value;
}

Result<usbarb::Socket> socket_of(sqlite3* db, const std::string& text) {
    auto socket = usbarb::parse_socket(text);
    if (!socket) return damaged(path_of(db), socket.error().message());
    return socket;
}

Result<ClaimRecord> claim_of(sqlite3* db, const Statement& row) {
    ClaimRecord out{.id = static_cast<usbarb::ClaimId>(row.integer(0)),
                    .holder = row.text(3),
                    .covered = row.integer(6) != 0,
                    .origin = row.text(7),
                    .reason = row.text(8),
                    .description = row.text(10),
                    .follow_socket = row.integer(11) != 0,
                    .keep_drivers = row.integer(12) != 0,
                    .keep_off = row.integer(13) != 0,
                    .former_driver = row.text(14),
                    .boot_id = row.text(15),
                    .message = row.text(17)};
    out.kind = TRY(enum_of<usbarb::ClaimKind>(db, row.text(1)));
    out.target = TRY(socket_of(db, row.text(2)));
    out.state = TRY(enum_of<usbarb::ClaimState>(db, row.text(4)));
    out.since = TRY(row.time(5));
    const auto identities = parse_identities(row.text(9));
    if (!identities) return damaged(path_of(db), fmt::format("claim {} has no identities that can be read", out.id));
    out.identities = *identities;
    out.phase = TRY(enum_of<usbarb::Phase>(db, row.text(16)));
    out.deadline = TRY(row.optional_time(18));
    out.provisional_until = TRY(row.optional_time(19));
    return out;
}

}  // namespace

Result<std::vector<ClaimRecord>> StateDb::claims() {
    const std::string sql = fmt::format("SELECT {} FROM claim ORDER BY id", claim_columns);
    Statement rows = TRY(Statement::prepare(db_, sql.c_str(), "read the claims"));
    std::vector<ClaimRecord> out;
    for (;;) {
        const bool row = TRY(rows.step());
        if (!row) return out;
        auto claim = TRY(claim_of(db_, rows));
        out.push_back(std::move(claim));
    }
}

Result<void> StateDb::change_claims(const std::vector<ClaimRecord>& put, const std::vector<usbarb::ClaimId>& removed) {
    if (put.empty() && removed.empty()) return {};
    Transaction change = TRY(Transaction::begin(db_, "save claims"));
    const std::string sql = fmt::format(
        "INSERT OR REPLACE INTO claim ({}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        claim_columns);
    Statement insertion = TRY(Statement::prepare(db_, sql.c_str(), "save a claim"));
    for (const auto& claim : put) {
        insertion.rewind();
        TRY(insertion.bind(claim.id, std::string(to_text(claim.kind)), usbarb::to_text(claim.target), claim.holder,
                           std::string(to_text(claim.state)), claim.since, claim.covered, claim.origin, claim.reason,
                           identities_text(claim), claim.description, claim.follow_socket, claim.keep_drivers,
                           claim.keep_off, claim.former_driver, claim.boot_id, std::string(to_text(claim.phase)),
                           claim.message, claim.deadline, claim.provisional_until));
        TRY(insertion.step());
    }
    Statement removal = TRY(Statement::prepare(db_, "DELETE FROM claim WHERE id = ?", "remove a claim"));
    for (const auto id : removed) {
        removal.rewind();
        TRY(removal.bind(id));
        TRY(removal.step());
    }
    // a statement that is not at its end would keep the transaction open
    insertion.rewind();
    removal.rewind();
    return change.commit();
}

Result<std::vector<Rule>> StateDb::usb_rules() {
    Statement rows = TRY(Statement::prepare(db_,
                                            "SELECT id, socket, vendor_id, product_id, serial, device_class, holder, "
                                            "created, created_by FROM usb_rule ORDER BY id",
                                            "read the USB rules"));
    std::vector<Rule> out;
    for (;;) {
        const bool row = TRY(rows.step());
        if (!row) return out;
        Rule rule{.id = static_cast<uint64_t>(rows.integer(0)),
                  .serial = rows.optional_text(4),
                  .holder = rows.text(6),
                  .created_by = rows.text(8)};
        if (!rows.is_null(1)) {
            auto socket = TRY(socket_of(db_, rows.text(1)));
            rule.socket = std::move(socket);
        }
        if (!rows.is_null(2)) rule.vendor_id = static_cast<uint16_t>(rows.integer(2));
        if (!rows.is_null(3)) rule.product_id = static_cast<uint16_t>(rows.integer(3));
        if (!rows.is_null(5)) rule.device_class = static_cast<uint8_t>(rows.integer(5));
        rule.created = TRY(rows.time(7));
        out.push_back(std::move(rule));
    }
}

Result<uint64_t> StateDb::add_usb_rule(const Rule& rule) {
    Statement insertion = TRY(Statement::prepare(db_,
                                                 "INSERT INTO usb_rule (socket, vendor_id, product_id, serial, "
                                                 "device_class, holder, created, created_by) "
                                                 "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                                                 "save the USB rule"));
    const auto socket = rule.socket ? std::optional(usbarb::to_text(*rule.socket)) : std::nullopt;
    TRY(insertion.bind(socket, rule.vendor_id, rule.product_id, rule.serial, rule.device_class, rule.holder,
                       rule.created, rule.created_by));
    TRY(insertion.step());
    return static_cast<uint64_t>(sqlite3_last_insert_rowid(db_));
}

Result<void> StateDb::remove_usb_rule(uint64_t id) {
    Statement removal =
        TRY(Statement::prepare(db_, "DELETE FROM usb_rule WHERE id = ?", fmt::format("remove the USB rule {}", id)));
    TRY(removal.bind(id));
    TRY(removal.step());
    return {};
}

}  // namespace storctl
