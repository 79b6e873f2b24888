#include "locality/sharing.hpp"

#include <fmt/format.h>

namespace storctl::locality {
namespace {

struct Default {
    bool shared;
    std::string reason;
};

Default by_transport(const SharingCase& device) {
    if (device.boot == true) return {false, "this host's running system is on it"};
    switch (device.verdict.locality) {
        case Locality::yes:
            return {false, "local: " + device.verdict.reason};
        case Locality::no:
            return {true, "remote: " + device.verdict.reason};
        case Locality::unknown:
            return {false, "locality unknown: " + device.verdict.reason};
    }
    return {false, device.verdict.reason};
}

std::string decision_reason(const SharingCase& device, const AdminDecision& decision) {
    std::string reason = decision.reason.empty() ? fmt::format("decided by {}", decision.author) : decision.reason;
    if (device.quality == Quality::none)
        reason += " (for whatever device is in this place: it has no identifier of its own)";
    return reason;
}

}  // namespace

Sharing decide_sharing(const SharingCase& device, const std::optional<AdminDecision>& decision) {
    Sharing sharing{.seen_by = {device.host}};
    if (device.conflict && (!decision || decision->shared)) {
        sharing.reason = "identifier conflict, never shared: " + *device.conflict;
        return sharing;
    }
    if (decision) {
        sharing.shared = decision->shared;
        sharing.basis = Basis::admin;
        sharing.reason = decision_reason(device, *decision);
        sharing.author = decision->author;
        sharing.time = decision->time;
        return sharing;
    }
    Default rule = by_transport(device);
    sharing.shared = rule.shared;
    sharing.reason = std::move(rule.reason);
    return sharing;
}

std::optional<std::string> sharing_refusal(const SharingCase& device, bool shared) {
    if (!shared || !device.conflict) return std::nullopt;
    return fmt::format("it cannot be told from another device, so it must not be shared: {}", *device.conflict);
}

}  // namespace storctl::locality
