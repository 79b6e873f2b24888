#pragma once
// What a run says: one line per case, "CASE: RESULT", with everything that a program can see and nothing that changes
// from run to run. Two runs, on a real node and on a mediated one, are compared line by line.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace storctl::usbfs_client {

void report(std::string_view name, std::string_view result);

/// A result of 0 or more as it is, -errno by its name: "EBUSY".
std::string outcome(long result);
/// The parts with commas between. A braced list is evaluated in its order, unlike the operands of +.
std::string all_of(std::initializer_list<std::string> parts);
uint32_t checksum(std::span<const std::byte> bytes);
/// "36 bytes 1f2e3d4c".
std::string content(std::span<const std::byte> bytes);

/// The run cannot go on: what was tried.
[[noreturn]] void give_up(std::string_view what, long result);

}  // namespace storctl::usbfs_client
