#pragma once
// Which guest a QEMU process runs, as its command line says. Any thread; reading waits for the process's memory map,
// and for the page that has its arguments.

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace storctl {

struct QemuGuest {
    std::string name;  ///< -name NAME, -name guest=NAME; as it is given: not for a terminal. Empty: none given
    std::string uuid;  ///< -uuid; empty: none given
    bool operator==(const QemuGuest&) const = default;
};

/// Nothing: no emulator of a machine. Its tools (qemu-img, qemu-nbd, …) are none.
std::optional<QemuGuest> qemu_guest(const std::vector<std::string>& arguments);
/// Of "/proc/PID". An error when its command line cannot be read.
Result<std::optional<QemuGuest>> qemu_guest_of(const std::string& process);

}  // namespace storctl
