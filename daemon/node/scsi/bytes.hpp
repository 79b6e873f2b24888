#pragma once
// Big-endian fields in CDBs, parameter lists and answers. Reading past the end is a bug of the caller's and ends the
// process (span's own check), so every parser looks at lengths first.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace storctl::node::scsi {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

inline constexpr size_t longest_cdb = 260;  ///< SPC-5: one of variable length

inline ByteView octets(std::span<const std::byte> data) {
    return {reinterpret_cast<const uint8_t*>(data.data()), data.size()};
}

/// `count` bytes from `at` as one number, at most 8.
inline uint64_t get_be(ByteView bytes, size_t at, size_t count) {
    uint64_t value = 0;
    for (const uint8_t byte : bytes.subspan(at, count)) value = value << 8 | byte;
    return value;
}
inline uint16_t get_be16(ByteView bytes, size_t at) { return static_cast<uint16_t>(get_be(bytes, at, 2)); }
inline uint32_t get_be32(ByteView bytes, size_t at) { return static_cast<uint32_t>(get_be(bytes, at, 4)); }
inline uint64_t get_be64(ByteView bytes, size_t at) { return get_be(bytes, at, 8); }

inline void put_be(std::span<uint8_t> bytes, size_t at, uint64_t value, size_t count) {
    for (size_t i = 0; i < count; ++i) bytes[at + i] = static_cast<uint8_t>(value >> 8 * (count - 1 - i));
}
inline void append_be(Bytes& bytes, uint64_t value, size_t count) {
    bytes.resize(bytes.size() + count);
    put_be(bytes, bytes.size() - count, value, count);
}
inline void append(Bytes& bytes, ByteView more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
/// Left-aligned ASCII as SPC wants it: printable characters, blanks behind and for what is not printable.
inline void append_text(Bytes& bytes, std::string_view text, size_t width) {
    for (size_t i = 0; i < width; ++i) {
        const bool printable = i < text.size() && text[i] >= 0x20 && text[i] <= 0x7e;
        bytes.push_back(printable ? static_cast<uint8_t>(text[i]) : uint8_t{' '});
    }
}

}  // namespace storctl::node::scsi
