#include "tests/lab/usbfs_client/report.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace storctl::usbfs_client {

void report(std::string_view name, std::string_view result) {
    fmt::print("{}: {}\n", name, result);
    std::fflush(stdout);  // a child that is killed has said what it said
}

std::string outcome(long result) {
    if (result >= 0) return std::to_string(result);
    const char* name = strerrorname_np(static_cast<int>(-result));
    return name != nullptr ? name : fmt::format("errno {}", -result);
}

std::string all_of(std::initializer_list<std::string> parts) { return fmt::format("{}", fmt::join(parts, ", ")); }

// FNV-1a
uint32_t checksum(std::span<const std::byte> bytes) {
    uint32_t sum = 0x811c9dc5;
    for (const std::byte byte : bytes) sum = (sum ^ static_cast<uint32_t>(byte)) * 0x01000193;
    return sum;
}

std::string content(std::span<const std::byte> bytes) {
    return fmt::format("{} bytes {:08x}", bytes.size(), checksum(bytes));
}

void give_up(std::string_view what, long result) {
    report("FAILED", fmt::format("{}: {}", what, outcome(result)));
    std::exit(1);
}

}  // namespace storctl::usbfs_client
