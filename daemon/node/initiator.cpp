#include "daemon/node/initiator.hpp"

#include <string_view>

#include <fmt/format.h>

#include "base/qemu_guest.hpp"

namespace storctl::node {
namespace {

constexpr size_t longest = 240;  // as scsi::check(NexusName) has it

std::string escape(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > 0x20 && byte < 0x7f && c != '%') {
            out += c;
        } else {
            out += fmt::format("%{:02X}", byte);
        }
    }
    return out;
}

/// FNV-1a: the same in every build and on every machine, as the name is stored.
uint64_t digest(std::string_view text) {
    uint64_t value = 0xcbf29ce484222325;
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return value;
}

std::string fit(std::string name) {
    if (name.size() <= longest) return name;
    const auto end = fmt::format("~{:016x}", digest(name));
    name.resize(longest - end.size());
    return name + end;
}

std::string holder(int pid, const std::string& proc) {
    if (pid <= 0) return "unseen";
    const auto guest = qemu_guest_of(fmt::format("{}/{}", proc, pid));
    if (guest && !*guest) return "host";
    if (guest && !(*guest)->name.empty()) return "vm:" + escape((*guest)->name);
    if (guest && !(*guest)->uuid.empty()) return "vm:" + escape((*guest)->uuid);
    return fmt::format("proc:{}", pid);
}

}  // namespace

std::string initiator_of(int pid, const std::string& host, const std::string& proc) {
    return fit(escape(host) + ":" + holder(pid, proc));
}

}  // namespace storctl::node
