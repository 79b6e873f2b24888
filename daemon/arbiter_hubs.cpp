#include "daemon/arbiter_hubs.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include "base/log.hpp"
#include "base/text.hpp"

namespace storctl {
namespace {

using usbarb::ClaimId;
using usbarb::HubPorts;

constexpr int most_ports = 32;  // include/linux/usb.h: USB_MAXCHILDREN is 31
constexpr std::string_view node_folder = "/dev/bus/usb/";

template <class Number>
bool parse_number(std::string_view text, int base, Number& out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
    return error == std::errc{} && end == text.data() + text.size();
}

void tell_store(const std::string& name, const int* file) {
    if (file != nullptr) {
        const std::string text = fmt::format("FDSTORE=1\nFDNAME={}", name);
        const int sent = sd_pid_notify_with_fds(0, 0, text.c_str(), file, 1);
        if (sent < 0)
            log::warning("the service manager does not keep '{}' over a restart: {}", name,
                         errno_error("", -sent).message());
    } else {
        sd_notify(0, fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name).c_str());
    }
}

}  // namespace

std::string stored_name(ClaimId claim, const HubPorts& hub) {
    uint32_t bits = 0;
    for (const uint8_t port : hub.ports) {
        if (port < most_ports) bits |= uint32_t{1} << port;
    }
    std::string node = hub.devnode;
    if (node.starts_with(node_folder)) node = node.substr(node_folder.size());
    std::replace(node.begin(), node.end(), '/', '-');
    return fmt::format("hub-{}-{}-{:08x}", claim, node, bits);
}

std::optional<StoredHub> parse_stored_name(const std::string& name) {
    const auto parts = split(name, '-');
    if (parts.size() != 5 || parts[0] != "hub") return std::nullopt;
    StoredHub out;
    uint16_t bus = 0, address = 0;
    uint32_t bits = 0;
    const bool good = parse_number(parts[1], 10, out.claim) && parse_number(parts[2], 10, bus) &&
                      parse_number(parts[3], 10, address) && parse_number(parts[4], 16, bits);
    if (!good) return std::nullopt;
    out.hub.devnode = fmt::format("{}{:03}/{:03}", node_folder, bus, address);
    for (uint8_t port = 0; port < most_ports; ++port) {
        if ((bits >> port & 1) != 0) out.hub.ports.push_back(port);
    }
    return out;
}

void HeldHubs::adopt() {
    char** names = nullptr;
    const int count = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count; ++i) {
        UniqueFd file(SD_LISTEN_FDS_START + i);
        const auto stored = names != nullptr ? parse_stored_name(names[i]) : std::nullopt;
        if (stored) held_.push_back({.claim = stored->claim, .hub = stored->hub, .file = std::move(file)});
        if (names != nullptr) std::free(names[i]);
    }
    std::free(names);
    if (!held_.empty()) log::notice("{} held hubs taken over from the service manager", held_.size());
}

void HeldHubs::hold(ClaimId claim, const HubPorts& hub, UniqueFd file) {
    const int raw = file.get();
    tell_store(stored_name(claim, hub), &raw);
    held_.push_back({.claim = claim, .hub = hub, .file = std::move(file)});
}

HeldHubs::Lent HeldHubs::lend(ClaimId claim) const {
    Lent out;
    for (const auto& held : held_) {
        if (held.claim != claim) continue;
        UniqueFd second(::fcntl(held.file.get(), F_DUPFD_CLOEXEC, 0));
        if (!second) {
            log::warning("ports of {} are free only once the service manager lets go of them: {}", held.hub.devnode,
                         errno_error("").message());
            continue;
        }
        out.hubs.push_back(held.hub);
        out.files.push_back(std::move(second));
    }
    return out;
}

void HeldHubs::close(ClaimId claim) {
    std::erase_if(held_, [&](const Held& held) {
        if (held.claim == claim) tell_store(stored_name(held.claim, held.hub), nullptr);
        return held.claim == claim;
    });
}

void HeldHubs::forget(const std::string& devnode) {
    std::erase_if(held_, [&](const Held& held) {
        if (held.hub.devnode == devnode) tell_store(stored_name(held.claim, held.hub), nullptr);
        return held.hub.devnode == devnode;
    });
}

std::vector<ClaimId> HeldHubs::claims() const {
    std::vector<ClaimId> out;
    for (const auto& held : held_) {
        if (std::find(out.begin(), out.end(), held.claim) == out.end()) out.push_back(held.claim);
    }
    return out;
}

bool HeldHubs::holds(const std::string& devnode) const {
    return std::any_of(held_.begin(), held_.end(), [&](const Held& held) { return held.hub.devnode == devnode; });
}

bool HeldHubs::holds_port(const std::string& devnode, uint8_t port) const {
    return std::any_of(held_.begin(), held_.end(), [&](const Held& held) {
        return held.hub.devnode == devnode &&
               std::find(held.hub.ports.begin(), held.hub.ports.end(), port) != held.hub.ports.end();
    });
}

std::optional<UniqueFd> HeldHubs::give_up_port(const std::string& devnode, uint8_t port) {
    for (auto& held : held_) {
        const auto found = std::find(held.hub.ports.begin(), held.hub.ports.end(), port);
        if (held.hub.devnode != devnode || found == held.hub.ports.end()) continue;
        UniqueFd second(::fcntl(held.file.get(), F_DUPFD_CLOEXEC, 0));
        if (!second) return std::nullopt;
        tell_store(stored_name(held.claim, held.hub), nullptr);
        held.hub.ports.erase(found);
        const int raw = held.file.get();
        tell_store(stored_name(held.claim, held.hub), &raw);
        return second;
    }
    return std::nullopt;
}

}  // namespace storctl
