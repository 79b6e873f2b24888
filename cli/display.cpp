#include "cli/display.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include <fmt/format.h>

namespace storctl::cli {
namespace {

struct Range {
    char32_t first, last;
};

// Unicode 15: the blocks that matter for names of things; sorted.
constexpr auto zero_width = std::to_array<Range>({{0x300, 0x36f},
                                                  {0x483, 0x489},
                                                  {0x591, 0x5bd},
                                                  {0x610, 0x61a},
                                                  {0x64b, 0x65f},
                                                  {0x1ab0, 0x1aff},
                                                  {0x1dc0, 0x1dff},
                                                  {0x200b, 0x200f},
                                                  {0x202a, 0x202e},
                                                  {0x2060, 0x2064},
                                                  {0x20d0, 0x20f0},
                                                  {0xfe00, 0xfe0f},
                                                  {0xfe20, 0xfe2f},
                                                  {0xfeff, 0xfeff},
                                                  {0xe0100, 0xe01ef}});
constexpr auto double_width = std::to_array<Range>({{0x1100, 0x115f},
                                                    {0x2e80, 0x303e},
                                                    {0x3041, 0x33ff},
                                                    {0x3400, 0x4dbf},
                                                    {0x4e00, 0x9fff},
                                                    {0xa000, 0xa4cf},
                                                    {0xac00, 0xd7a3},
                                                    {0xf900, 0xfaff},
                                                    {0xfe30, 0xfe6f},
                                                    {0xff00, 0xff60},
                                                    {0xffe0, 0xffe6},
                                                    {0x1f300, 0x1f64f},
                                                    {0x1f680, 0x1f6ff},
                                                    {0x1f900, 0x1f9ff},
                                                    {0x20000, 0x3fffd}});

template <size_t n>
bool within(const std::array<Range, n>& ranges, char32_t code) {
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                        [](char32_t value, const Range& range) { return value < range.first; });
    return after != ranges.begin() && code <= std::prev(after)->last;
}

struct Decoded {
    char32_t code = 0;
    size_t length = 0;  ///< 0: not UTF-8 here
};

/// The character at the start of `text` (not empty); RFC 3629.
Decoded decode(std::string_view text) {
    const auto lead = static_cast<uint8_t>(text[0]);
    if (lead < 0x80) return {lead, 1};
    const size_t length = (lead >> 5) == 6 ? 2 : (lead >> 4) == 14 ? 3 : (lead >> 3) == 30 ? 4 : 0;
    if (length == 0 || length > text.size()) return {};
    char32_t code = lead & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
        const auto next = static_cast<uint8_t>(text[i]);
        if ((next & 0xc0) != 0x80) return {};
        code = code << 6 | (next & 0x3f);
    }
    constexpr std::array<char32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
    if (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {};
    return {code, length};
}

size_t width_of(char32_t code) { return within(zero_width, code) ? 0 : within(double_width, code) ? 2 : 1; }

/// Characters that move the cursor, start an escape sequence or turn the direction of writing round.
bool steers_terminal(char32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0x2028 || code == 0x2029;
}

}  // namespace

size_t display_width(std::string_view text) {
    size_t width = 0;
    while (!text.empty()) {
        const Decoded next = decode(text);
        width += next.length == 0 ? 1 : width_of(next.code);
        text.remove_prefix(std::max<size_t>(next.length, 1));
    }
    return width;
}

std::string printable(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const Decoded next = decode(text);
        const size_t length = std::max<size_t>(next.length, 1);
        if (next.length == 0 || steers_terminal(next.code)) {
            for (const char c : text.substr(0, length)) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
        } else {
            out += text.substr(0, length);
        }
        text.remove_prefix(length);
    }
    return out;
}

std::string cut(std::string_view text, size_t columns) {
    if (display_width(text) <= columns) return std::string(text);
    if (columns == 0) return {};
    size_t width = 0, end = 0;
    while (end < text.size()) {
        const Decoded next = decode(text.substr(end));
        width += next.length == 0 ? 1 : width_of(next.code);
        if (width > columns - 1) break;
        end += std::max<size_t>(next.length, 1);
    }
    return std::string(text.substr(0, end)) + "…";
}

std::string shell_quote(std::string_view text) {
    constexpr std::string_view safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%_+=:,./-";
    if (!text.empty() && text.find_first_not_of(safe) == std::string_view::npos) return std::string(text);
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

std::string styled(std::string_view text, Style style, bool colour) {
    const auto sgr = [style]() -> std::string_view {
        switch (style) {
            case Style::plain:
                return "";
            case Style::heading:
                return "1";
            case Style::good:
                return "32";
            case Style::warning:
                return "33";
            case Style::bad:
                return "31";
            case Style::dim:
                return "2";
        }
        return "";
    }();
    if (!colour || sgr.empty() || text.empty()) return std::string(text);
    return fmt::format("\x1b[{}m{}\x1b[0m", sgr, text);
}

}  // namespace storctl::cli
