#pragma once
// Bulk-only transport and the few SCSI commands that a test disk is asked (USB Mass Storage Class, Bulk-Only Transport
// 1.0; SPC-3; SBC-3), and the pattern that lies on it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace storctl::usbfs_client {

inline constexpr size_t sector_bytes = 512;
inline constexpr size_t command_wrapper_bytes = 31, status_wrapper_bytes = 13;

struct ScsiCommand {
    std::array<uint8_t, 16> bytes{};
    uint8_t length = 6;
    uint32_t data_bytes = 0;
    bool to_host = true;
};

ScsiCommand inquiry();
ScsiCommand read_capacity();
ScsiCommand request_sense();
ScsiCommand read_sectors(uint32_t first, uint16_t count);
ScsiCommand write_sectors(uint32_t first, uint16_t count);
ScsiCommand unknown_command();  ///< one that no disk has, with 512 bytes to come

std::array<std::byte, command_wrapper_bytes> wrap(const ScsiCommand& command, uint32_t tag);
/// "status 0 residue 0", or what is wrong with it.
std::string describe_status(std::span<const std::byte> wrapper, uint32_t tag);

/// Every word of the disk is different, and another one for each seed.
void fill_pattern(std::span<std::byte> sectors, uint32_t first_sector, uint32_t seed);
/// "as written", or the first byte that differs.
std::string compare_pattern(std::span<const std::byte> sectors, uint32_t first_sector, uint32_t seed);

}  // namespace storctl::usbfs_client
