#include "libvirt/qemu_option.hpp"

#include <nlohmann/json.hpp>

namespace storctl::libvirt {
namespace {

using Json = nlohmann::json;

constexpr int max_depth = 16;

/// Up to the next single comma, which is taken off as well.
std::string take_value(std::string_view& text) {
    std::string out;
    while (!text.empty()) {
        const char c = text.front();
        text.remove_prefix(1);
        if (c == ',') {
            if (!text.starts_with(',')) break;
            text.remove_prefix(1);
        }
        out += c;
    }
    return out;
}

bool flatten(const Json& object, const std::string& prefix, int depth, Options& out) {
    if (depth > max_depth) return false;
    for (const auto& [name, value] : object.items()) {
        if (value.is_object()) {
            if (!flatten(value, prefix + name + ".", depth + 1, out)) return false;
        } else if (value.is_string()) {
            out[prefix + name] = value.get<std::string>();
        } else if (!value.is_array()) {
            out[prefix + name] = value.dump();
        }
    }
    return true;
}

}  // namespace

Options parse_key_values(std::string_view text, std::string_view implied) {
    Options out;
    for (bool first = true; !text.empty(); first = false) {
        const auto end = text.find_first_of("=,");
        if (end != std::string_view::npos && text[end] == '=') {
            std::string key(text.substr(0, end));
            text.remove_prefix(end + 1);
            out[std::move(key)] = take_value(text);
        } else if (first) {
            out[std::string(implied)] = take_value(text);
        } else {
            out[std::string(text.substr(0, end))] = "on";
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        }
    }
    return out;
}

std::optional<Options> parse_json_options(std::string_view text) {
    const Json object = Json::parse(text, nullptr, false);
    Options out;
    if (!object.is_object() || !flatten(object, "", 0, out)) return std::nullopt;
    return out;
}

std::optional<Options> parse_options(std::string_view text, std::string_view implied) {
    if (text.starts_with('{')) return parse_json_options(text);
    return parse_key_values(text, implied);
}

std::string_view value_of(const Options& options, std::string_view key) {
    const auto found = options.find(key);
    return found == options.end() ? std::string_view() : found->second;
}

}  // namespace storctl::libvirt
