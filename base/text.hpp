#pragma once
// Pure text helpers: trimming, splitting, hexadecimal, sizes and durations as people write them.

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace storctl {

std::string_view trim(std::string_view text);
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string to_lower(std::string_view text);
/// Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
bool valid_utf8(std::string_view text);
/// Bytes outside printable ASCII as \xNN: for foreign strings in messages and reports.
std::string escape_unprintable(std::string_view text);

std::string hex_encode(std::span<const uint8_t> bytes);
Result<std::vector<uint8_t>> hex_decode(std::string_view text);

/// Whole-string unsigned decimal number; errors name `what`.
Result<uint64_t> parse_unsigned(std::string_view text, std::string_view what);
/// "512", "64K", "1M", "2G", "1T" (powers of 1024; also KiB, MiB …) in bytes.
Result<uint64_t> parse_size(std::string_view text, std::string_view what);
/// "1.5 GiB": three digits at the most, powers of 1024.
std::string format_size(uint64_t bytes);
/// "35 µs", "1.20 ms", "3.4 s".
std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace storctl
