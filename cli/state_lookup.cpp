#include "cli/state_lookup.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include <nlohmann/json.hpp>

#include "cli/fields.hpp"

namespace storctl::cli {
namespace {

/// Where the string that opens at `at` ends (behind its quote); npos: never.
size_t string_end(std::string_view text, size_t at) {
    for (size_t i = at + 1; i < text.size(); ++i) {
        const void* quote = std::memchr(text.data() + i, '"', text.size() - i);
        if (quote == nullptr) return std::string_view::npos;
        i = static_cast<size_t>(static_cast<const char*>(quote) - text.data());
        size_t backslashes = 0;
        while (text[i - 1 - backslashes] == '\\') ++backslashes;  // stops at the opening quote at the latest
        if (backslashes % 2 == 0) return i + 1;
    }
    return std::string_view::npos;
}

/// Where the object that opens at `at` ends (behind its brace).
size_t object_end(std::string_view text, size_t at) {
    size_t depth = 0;
    while (at < text.size()) {
        const char c = text[at];
        if (c == '"') {
            at = string_end(text, at);
            if (at == std::string_view::npos) return at;
            continue;
        }
        ++at;
        if (c == '{') ++depth;
        if (c == '}' && --depth == 0) return at;
    }
    return std::string_view::npos;
}

/// The elements of the array of objects that starts behind `at`; nothing: it does not end.
std::optional<std::vector<std::string_view>> elements(std::string_view text, size_t at) {
    std::vector<std::string_view> out;
    while (at < text.size() && text[at] != ']') {
        if (text[at] == '{') {
            const size_t end = object_end(text, at);
            if (end == std::string_view::npos) return std::nullopt;
            out.push_back(text.substr(at, end - at));
            at = end;
        } else {
            ++at;
        }
    }
    return at < text.size() ? std::optional(out) : std::nullopt;
}

bool holds_any(std::string_view element, const std::vector<std::string>& texts) {
    return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
        return ::memmem(element.data(), element.size(), text.data(), text.size()) != nullptr;
    });
}

}  // namespace

Result<std::vector<Json>> devices_mentioning(std::string_view state, const std::vector<Mention>& mentions) {
    // no JSON string can hold these bytes: its quotes would be escaped
    constexpr std::string_view version = "\"version\":1", devices = "\"devices\":[";
    const size_t start = state.find(devices);
    const auto parts = start == std::string_view::npos ? std::nullopt : elements(state, start + devices.size());
    const size_t behind_version = state.find(version) + version.size();
    const bool version_1 = state.find(version) != std::string_view::npos && behind_version < state.size() &&
                           (state[behind_version] == ',' || state[behind_version] == '}');
    if (!parts || !version_1) {
        return make_error(std::errc::bad_message, "this is no state file of version 1");
    }
    std::vector<std::string> texts;
    texts.reserve(mentions.size());
    for (const auto& mention : mentions) texts.push_back(to_line(mention.key) + ":" + to_line(mention.value));
    std::vector<Json> out;
    for (const std::string_view part : *parts) {
        if (!holds_any(part, texts)) continue;
        Json device = Json::parse(part, nullptr, false);
        if (device.is_discarded())
            return make_error(std::errc::bad_message, "the state file holds a device that is no JSON");
        out.push_back(std::move(device));
    }
    return out;
}

}  // namespace storctl::cli
