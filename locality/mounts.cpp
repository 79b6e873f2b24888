#include "locality/mounts.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/text.hpp"

namespace storctl::locality {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

std::vector<std::string_view> words(std::string_view line) {
    std::vector<std::string_view> out;
    while (!line.empty()) {
        const auto start = line.find_first_not_of(" \t");
        if (start == std::string_view::npos) break;
        line.remove_prefix(start);
        const auto end = std::min(line.find_first_of(" \t"), line.size());
        out.push_back(line.substr(0, end));
        line.remove_prefix(end);
    }
    return out;
}

std::optional<DeviceNumber> parse_number(std::string_view text) {
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    DeviceNumber number;
    const auto read = [](std::string_view part, uint32_t& into) {
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), into);
        return error == std::errc{} && end == part.data() + part.size();
    };
    if (!read(text.substr(0, colon), number.major) || !read(text.substr(colon + 1), number.minor)) return std::nullopt;
    return number;
}

/// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": any number of fields before the dash.
std::optional<Mount> parse_mount(std::string_view line) {
    const auto fields = words(line);
    if (fields.size() < 6) return std::nullopt;
    const auto number = parse_number(fields[2]);
    const auto dash = std::find(fields.begin() + 6, fields.end(), std::string_view("-"));
    if (!number || fields.end() - dash < 3) return std::nullopt;
    return Mount{.number = *number,
                 .root = unescape_octal(fields[3]),
                 .mount_point = unescape_octal(fields[4]),
                 .type = unescape_octal(dash[1]),
                 .source = unescape_octal(dash[2])};
}

}  // namespace

std::string unescape_octal(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        const bool escape = text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3' &&
                            is_octal(text[i + 2]) && is_octal(text[i + 3]);
        if (escape) {
            out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
    std::vector<Mount> out;
    for (const auto& line : split(text, '\n')) {
        if (auto mount = parse_mount(line)) out.push_back(std::move(*mount));
    }
    return out;
}

std::vector<std::string> parse_swaps(std::string_view text) {
    std::vector<std::string> out;
    for (const auto& line : split(text, '\n')) {
        const auto fields = words(line);
        // the heading's first word is no absolute path
        if (fields.size() >= 2 && fields[0].starts_with('/')) out.push_back(unescape_octal(fields[0]));
    }
    return out;
}

}  // namespace storctl::locality
