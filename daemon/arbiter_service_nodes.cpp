// What mediated nodes, over disks and over devices, ask of the arbiter.

#include <algorithm>

#include "base/text.hpp"
#include "daemon/arbiter_service_parts.hpp"
#include "daemon/arbiter_view.hpp"
#include "daemon/block_place.hpp"

namespace storctl {

using usbarb::ClaimId;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::Phase;

std::optional<std::string> ArbiterService::claimed_below(const std::string& block) const {
    const auto& arbiter = parts_->ledger.arbiter();
    const auto places = block_syspaths(parts_->options.kernel.sys, block);
    const auto lies_on = [&](const std::string& syspath) {
        return !syspath.empty() && std::any_of(places.begin(), places.end(), [&](const std::string& place) {
            return place.starts_with(syspath + "/");
        });
    };
    for (const auto& claim : arbiter.claims()) {
        if (claim.observed || claim.state == ClaimState::lost || claim.holder == "host") continue;
        bool on_it = false;
        if (claim.target.is_root()) {
            const auto* controller = arbiter.controller(claim.target.controller);
            on_it = controller != nullptr && lies_on(controller->syspath);
        }
        for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
            const auto view = arbiter.device_at(claim.target, half);
            if (view && lies_on(view->facts->syspath)) on_it = true;
        }
        if (on_it) return summary_of(claim);
    }
    return std::nullopt;
}

void ArbiterService::claim_device(const std::shared_ptr<control::Call>& call, DeviceClaim wanted, DeviceClaimed done) {
    parts_->calls->claim_device(call, std::move(wanted), std::move(done));
}
void ArbiterService::release_own(ClaimId claim, ArbiterCalls::Drivers drivers, std::function<void(std::string)> done) {
    parts_->calls->release_own(claim, drivers, std::move(done));
}
void ArbiterService::when_idle(ClaimId claim, std::function<void()> then) {
    parts_->drivers.when_idle({claim}, std::move(then));
}
bool ArbiterService::busy(ClaimId claim) const { return parts_->drivers.busy({claim}); }
std::vector<ClaimRecord> ArbiterService::claims() const { return parts_->ledger.arbiter().claims(); }
std::optional<ClaimRecord> ArbiterService::find_claim(ClaimId claim) const {
    return parts_->ledger.arbiter().find_claim(claim);
}

std::optional<usbarb::DeviceFacts> ArbiterService::device_of(ClaimId id) const {
    const auto claim = find_claim(id);
    const bool held = claim && (claim->state == ClaimState::active || claim->state == ClaimState::provisional);
    if (!held || busy(id)) return std::nullopt;
    // with drivers that could not be taken off it is the host's still
    if (claim->phase != Phase::done && claim->phase != Phase::none) return std::nullopt;
    return device_in(claim->target);
}

std::optional<usbarb::DeviceFacts> ArbiterService::device_in(const usbarb::Socket& socket) const {
    for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
        const auto view = parts_->ledger.arbiter().device_at(socket, half);
        if (view && view->present) return *view->facts;
    }
    return std::nullopt;
}

}  // namespace storctl
