#include "base/text.hpp"

#include <array>
#include <charconv>

#include <fmt/format.h>

namespace storctl {

std::string_view trim(std::string_view text) {
    constexpr std::string_view blank = " \t\r\n\v\f";
    const auto first = text.find_first_not_of(blank);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    if (text.empty()) return parts;
    for (size_t start = 0;;) {
        const auto end = text.find(separator, start);
        parts.emplace_back(text.substr(start, end == std::string_view::npos ? end : end - start));
        if (end == std::string_view::npos) return parts;
        start = end + 1;
    }
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
    return fmt::format("{}", fmt::join(parts, separator));
}

std::string to_lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return out;
}

bool valid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<uint8_t>(text[i]);
        const size_t length = lead < 0x80         ? 1
                              : (lead >> 5) == 6  ? 2
                              : (lead >> 4) == 14 ? 3
                              : (lead >> 3) == 30 ? 4
                                                  : 0;
        if (length == 0 || i + length > text.size()) return false;
        uint32_t code = length == 1 ? lead : lead & (0xffU >> (length + 1));
        for (size_t k = 1; k < length; ++k) {
            const auto next = static_cast<uint8_t>(text[i + k]);
            if ((next & 0xc0) != 0x80) return false;
            code = code << 6 | (next & 0x3f);
        }
        constexpr std::array<uint32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
        if (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
        i += length;
    }
    return true;
}

std::string escape_unprintable(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c >= 0x20 && c < 0x7f) {
            out += c;
        } else {
            out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
        }
    }
    return out;
}

std::string hex_encode(std::span<const uint8_t> bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const uint8_t byte : bytes) {
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    return out;
}

Result<std::vector<uint8_t>> hex_decode(std::string_view text) {
    if (text.size() % 2 != 0) return make_error(std::errc::invalid_argument, "hexadecimal text of odd length");
    std::vector<uint8_t> out(text.size() / 2);
    for (size_t i = 0; i < out.size(); ++i) {
        const char* pair = text.data() + 2 * i;
        const auto [end, error] = std::from_chars(pair, pair + 2, out[i], 16);
        if (error != std::errc{} || end != pair + 2) {
            return make_error(std::errc::invalid_argument,
                              fmt::format("'{}' is not hexadecimal", escape_unprintable(text.substr(2 * i, 2))));
        }
    }
    return out;
}

Result<uint64_t> parse_unsigned(std::string_view text, std::string_view what) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range) {
        return make_error(error, fmt::format("{} '{}' is too large", what, escape_unprintable(text)));
    }
    if (error != std::errc{} || end != text.data() + text.size()) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("{} '{}' is not a whole number", what, escape_unprintable(text)));
    }
    return value;
}

Result<uint64_t> parse_size(std::string_view text, std::string_view what) {
    constexpr std::string_view units = "KMGTP";
    std::string_view number = text;
    if (number.ends_with("iB")) {
        number.remove_suffix(2);
    } else if (number.ends_with("B")) {
        number.remove_suffix(1);
    }
    unsigned shift = 0;
    if (!number.empty()) {
        const auto unit = units.find(number.back());
        if (unit != std::string_view::npos) {
            shift = 10 * static_cast<unsigned>(unit + 1);
            number.remove_suffix(1);
        }
    }
    auto value = parse_unsigned(number, what);
    if (!value || (*value << shift) >> shift != *value) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("{} '{}' is not a size: give bytes, or a number with K, M, G or T", what,
                                      escape_unprintable(text)));
    }
    return *value << shift;
}

std::string format_size(uint64_t bytes) {
    if (bytes < 1024) return fmt::format("{} B", bytes);
    constexpr std::array<const char*, 6> units{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes) / 1024;
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < units.size(); ++unit) value /= 1024;
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    std::string digits = fmt::format("{:.{}f}", value, decimals);
    if (decimals > 0) {
        while (digits.ends_with('0')) digits.pop_back();
        if (digits.ends_with('.')) digits.pop_back();
    }
    return digits + " " + units[unit];
}

std::string format_duration(std::chrono::nanoseconds duration) {
    const auto ns = static_cast<double>(duration.count());
    if (ns < 1e3) return fmt::format("{} ns", duration.count());
    if (ns < 1e6) return fmt::format("{:.3g} µs", ns / 1e3);
    if (ns < 1e9) return fmt::format("{:.3g} ms", ns / 1e6);
    return fmt::format("{:.3g} s", ns / 1e9);
}

}  // namespace storctl
