#pragma once
// A made-up host for tests of the arbiter: controllers and devices in one line each.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "usbarb/arbiter.hpp"

namespace storctl::usbarb::testing {

inline const std::string xhci = "0000:00:14.0";

inline const std::string vm1 = "vm:one", vm2 = "vm:two";

/// What stands in the way: "TARGET HOLDER", sorted.
inline std::vector<std::string> targets_of(const Decision& decision) {
    std::vector<std::string> out;
    for (const auto& blocker : decision.blockers) out.push_back(blocker.target + " " + blocker.holder);
    std::sort(out.begin(), out.end());
    return out;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline size_t number_of(const Changes& changes, Change::What what) {
    return std::count_if(changes.begin(), changes.end(), [what](const Change& c) { return c.what == what; });
}

inline WallTime at(int seconds) { return WallTime{std::chrono::seconds(1'800'000'000 + seconds)}; }

inline Socket socket(std::string_view text) { return parse_socket(text).value(); }

inline ControllerFacts usb_controller(const std::string& path = xhci) {
    return {.path = path,
            .kind = ControllerKind::usb,
            .class_code = 0x0c0330,
            .vendor_id = 0x8086,
            .device_id = 0xa36d,
            .driver = "xhci_hcd",
            .iommu_group = 4,
            .buses = {1, 2}};
}

struct Plug {
    std::string where;  ///< a socket
    Half half = Half::usb2;
    bool hub = false;
    uint16_t product = 0x0001;
    std::string serial;
    uint16_t address = 5;
};

inline DeviceFacts device(const Plug& plug) {
    DeviceFacts facts{.socket = socket(plug.where), .half = plug.half};
    facts.kernel_name = fmt::format("{}-{}", plug.half == Half::usb2 ? 1 : 2, fmt::join(facts.socket.ports, "."));
    facts.bus = plug.half == Half::usb2 ? 1 : 2;
    facts.address = plug.address;
    facts.identity = {.vendor_id = 0x1234, .product_id = plug.product, .serial = plug.serial};
    facts.hub = plug.hub;
    facts.ports = plug.hub ? 4 : 0;
    facts.device_class = plug.hub ? 9 : 0;
    return facts;
}

/// xHCI 0000:00:14.0 with a USB 3 hub in socket 2 (both halves), in it devices 2.1 and 2.2 on the USB 2 and 2.3 on the
/// USB 3 bus, a USB 2 hub in 2.4 with a device 2.4.1, and a device in socket 3.
struct Host {
    Arbiter arbiter;
    Changes changes;

    Host() {
        arbiter.put_controller(usb_controller());
        plug({.where = xhci + "/2", .hub = true, .product = 0x0b01});
        plug({.where = xhci + "/2", .half = Half::usb3, .hub = true, .product = 0x0b02});
        plug({.where = xhci + "/2.1", .serial = "A"});
        plug({.where = xhci + "/2.2", .serial = "B", .address = 6});
        plug({.where = xhci + "/2.3", .half = Half::usb3, .serial = "C", .address = 7});
        plug({.where = xhci + "/2.4", .hub = true, .product = 0x0b03, .address = 8});
        plug({.where = xhci + "/2.4.1", .serial = "D", .address = 9});
        plug({.where = xhci + "/3", .serial = "E", .address = 10});
    }

    void plug(const Plug& what, int when = 0) { changes = arbiter.plug(device(what), at(when)); }
    void unplug(const std::string& where, Half half = Half::usb2, int when = 0) {
        changes = arbiter.unplug(socket(where), half, at(when));
    }
    Target target(const std::string& what) {
        auto found = what == "pci" ? arbiter.resolve_pci(xhci) : arbiter.resolve_usb(what);
        return found.target;
    }
    Decision claim(const std::vector<std::string>& what, const std::string& holder, int when = 0) {
        Request request{.holder = holder};
        for (const auto& one : what) request.targets.push_back(target(one));
        changes.clear();
        return arbiter.claim(request, at(when), changes);
    }
    /// Both steps, as when drivers are back at once.
    void release(ClaimId id, int when = 0) {
        changes = arbiter.begin_release(id, false);
        for (auto& change : arbiter.finish_release(id, at(when))) changes.push_back(std::move(change));
    }
    void use(const std::string& where, std::vector<Use> uses, int when = 0) {
        changes = arbiter.set_uses(socket(where), std::move(uses), at(when));
    }
    uint32_t count(const std::string& name) const {
        const auto counters = arbiter.counters();
        const auto found = counters.find(name);
        return found == counters.end() ? 0 : found->second;
    }
    bool idle() const { return arbiter.counters().empty(); }
    bool consistent() const { return arbiter.counters() == arbiter.recount(); }
};

}  // namespace storctl::usbarb::testing
