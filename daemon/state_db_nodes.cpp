#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "daemon/node/identity_json.hpp"
#include "daemon/state_db.hpp"
#include "daemon/state_db_statement.hpp"

namespace storctl {
namespace {

using namespace state_db;
using nlohmann::json;
using node::NodeKind;
using node::usbfs::Denial;

std::optional<std::string> usb_text(const std::optional<UsbNodeRecord>& usb) {
    if (!usb) return std::nullopt;
    json deny = json::array();
    for (const Denial what : usb->policy.deny) deny.push_back(to_text(what));
    const auto& interfaces = usb->policy.interfaces;
    const json out = {{"claim", usb->claim},
                      {"socket", usbarb::to_text(usb->socket)},
                      {"description", usb->description},
                      {"holder", usb->holder},
                      {"own_claim", usb->own_claim},
                      {"minor", usb->minor},
                      {"interfaces", interfaces ? json(*interfaces) : json(nullptr)},
                      {"deny", std::move(deny)},
                      {"descriptors", hex_encode(usb->descriptors)}};
    // a description has whatever bytes the device gives
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// What is not as `usb_text` writes it is an error or an exception of the library's.
Result<UsbNodeRecord> read_usb(const json& in) {
    UsbNodeRecord out{.claim = in.at("claim").get<usbarb::ClaimId>(),
                      .description = in.at("description").get<std::string>(),
                      .holder = in.at("holder").get<std::string>(),
                      .own_claim = in.at("own_claim").get<bool>(),
                      .minor = in.at("minor").get<unsigned>()};
    out.socket = TRY(usbarb::parse_socket(in.at("socket").get<std::string>()));
    out.descriptors = TRY(hex_decode(in.at("descriptors").get<std::string>()));
    if (const json& interfaces = in.at("interfaces"); !interfaces.is_null()) {
        auto& numbers = out.policy.interfaces.emplace();
        for (const auto& one : interfaces) {
            const auto number = one.get<uint64_t>();
            if (number > std::numeric_limits<uint8_t>::max())
                return make_error(std::errc::invalid_argument, fmt::format("{} is no interface's number", number));
            numbers.insert(static_cast<uint8_t>(number));
        }
    }
    out.policy.deny.clear();
    for (const auto& one : in.at("deny")) {
        const auto what = from_text<Denial>(one.get<std::string>());
        if (!what) return make_error(std::errc::invalid_argument, fmt::format("'{}' cannot be denied", one.dump()));
        out.policy.deny.insert(*what);
    }
    return out;
}

Result<std::optional<UsbNodeRecord>> usb_of(sqlite3* db, const std::string& name, const std::string& kind_text,
                                            const std::optional<std::string>& text) {
    const auto bad = [&](std::string_view why) {
        return damaged(path_of(db), fmt::format("node '{}': {}", name, why));
    };
    const auto kind = from_text<NodeKind>(kind_text);
    if (!kind) return bad(fmt::format("kind '{}' is not {}", kind_text, all_names<NodeKind>()));
    if (*kind == NodeKind::block) return std::optional<UsbNodeRecord>();
    try {
        auto usb = read_usb(json::parse(text.value_or("")));
        if (!usb) return bad(usb.error().message());
        return std::optional(std::move(*usb));
    } catch (const json::exception& error) {
        return bad(error.what());
    }
}

std::optional<std::string> scsi_text(const NodeRecord& entry) {
    if (entry.usb) return std::nullopt;
    const auto& sg = entry.scsi.sg;
    const json out = {{"sg", sg ? json{{"asked", sg->asked}, {"minor", sg->minor}} : json(nullptr)},
                      {"identity", node::identity_json(entry.scsi.identity)}};
    return out.dump();
}

/// What is not as `scsi_text` writes it is an error or an exception of the library's.
Result<ScsiNodeRecord> read_scsi(const json& in) {
    ScsiNodeRecord out;
    if (const json& sg = in.at("sg"); !sg.is_null())
        out.sg = {.asked = sg.at("asked").get<bool>(), .minor = sg.at("minor").get<unsigned>()};
    out.identity = TRY(node::parse_identity(in.at("identity")));
    return out;
}

/// Nodes that an earlier stord made have nothing of it.
Result<ScsiNodeRecord> scsi_of(sqlite3* db, const std::string& name, const std::optional<std::string>& text) {
    const auto bad = [&](std::string_view why) {
        return damaged(path_of(db), fmt::format("node '{}': {}", name, why));
    };
    if (!text) return ScsiNodeRecord{};
    try {
        auto scsi = read_scsi(json::parse(*text));
        if (!scsi) return bad(scsi.error().message());
        return scsi;
    } catch (const json::exception& error) {
        return bad(error.what());
    }
}

}  // namespace

Result<std::vector<NodeRecord>> StateDb::nodes() {
    Statement rows =
        TRY(Statement::prepare(db_,
                               "SELECT name, device_id, backing_path, backing_kind, open, loop, size_bytes, "
                               "logical_block_bytes, created, created_by, kind, usb, scsi FROM node ORDER BY name",
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
        entry.usb = TRY(usb_of(db_, entry.name, rows.text(10), rows.optional_text(11)));
        entry.scsi = TRY(scsi_of(db_, entry.name, rows.optional_text(12)));
        out.push_back(std::move(entry));
    }
}

Result<void> StateDb::put_node(const NodeRecord& entry) {
    Statement put =
        TRY(Statement::prepare(db_,
                               "INSERT OR REPLACE INTO node (name, device_id, backing_path, backing_kind, open, "
                               "loop, size_bytes, logical_block_bytes, created, created_by, kind, usb, scsi) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                               fmt::format("save the node '{}'", entry.name)));
    TRY(put.bind(entry.name, entry.device_id, entry.backing_path, entry.backing_kind, entry.open, entry.loop,
                 entry.size_bytes, entry.logical_block_bytes, entry.created, entry.created_by,
                 std::string(to_text(entry.kind())), usb_text(entry.usb), scsi_text(entry)));
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
