#include "daemon/node/spec.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl::node {
namespace {

constexpr int spec_version = 1;
constexpr size_t longest_name = 64;
constexpr uint64_t longest_poll_us = 10'000;

Error bad(const std::string& where, const std::string& what) {
    return make_error(std::errc::invalid_argument, fmt::format("node specification '{}': {}", where, what));
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
    using Json = nlohmann::json;
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
        root.at("mount_path").get_to(spec.mount_path);
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
    for (const auto& [key, path] : {std::pair{"backing_path", spec.backing_path},
                                    {"mount_path", spec.mount_path},
                                    {"control_socket", spec.control_socket}}) {
        const bool absent = key == std::string_view("backing_path") && path.empty();
        if (!absent && !path.starts_with('/')) return bad(where, fmt::format("key '{}' is not an absolute path", key));
    }
    return spec;
}

Result<Spec> Spec::load(const std::string& path) {
    const std::string text = TRY(read_file(path));
    return parse(text, path);
}

std::string Spec::to_json() const {
    const nlohmann::json root = {
        {"version", spec_version},
        {"name", name},
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
    return root.dump(2) + "\n";
}

}  // namespace storctl::node
