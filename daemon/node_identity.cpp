#include "daemon/node_identity.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/text.hpp"
#include "daemon/node/spec.hpp"
#include "storctl_version.hpp"

namespace storctl {
namespace {

using locality::IdType;

constexpr auto own_vendor = "STORCTL";
constexpr size_t longest_serial = 252;  // SPC-5: the page's length less its header's
constexpr size_t longest_host = 128;    // leaves room for who it is on that host
constexpr uint8_t naa_local = 0x30;     // SPC-5: NAA locally assigned

/// FNV-1a, and its bits mixed (MurmurHash3's finalizer) so that all of them depend on all of the text.
uint64_t stable_hash(std::string_view text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
    hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
    return hash ^ hash >> 33;
}

node::scsi::Bytes local_naa(uint64_t hash) {
    node::scsi::Bytes out;
    node::scsi::append_be(out, hash, sizeof hash);
    out[0] = static_cast<uint8_t>(naa_local | (out[0] & 0x0f));
    return out;
}

/// The best usable one of these types; identifiers come in the order of their rank.
node::scsi::Bytes bytes_of(const std::vector<locality::Identifier>& identifiers, const std::set<IdType>& types) {
    for (const auto& identifier : identifiers) {
        if (!identifier.usable || !types.contains(identifier.type)) continue;
        std::string digits = identifier.value;
        std::erase(digits, '-');
        if (auto bytes = hex_decode(digits)) return *bytes;
    }
    return {};
}

std::string first_of(const std::string& text, const std::string& otherwise) {
    return text.empty() ? otherwise : escape_unprintable(text);
}

}  // namespace

node::scsi::Identity identity_of(const NodeRecord& record, const DeviceSummary* device, const std::string& machine_id) {
    const std::string what = record.device_id.value_or(record.backing_path);
    const uint64_t hash = stable_hash(machine_id + '\n' + what);
    const locality::Product product = device != nullptr ? device->product : locality::Product{};
    node::scsi::Identity out{.vendor = first_of(product.vendor, own_vendor),
                             .product = first_of(product.model, record.name),
                             .revision = first_of(product.revision, STORCTL_VERSION),
                             .serial = first_of(product.serial, fmt::format("{:016x}", hash))};
    out.serial.resize(std::min(out.serial.size(), longest_serial));
    if (device != nullptr) {
        out.naa = bytes_of(device->identifiers, {IdType::naa6, IdType::naa5, IdType::naa2, IdType::naa3});
        out.eui64 = bytes_of(device->identifiers, {IdType::eui64, IdType::nguid});
    }
    if (out.naa.empty() && out.eui64.empty()) out.naa = local_naa(hash);
    return out;
}

std::string initiator_host(const std::string& host) {
    constexpr std::string_view plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    std::string out;
    for (const char c : host) {
        if (plain.find(c) != std::string_view::npos) {
            out += c;
        } else {
            out += fmt::format("%{:02X}", static_cast<uint8_t>(c));
        }
    }
    return out.substr(0, longest_host);
}

unsigned free_sg_minor(const std::vector<NodeRecord>& existing) {
    std::set<unsigned> taken;
    for (const auto& record : existing) {
        if (record.scsi.sg) taken.insert(record.scsi.sg->minor);
    }
    unsigned out = node::sg_node_first_minor;
    while (taken.contains(out)) ++out;
    return out;
}

}  // namespace storctl
