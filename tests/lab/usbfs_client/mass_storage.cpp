#include "tests/lab/usbfs_client/mass_storage.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include <endian.h>
#include <fmt/format.h>

namespace storctl::usbfs_client {
namespace {

ScsiCommand of_sectors(uint8_t operation, uint32_t first, uint16_t count, bool to_host) {
    ScsiCommand command{.length = 10, .data_bytes = count * uint32_t{sector_bytes}, .to_host = to_host};
    command.bytes[0] = operation;
    for (int byte = 0; byte < 4; ++byte) command.bytes[2 + byte] = static_cast<uint8_t>(first >> (24 - 8 * byte));
    command.bytes[7] = static_cast<uint8_t>(count >> 8);
    command.bytes[8] = static_cast<uint8_t>(count);
    return command;
}

void put(std::span<std::byte> where, uint32_t value) {
    const uint32_t little = htole32(value);
    std::memcpy(where.data(), &little, sizeof little);
}

uint32_t take(std::span<const std::byte> where) {
    uint32_t little = 0;
    std::memcpy(&little, where.data(), sizeof little);
    return le32toh(little);
}

}  // namespace

ScsiCommand inquiry() { return {.bytes = {0x12, 0, 0, 0, 36}, .data_bytes = 36}; }

ScsiCommand read_capacity() { return {.bytes = {0x25}, .length = 10, .data_bytes = 8}; }

ScsiCommand request_sense() { return {.bytes = {0x03, 0, 0, 0, 18}, .data_bytes = 18}; }

ScsiCommand read_sectors(uint32_t first, uint16_t count) { return of_sectors(0x28, first, count, true); }

ScsiCommand write_sectors(uint32_t first, uint16_t count) { return of_sectors(0x2a, first, count, false); }

ScsiCommand unknown_command() { return {.bytes = {0xff}, .data_bytes = sector_bytes}; }

std::array<std::byte, command_wrapper_bytes> wrap(const ScsiCommand& command, uint32_t tag) {
    std::array<std::byte, command_wrapper_bytes> wrapper{};
    const std::span<std::byte> bytes(wrapper);
    std::memcpy(wrapper.data(), "USBC", 4);
    put(bytes.subspan(4), tag);
    put(bytes.subspan(8), command.data_bytes);
    wrapper[12] = std::byte(command.to_host ? 0x80 : 0);
    wrapper[14] = std::byte(command.length);
    std::memcpy(wrapper.data() + 15, command.bytes.data(), command.length);
    return wrapper;
}

std::string describe_status(std::span<const std::byte> wrapper, uint32_t tag) {
    if (wrapper.size() != status_wrapper_bytes) return fmt::format("a status of {} bytes", wrapper.size());
    if (std::memcmp(wrapper.data(), "USBS", 4) != 0) return "a status without its signature";
    if (take(wrapper.subspan(4)) != tag) return "the status of another command";
    return fmt::format("status {} residue {}", static_cast<unsigned>(wrapper[12]), take(wrapper.subspan(8)));
}

void fill_pattern(std::span<std::byte> sectors, uint32_t first_sector, uint32_t seed) {
    const uint32_t first_word = first_sector * uint32_t{sector_bytes / sizeof(uint32_t)};
    for (size_t word = 0; word < sectors.size() / sizeof(uint32_t); ++word) {
        const uint32_t value = (first_word + static_cast<uint32_t>(word)) * 0x9e3779b1U ^ seed * 0x85ebca6bU;
        put(sectors.subspan(word * sizeof value), value);
    }
}

std::string compare_pattern(std::span<const std::byte> sectors, uint32_t first_sector, uint32_t seed) {
    std::vector<std::byte> expected(sectors.size());
    fill_pattern(expected, first_sector, seed);
    const auto [got, wanted] = std::mismatch(sectors.begin(), sectors.end(), expected.begin());
    if (got == sectors.end()) return "as written";
    return fmt::format("differs at byte {}", got - sectors.begin());
}

}  // namespace storctl::usbfs_client
