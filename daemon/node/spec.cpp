#include "daemon/node/spec.hpp"

#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/text.hpp"
#include "daemon/node/identity_json.hpp"
#include "daemon/node/reservation_json.hpp"

namespace storctl::node {
namespace {

using Json = nlohmann::json;

constexpr int spec_version = 1;
constexpr size_t longest_name = 64;
constexpr uint64_t longest_poll_us = 10'000;

Error bad(const std::string& where, const std::string& what) {
    return make_error(std::errc::invalid_argument, fmt::format("node specification '{}': {}", where, what));
}

Json usb_json(const UsbSpec& usb) {
    Json deny = Json::array();
    for (const usbfs::Denial what : usb.policy.deny) deny.push_back(std::string(to_text(what)));
    return {{"device_name", usb.device_name},
            {"major", usb.major},
            {"minor", usb.minor},
            {"interfaces", usb.policy.interfaces ? Json(*usb.policy.interfaces) : Json(nullptr)},
            {"deny", std::move(deny)},
            {"descriptors", hex_encode(usb.descriptors)}};
}

Json sg_json(const SgSpec& sg) {
    return {{"device_name", sg.device_name}, {"major", sg.major}, {"minor", sg.minor}, {"required", sg.required}};
}

template <class Number>
Result<Number> read_number(const Json& value, const std::string& where, const char* key) {
    const auto number = value.get<int64_t>();
    if (!value.is_number_integer() || number < 0 || number > std::numeric_limits<Number>::max())
        return bad(where, fmt::format("key '{}': {} is out of range", key, value.dump()));
    return static_cast<Number>(number);
}

Result<void> check_device_name(const std::string& name, const std::string& where) {
    if (name.empty()) return bad(where, "key 'device_name' is empty");
    return {};
}

Result<std::vector<uint8_t>> read_hex(const Json& in, const std::string& where, const char* key) {
    auto bytes = hex_decode(in.at(key).get<std::string>());
    if (!bytes) return bad(where, fmt::format("key '{}': {}", key, bytes.error().message()));
    return bytes;
}

/// Throws where the JSON library does.
Result<UsbSpec> read_usb(const Json& in, const std::string& where) {
    if (!in.is_object()) return bad(where, "key 'usb' is not an object");
    UsbSpec out{.device_name = in.at("device_name").get<std::string>()};
    TRY(check_device_name(out.device_name, where));
    out.major = TRY(read_number<unsigned>(in.at("major"), where, "major"));
    out.minor = TRY(read_number<unsigned>(in.at("minor"), where, "minor"));
    if (const Json& interfaces = in.at("interfaces"); !interfaces.is_null()) {
        auto& numbers = out.policy.interfaces.emplace();
        for (const Json& one : interfaces) {
            const auto number = TRY(read_number<uint8_t>(one, where, "interfaces"));
            numbers.insert(number);
        }
    }
    out.policy.deny.clear();
    for (const Json& one : in.at("deny")) {
        const auto what = from_text<usbfs::Denial>(one.get<std::string>());
        if (!what) return bad(where, fmt::format("key 'deny' is not {}", all_names<usbfs::Denial>()));
        out.policy.deny.insert(*what);
    }
    out.descriptors = TRY(read_hex(in, where, "descriptors"));
    return out;
}

/// Throws where the JSON library does.
Result<SgSpec> read_sg(const Json& in, const std::string& where) {
    if (!in.is_object()) return bad(where, "key 'sg' is not an object");
    SgSpec out{.device_name = in.at("device_name").get<std::string>()};
    TRY(check_device_name(out.device_name, where));
    out.major = TRY(read_number<unsigned>(in.at("major"), where, "major"));
    out.minor = TRY(read_number<unsigned>(in.at("minor"), where, "minor"));
    out.required = in.at("required").get<bool>();
    return out;
}

/// What only a disk has; throws where the JSON library does.
Result<void> read_block(const Json& root, const std::string& where, Spec& spec) {
    root.at("mount_path").get_to(spec.mount_path);
    if (const auto sg = root.find("sg"); sg != root.end() && !sg->is_null()) spec.sg = TRY(read_sg(*sg, where));
    if (const auto in = root.find("identity"); in != root.end()) {
        auto identity = parse_identity(*in);
        if (!identity) return bad(where, fmt::format("key 'identity': {}", identity.error().message()));
        spec.identity = std::move(*identity);
    }
    spec.host = root.value("host", spec.host);
    if (const auto good = scsi::check({.initiator = spec.host}); !spec.host.empty() && !good)
        return bad(where, fmt::format("key 'host': {}", good.error().message()));
    if (const auto in = root.find("reservations"); in != root.end()) {
        auto reservations = parse_reservations(*in);
        if (!reservations) return bad(where, fmt::format("key 'reservations': {}", reservations.error().message()));
        spec.reservations = std::move(*reservations);
    }
    return {};
}

}  // namespace

Result<void> check_node_name(const std::string& name) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const bool good = !name.empty() && name.size() <= longest_name && name[0] != '.' && name[0] != '-' &&
                      name.find_first_not_of(allowed) == std::string::npos;
    if (good) return {};
    return make_error(std::errc::invalid_argument,
                      fmt::format("'{}' cannot name a node: 1 to {} letters, digits, '.', '_' or '-', starting with "
                                  "a letter, a digit or '_'",
                                  escape_unprintable(name), longest_name));
}

Result<Spec> Spec::parse(const std::string& json_text, const std::string& where) {
    const Json root = Json::parse(json_text, nullptr, false);
    if (!root.is_object()) return bad(where, "not a JSON object");
    if (!root.contains("version") || root["version"] != spec_version) {
        return bad(where, fmt::format("key 'version' is not {}", spec_version));
    }
    Spec spec;
    try {
        root.at("name").get_to(spec.name);
        root.at("backing_path").get_to(spec.backing_path);
        root.at("control_socket").get_to(spec.control_socket);
        const auto kind = from_text<NodeKind>(root.value("kind", std::string(to_text(spec.kind))));
        if (!kind) return bad(where, fmt::format("key 'kind' is not {}", all_names<NodeKind>()));
        spec.kind = *kind;
        switch (spec.kind) {
            case NodeKind::block:
                TRY(read_block(root, where, spec));
                break;
            case NodeKind::usb:
                spec.usb = TRY(read_usb(root.at("usb"), where));
                break;
        }
        spec.backing_kind = root.value("backing_kind", spec.backing_kind);
        spec.loop_link = root.value("loop_link", spec.loop_link);
        const auto open = from_text<OpenPolicy>(root.value("open", std::string(to_text(spec.open))));
        if (!open) return bad(where, fmt::format("key 'open' is not {}", all_names<OpenPolicy>()));
        spec.open = *open;
        spec.expected_size_bytes = root.value("expected_size_bytes", spec.expected_size_bytes);
        spec.expected_logical_block_bytes =
            root.value("expected_logical_block_bytes", spec.expected_logical_block_bytes);
        spec.poll_limit_us = root.value("poll_limit_us", spec.poll_limit_us);
        if (spec.poll_limit_us > longest_poll_us)
            return bad(where, fmt::format("key 'poll_limit_us' is above {}", longest_poll_us));
        spec.wait_for_backing = root.value("wait_for_backing", spec.wait_for_backing);
    } catch (const Json::exception& error) {
        return bad(where, error.what());
    }
    TRY(check_node_name(spec.name));
    if (spec.backing_path.empty() && !spec.wait_for_backing) return bad(where, "key 'backing_path' is empty");
    const bool mounted = spec.kind == NodeKind::block;
    for (const auto& [key, path, needed] : {std::tuple{"backing_path", spec.backing_path, false},
                                            {"mount_path", spec.mount_path, mounted},
                                            {"control_socket", spec.control_socket, true}}) {
        const bool absent = !needed && path.empty();
        if (!absent && !path.starts_with('/')) return bad(where, fmt::format("key '{}' is not an absolute path", key));
    }
    return spec;
}

Result<Spec> Spec::load(const std::string& path) {
    const std::string text = TRY(read_file(path));
    return parse(text, path);
}

std::string Spec::to_json() const {
    Json root = {
        {"version", spec_version},
        {"name", name},
        {"kind", std::string(to_text(kind))},
        {"backing_path", backing_path},
        {"backing_kind", backing_kind},
        {"control_socket", control_socket},
        {"mount_path", mount_path},
        {"loop_link", loop_link},
        {"open", std::string(to_text(open))},
        {"expected_size_bytes", expected_size_bytes},
        {"expected_logical_block_bytes", expected_logical_block_bytes},
        {"poll_limit_us", poll_limit_us},
        {"wait_for_backing", wait_for_backing},
    };
    switch (kind) {
        case NodeKind::block:
            root["sg"] = sg ? sg_json(*sg) : Json(nullptr);
            root["identity"] = identity_json(identity);
            root["host"] = host;
            root["reservations"] = reservations_json(reservations);
            break;
        case NodeKind::usb:
            root["usb"] = usb_json(usb);
            break;
    }
    return root.dump(2) + "\n";
}

}  // namespace storctl::node
