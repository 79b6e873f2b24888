#include "daemon/node/reservation_json.hpp"

#include <charconv>
#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace storctl::node {
namespace {

using nlohmann::json;

constexpr std::string_view key_prefix = "0x";
constexpr size_t key_digits = 16;

Error bad(const char* key, std::string_view what) {
    return make_error(std::errc::invalid_argument, fmt::format("persistent reservations, key '{}': {}", key, what));
}

/// Null where there is none.
const json& member(const json& in, const char* key) {
    static const json none;
    const auto found = in.find(key);
    return found == in.end() ? none : *found;
}

template <class Number>
Result<Number> number(const json& in, const char* key) {
    // Varlink's integers are signed ones of 64 bits
    constexpr uint64_t highest =
        std::min<uint64_t>(std::numeric_limits<Number>::max(), std::numeric_limits<int64_t>::max());
    const json& value = member(in, key);
    const bool natural = value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
    if (!natural || value.get<uint64_t>() > highest) return bad(key, "it is not a number in its range");
    return static_cast<Number>(value.get<uint64_t>());
}

Result<std::string> text(const json& in, const char* key) {
    const json& value = member(in, key);
    if (!value.is_string()) return bad(key, "it is not a text");
    return value.get<std::string>();
}

Result<uint64_t> reservation_key(const json& in) {
    const std::string value = TRY(text(in, "key"));
    uint64_t out = 0;
    const char* const begin = value.data() + std::min(key_prefix.size(), value.size());
    const char* const end = value.data() + value.size();
    const auto read = std::from_chars(begin, end, out, 16);
    const bool whole = value.starts_with(key_prefix) && value.size() == key_prefix.size() + key_digits &&
                       read.ec == std::errc() && read.ptr == end;
    if (!whole) return bad("key", "it is not 0x and 16 hexadecimal digits");
    return out;
}

Result<scsi::Registration> registration_of(const json& in) {
    if (!in.is_object()) return bad("registrations", "one of them is not an object");
    scsi::Registration out;
    out.nexus.initiator = TRY(text(in, "initiator"));
    out.nexus.target_port = TRY(number<uint16_t>(in, "port"));
    out.key = TRY(reservation_key(in));
    return out;
}

}  // namespace

json reservations_json(const scsi::ReservationState& state) {
    json registrations = json::array();
    for (const scsi::Registration& one : state.registrations) {
        registrations.push_back({{"initiator", one.nexus.initiator},
                                 {"port", one.nexus.target_port},
                                 {"key", fmt::format("{}{:016x}", key_prefix, one.key)}});
    }
    return {{"version", state.version},
            {"generation", state.generation},
            {"persists", state.persists},
            {"type", state.type ? json(to_text(*state.type)) : json(nullptr)},
            {"holder", state.holder ? json(state.holder->initiator) : json(nullptr)},
            {"holder_port", state.holder ? json(state.holder->target_port) : json(nullptr)},
            {"registrations", std::move(registrations)}};
}

Result<scsi::ReservationState> parse_reservations(const json& in) {
    if (!in.is_object())
        return make_error(std::errc::invalid_argument, "persistent reservations are not a JSON object");
    scsi::ReservationState out;
    out.version = TRY(number<uint64_t>(in, "version"));
    out.generation = TRY(number<uint32_t>(in, "generation"));
    const json& persists = member(in, "persists");
    if (!persists.is_boolean()) return bad("persists", "it is not true or false");
    out.persists = persists.get<bool>();
    if (!member(in, "type").is_null()) {
        const std::string name = TRY(text(in, "type"));
        out.type = from_text<scsi::ReservationType>(name);
        if (!out.type) return bad("type", fmt::format("it is not {}", all_names<scsi::ReservationType>()));
    }
    if (!member(in, "holder").is_null()) {
        out.holder.emplace();
        out.holder->initiator = TRY(text(in, "holder"));
        out.holder->target_port = TRY(number<uint16_t>(in, "holder_port"));
    }
    const json& registrations = member(in, "registrations");
    if (!registrations.is_array()) return bad("registrations", "it is not a list");
    for (const json& one : registrations) {
        auto registration = TRY(registration_of(one));
        out.registrations.push_back(std::move(registration));
    }
    TRY(scsi::check(out));
    return out;
}

}  // namespace storctl::node
