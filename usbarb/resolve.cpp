// From what a person or a program calls a device to the one socket that is meant.

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "base/text.hpp"
#include "usbarb/arbiter.hpp"

namespace storctl::usbarb {
namespace {

constexpr std::string_view node_prefix = "/dev/bus/usb/";

template <class Number>
std::optional<Number> number(std::string_view text, int base) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

struct BusAddress {
    uint16_t bus, address;
};

/// "/dev/bus/usb/001/004"
std::optional<BusAddress> parse_node(std::string_view text) {
    if (!text.starts_with(node_prefix)) return std::nullopt;
    text.remove_prefix(node_prefix.size());
    const size_t slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    const auto bus = number<uint16_t>(text.substr(0, slash), 10);
    const auto address = number<uint16_t>(text.substr(slash + 1), 10);
    if (!bus || !address) return std::nullopt;
    return BusAddress{*bus, *address};
}

/// "046d:c31c"
std::optional<Identity> parse_ids(std::string_view text) {
    if (text.size() != 9 || text[4] != ':') return std::nullopt;
    const auto vendor = number<uint16_t>(text.substr(0, 4), 16);
    const auto product = number<uint16_t>(text.substr(5), 16);
    if (!vendor || !product) return std::nullopt;
    return Identity{.vendor_id = *vendor, .product_id = *product, .serial = {}};
}

Target target_of(const Node& node) {
    return {.kind = node.is_hub() ? ClaimKind::hub : ClaimKind::device, .socket = node.socket};
}

Arbiter::Resolution found(Target target) { return {.verdict = Verdict::granted, .target = std::move(target)}; }

Arbiter::Resolution nothing(std::string_view what, std::string_view why) {
    return {.verdict = Verdict::not_found, .why = fmt::format("'{}': {}", escape_unprintable(what), why)};
}

Arbiter::Resolution one_of(std::string_view what, const std::vector<const Node*>& nodes) {
    if (nodes.empty()) return nothing(what, "no USB device here is called so (see 'storctl usb list')");
    if (nodes.size() == 1) return found(target_of(*nodes.front()));
    Arbiter::Resolution out{.verdict = Verdict::ambiguous};
    for (const Node* node : nodes) {
        // by whichever of its names the asker can use: a domain's <address> takes bus and device
        const DeviceFacts& facts = *node->device();
        out.candidates.push_back(fmt::format("{}  {}  bus {} device {}  {}", to_text(node->socket), facts.kernel_name,
                                             facts.bus, facts.address, facts.description()));
    }
    out.why =
        fmt::format("'{}' is the name of {} devices: say which by its socket", escape_unprintable(what), nodes.size());
    return out;
}

}  // namespace

Arbiter::Resolution Arbiter::resolve_usb(std::string_view what) const {
    if (what.empty()) return {.verdict = Verdict::invalid, .why = "a device without a name cannot be looked up"};
    if (auto socket = parse_socket(what)) {
        const Node* const node = topology_.find(*socket);
        if (socket->is_root()) {
            const bool usb = node != nullptr && node->controller && node->controller->kind == ControllerKind::usb;
            if (!usb) return nothing(what, "this is no USB host controller of this host");
            return found({.kind = ClaimKind::hub, .socket = *socket});
        }
        if (node != nullptr && node->device() != nullptr) return found(target_of(*node));
        // nothing is plugged in: what was claimed there can still be released
        const auto [first, last] = lost_.equal_range(*socket);
        if (first != last) return found({.kind = get(first->second).record.kind, .socket = *socket});
        return nothing(what, "nothing is plugged into this socket");
    }
    const auto node_name = parse_node(what);
    const auto ids = parse_ids(what);
    std::vector<const Node*> matching, absent;
    std::optional<Socket> root;
    for (const Node* node : all_nodes()) {
        if (node->controller) {
            for (const uint16_t bus : node->controller->buses) {
                const bool named = what == fmt::format("usb{}", bus) ||
                                   (node_name && node_name->bus == bus && node_name->address == 1);
                if (bus != 0 && named) root = node->socket;
            }
        }
        const bool matches = std::any_of(node->devices.begin(), node->devices.end(), [&](const auto& there) {
            if (!there) return false;
            const DeviceFacts& facts = there->facts;
            if (node_name) return there->present && facts.bus == node_name->bus && facts.address == node_name->address;
            if (ids && facts.identity.vendor_id == ids->vendor_id && facts.identity.product_id == ids->product_id)
                return true;
            return facts.kernel_name == what || (!facts.identity.serial.empty() && facts.identity.serial == what);
        });
        if (matches) (node->has_device() ? matching : absent).push_back(node);
    }
    if (root && matching.empty()) return found({.kind = ClaimKind::hub, .socket = *root});
    // what was seen last behind a controller that is away is meant only if nothing that is there is
    return one_of(what, matching.empty() ? absent : matching);
}

Arbiter::Resolution Arbiter::resolve_pci(std::string_view what) const {
    auto address = parse_pci_address(what);
    if (!address) return {.verdict = Verdict::invalid, .why = address.error().context};
    const Node* const node = topology_.controller(*address);
    const bool known = node != nullptr && (node->controller || node->claim != 0);
    Socket socket;
    socket.controller = *address;
    if (known || lost_.contains(socket)) return found({.kind = ClaimKind::controller, .socket = socket});
    return nothing(what, "this host has no such PCI function (see 'storctl pci list --all')");
}

std::vector<Target> Arbiter::with_group(const Target& controller) const {
    std::vector<Target> out{controller};
    std::set<std::string> seen{controller.socket.controller};
    for (size_t i = 0; i < out.size(); ++i) {
        const Node* const node = topology_.controller(out[i].socket.controller);
        if (node == nullptr || !node->controller) continue;
        for (const auto* neighbours : {&node->controller->group, &node->controller->companions}) {
            for (const auto& neighbour : *neighbours) {
                const bool goes_along = !neighbour.bridge && !neighbour.driver.empty();
                if (!goes_along || !seen.insert(neighbour.path).second) continue;
                Target target{.kind = ClaimKind::controller, .socket = {}};
                target.socket.controller = neighbour.path;
                out.push_back(std::move(target));
            }
        }
    }
    return out;
}

}  // namespace storctl::usbarb
