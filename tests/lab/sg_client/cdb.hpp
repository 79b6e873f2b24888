#pragma once
// The commands that the cases send (SBC-4, SPC-5). Pure.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace storctl::sg_client {

using Cdb = std::vector<uint8_t>;

inline void put_number(Cdb& cdb, size_t at, size_t bytes, uint64_t value) {
    for (size_t i = 0; i < bytes; ++i) cdb[at + i] = static_cast<uint8_t>(value >> (8 * (bytes - 1 - i)));
}

inline uint64_t number_at(const std::byte* bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
}

inline constexpr uint8_t read10 = 0x28, write10 = 0x2a, read16 = 0x88, write16 = 0x8a;

/// READ or WRITE (10) or (16).
inline Cdb transfer(uint8_t opcode, uint64_t block, uint32_t blocks, bool fua = false) {
    const bool ten = opcode == read10 || opcode == write10;
    Cdb cdb(ten ? 10 : 16);
    cdb[0] = opcode;
    cdb[1] = fua ? 8 : 0;
    put_number(cdb, 2, ten ? 4 : 8, block);
    put_number(cdb, ten ? 7 : 10, ten ? 2 : 4, blocks);
    return cdb;
}

inline Cdb test_unit_ready() { return Cdb(6); }
inline Cdb inquiry(uint8_t room) { return {0x12, 0, 0, 0, room, 0}; }
inline Cdb mode_sense(uint8_t page, uint8_t room) { return {0x1a, 0, page, 0, room, 0}; }
inline Cdb read_capacity16(uint8_t room) { return {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, room, 0, 0}; }
inline Cdb synchronize_cache() { return {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}; }
inline Cdb vendor_specific() { return {0xc1, 0, 0, 0, 0, 0}; }

inline Cdb persistent_reserve_out(uint8_t action, uint8_t type, uint32_t parameter_bytes) {
    Cdb cdb{0x5f, action, type, 0, 0, 0, 0, 0, 0, 0};
    put_number(cdb, 5, 4, parameter_bytes);
    return cdb;
}

}  // namespace storctl::sg_client
