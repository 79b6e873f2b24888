#include "daemon/node/identity_json.hpp"

#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace storctl::node {
namespace {

using nlohmann::json;

Error bad(const char* key, std::string_view what) {
    return make_error(std::errc::invalid_argument, fmt::format("key '{}': {}", key, what));
}

Result<std::string> text(const json& in, const char* key) {
    const auto found = in.find(key);
    if (found == in.end() || !found->is_string()) return bad(key, "it is not a text");
    auto out = found->get<std::string>();
    if (escape_unprintable(out) != out) return bad(key, "it is not printable ASCII");
    return out;
}

Result<scsi::Bytes> bytes(const json& in, const char* key) {
    const std::string digits = TRY(text(in, key));
    auto out = hex_decode(digits);
    if (!out) return bad(key, out.error().message());
    return out;
}

}  // namespace

json identity_json(const scsi::Identity& identity) {
    return {{"vendor", identity.vendor},
            {"product", identity.product},
            {"revision", identity.revision},
            {"serial", identity.serial},
            {"naa", hex_encode(identity.naa)},
            {"eui64", hex_encode(identity.eui64)},
            {"target_ports", identity.target_ports}};
}

Result<scsi::Identity> parse_identity(const json& in) {
    if (!in.is_object()) return make_error(std::errc::invalid_argument, "it is not an object");
    scsi::Identity out;
    out.vendor = TRY(text(in, "vendor"));
    out.product = TRY(text(in, "product"));
    out.revision = TRY(text(in, "revision"));
    out.serial = TRY(text(in, "serial"));
    out.naa = TRY(bytes(in, "naa"));
    out.eui64 = TRY(bytes(in, "eui64"));
    const auto ports = in.find("target_ports");
    if (ports == in.end() || !ports->is_number_unsigned() || *ports > std::numeric_limits<uint16_t>::max())
        return bad("target_ports", "it is not a number in its range");
    out.target_ports = ports->get<uint16_t>();
    const scsi::Geometry any{.blocks = 1};
    TRY(scsi::check(out, any, {}));
    return out;
}

}  // namespace storctl::node
