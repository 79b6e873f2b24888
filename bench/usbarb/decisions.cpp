// Decisions of the arbiter's core, without a daemon: what a claim and its release cost on hosts of several sizes and at
// every depth, beside the same decisions by a list of claims that is searched from end to end, as is usual (libvirt's
// virUSBDeviceList). Prints JSON; bench/usbarb/usbarb makes the table.

#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>

#include <malloc.h>

#include <nlohmann/json.hpp>

#include "usbarb/arbiter.hpp"

namespace {

using namespace storctl;
using namespace storctl::usbarb;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr size_t ports_of_a_root = 14, ports_of_a_hub = 7, tiers = 5;
constexpr size_t devices_on_a_chain = (tiers - 1) * (ports_of_a_hub - 1);
constexpr auto shortest_run = std::chrono::milliseconds(300);

struct Host {
    std::vector<ControllerFacts> controllers;
    std::vector<DeviceFacts> devices;                 ///< hubs first
    std::vector<std::vector<Socket>> leaves_at = {};  ///< by depth
};

DeviceFacts device(const Socket& socket, bool hub, uint16_t address) {
    DeviceFacts facts{.socket = socket, .kernel_name = to_text(socket), .bus = 1, .address = address, .hub = hub};
    facts.identity = {.vendor_id = 0x1234, .product_id = address, .serial = "S" + to_text(socket)};
    facts.interfaces = {{.number = 0, .device_class = 8, .driver = "usb-storage"}};
    return facts;
}

/// Chains of hubs from the root ports of each controller down to the fifth tier, their other ports filled with devices.
Host make_host(size_t controllers, size_t devices) {
    Host host;
    host.leaves_at.resize(tiers + 1);
    const size_t on_each = (devices + controllers - 1) / controllers;
    uint16_t address = 2;
    std::vector<DeviceFacts> leaves;
    for (size_t c = 0; c < controllers; ++c) {
        ControllerFacts facts{.path = parse_pci_address("0000:00:00.0").value(), .kind = ControllerKind::usb};
        facts.path = "0000:" + std::string{"0123456789abcdef"[c / 256 % 16], "0123456789abcdef"[c / 16 % 16]} + ":0" +
                     "0123456789abcdef"[c % 16] + ".0";
        facts.driver = "xhci_hcd";
        facts.iommu_group = static_cast<int>(c);
        facts.buses = {1, 2};
        host.controllers.push_back(facts);
        size_t made = 0;
        for (uint8_t root = 1; root <= ports_of_a_root && made < on_each; ++root) {
            Socket hub{.controller = facts.path, .ports = {root}};
            for (size_t tier = 1; tier < tiers && made < on_each; ++tier) {
                host.devices.push_back(device(hub, true, address++));
                for (uint8_t port = 2; port <= ports_of_a_hub && made < on_each; ++port, ++made) {
                    Socket leaf = hub;
                    leaf.ports.push_back(port);
                    leaves.push_back(device(leaf, false, address++));
                    host.leaves_at[leaf.ports.size()].push_back(leaf);
                }
                hub.ports.push_back(1);
            }
        }
    }
    host.devices.insert(host.devices.end(), leaves.begin(), leaves.end());
    return host;
}

void fill(Arbiter& arbiter, const Host& host) { arbiter.replace_all(host.controllers, host.devices, WallTime{}); }

/// Nanoseconds of one call, over as many as fit.
double time_of(const std::function<void(size_t)>& call) {
    size_t calls = 0;
    const auto start = Clock::now();
    auto now = start;
    while (now - start < shortest_run) {
        for (int i = 0; i < 256; ++i) call(calls++);
        now = Clock::now();
    }
    return std::chrono::duration<double, std::nano>(now - start).count() / static_cast<double>(calls);
}

Request request_for(const Socket& socket, const std::string& holder) {
    return {.targets = {{.kind = ClaimKind::device, .socket = socket}}, .holder = holder};
}

double claim_and_release(Arbiter& arbiter, const std::vector<Socket>& sockets) {
    Changes changes;
    size_t refused = 0;
    const double nanoseconds = time_of([&](size_t i) {
        changes.clear();
        const auto decision = arbiter.claim(request_for(sockets[i % sockets.size()], "vm:bench"), WallTime{}, changes);
        if (!decision.granted()) return void(++refused);
        arbiter.begin_release(decision.claims[0], false);
        arbiter.finish_release(decision.claims[0], WallTime{});
    });
    if (refused != 0 || !arbiter.counters().empty()) {
        std::cerr << "decisions: " << refused << " claims were refused\n";
        std::exit(1);
    }
    return nanoseconds;
}

/// The same question asked of a list: is it, or a hub above it, or its controller, somebody's; add; look it up; remove.
class List {
 public:
    bool claim(const Socket& socket, const std::string& holder) {
        for (const auto& [held, who] : claims_) {
            if ((held == socket || socket.is_below(held)) && who != holder) return false;
        }
        claims_.emplace_back(socket, holder);
        return true;
    }
    void release(const Socket& socket) {
        for (size_t i = 0; i < claims_.size(); ++i) {
            if (claims_[i].first != socket) continue;
            claims_.erase(claims_.begin() + static_cast<std::ptrdiff_t>(i));
            return;
        }
    }

 private:
    std::vector<std::pair<Socket, std::string>> claims_;
};

/// With half of the devices claimed: what a host full of virtual machines looks like.
Json with_claims(const Host& host) {
    std::vector<Socket> held, free;
    for (const auto& sockets : host.leaves_at) {
        for (size_t i = 0; i < sockets.size(); ++i) (i % 2 == 0 ? held : free).push_back(sockets[i]);
    }
    Arbiter arbiter;
    fill(arbiter, host);
    List list;
    Changes changes;
    for (const auto& socket : held) {
        arbiter.claim(request_for(socket, "vm:other"), WallTime{}, changes);
        list.claim(socket, "vm:other");
    }
    const double tree_ns = time_of([&](size_t i) {
        changes.clear();
        const auto decision = arbiter.claim(request_for(free[i % free.size()], "vm:bench"), WallTime{}, changes);
        arbiter.begin_release(decision.claims.at(0), false);
        arbiter.finish_release(decision.claims[0], WallTime{});
    });
    const double list_ns = time_of([&](size_t i) {
        list.claim(free[i % free.size()], "vm:bench");
        list.release(free[i % free.size()]);
    });
    const double refusal_ns =
        time_of([&](size_t i) { arbiter.explain(request_for(held[i % held.size()], "vm:bench")); });
    return {{"claimed", held.size()}, {"tree_ns", tree_ns}, {"list_ns", list_ns}, {"refusal_ns", refusal_ns}};
}

Json measure(size_t controllers, size_t devices) {
    const Host host = make_host(controllers, devices);
    const size_t before = ::mallinfo2().uordblks;
    Arbiter arbiter;
    fill(arbiter, host);
    const double held = static_cast<double>(::mallinfo2().uordblks - before);
    std::vector<Socket> all;
    Json depths = Json::array();
    for (size_t depth = 2; depth <= tiers; ++depth) {
        const auto& sockets = host.leaves_at[depth];
        if (sockets.empty()) continue;
        all.insert(all.end(), sockets.begin(), sockets.end());
        depths.push_back({{"depth", depth}, {"pair_ns", claim_and_release(arbiter, sockets)}});
    }
    const double pair_ns = claim_and_release(arbiter, all);
    // a hub with everything below it pulled out and put back
    const double replug_ns = time_of([&](size_t i) {
        const DeviceFacts& facts = host.devices[host.devices.size() - 1 - i % all.size()];
        arbiter.unplug(facts.socket, facts.half, WallTime{});
        arbiter.plug(facts, WallTime{});
    });
    return {{"controllers", controllers},
            {"devices", all.size()},
            {"hubs", host.devices.size() - all.size()},
            {"pair_ns", pair_ns},
            {"depths", depths},
            {"replug_ns", replug_ns},
            {"bytes_per_device", held / static_cast<double>(host.devices.size())},
            {"claimed_half", with_claims(host)}};
}

}  // namespace

int main() {
    Json rows = Json::array();
    rows.push_back(measure(2, 200));
    rows.push_back(measure(15, 2000));
    rows.push_back(measure(150, 20000));
    std::cout << rows.dump() << "\n";
}
