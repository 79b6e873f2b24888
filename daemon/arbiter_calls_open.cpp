// OpenDevice: a claimed device's own node for its holder, without a mediated node in between.

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/text.hpp"
#include "control/peer.hpp"
#include "daemon/arbiter_calls.hpp"
#include "daemon/arbiter_parameters.hpp"
#include "daemon/arbiter_view.hpp"

namespace storctl {
namespace {

using control::Call;
using nlohmann::json;
using usbarb::Arbiter;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::Target;

void refuse(Call& call, const std::string& message, const std::vector<usbarb::Blocker>& blockers = {}) {
    call.error("Refused", {{"message", message}, {"blockers", blockers_json(blockers)}});
}

usbarb::Blocker blocker_of(const ClaimRecord& claim) {
    return {.target = usbarb::to_text(claim.target),
            .description = claim.description,
            .holder = claim.holder,
            .since = claim.since,
            .reason = claim.reason};
}

/// The device in this socket, whichever half it has chosen; null: nothing is plugged in.
const usbarb::DeviceFacts* present_device(const Arbiter& arbiter, const usbarb::Socket& socket) {
    for (const auto& [half, name] : EnumNames<usbarb::Half>::table) {
        const auto view = arbiter.device_at(socket, half);
        if (view && view->present) return view->facts;
    }
    return nullptr;
}

/// Empty: it can be opened, or will be once the work on it has ended.
std::string not_ready(const ClaimRecord& claim) {
    if (claim.state != ClaimState::active) return fmt::format("it is {}", to_text(claim.state));
    if (claim.phase == usbarb::Phase::failed) {
        return fmt::format("the host's drivers could not be taken off: {}", claim.message);
    }
    return {};
}

}  // namespace

void ArbiterCalls::on_open_device(Call call) {
    json targets = json::array();
    targets.push_back(call.parameters().at("target"));
    const auto wanted = wanted_targets(call, targets);
    if (!wanted) return;
    if (wanted->front().is_pci()) return answer_invalid(call, "bus", "pci", "only a USB device has a node to open");
    if (!check_claim_texts(call)) return;
    if (!check_interfaces(call)) return;
    open_device(std::make_shared<Call>(std::move(call)));
}

void ArbiterCalls::open_device(const SharedCall& call) {
    json targets = json::array();
    targets.push_back(call->parameters().at("target"));
    const auto wanted = *wanted_targets(*call, targets);
    const auto found = resolve(*call, wanted);
    if (!found) return;
    const std::string& what = wanted.front().what;
    if (found->empty()) return call->error("NotFound", {{"what", what}, {"message", "there is no such device"}});
    const Target& target = found->front();
    if (target.kind != ClaimKind::device) {
        return answer_invalid(*call, "what", what,
                              fmt::format("{} is a hub: open what is plugged into it", usbarb::to_text(target.socket)));
    }
    const auto claim = claim_to_open(*call, target);
    if (!claim) return;
    if (parts_.drivers.busy({claim->id})) {
        return parts_.drivers.when_idle({claim->id}, [this, call] { open_device(call); });
    }
    if (const auto why = not_ready(*claim); !why.empty()) {
        return refuse(*call, fmt::format("{} cannot be opened: {}", summary_of(*claim), why));
    }
    if (const auto node = parts_.nodes().at(target.socket)) {
        return refuse(*call,
                      fmt::format("{}: node '{}' serves it: use that, or remove it first", summary_of(*claim), *node));
    }
    const auto* device = present_device(parts_.ledger.arbiter(), target.socket);
    if (device == nullptr) return refuse(*call, fmt::format("{}: it is not plugged in", summary_of(*claim)));
    usbarb::Job job{.action = usbarb::Action::open_device,
                    .devices = {device->syspath},
                    .node = usbarb::DeviceNode{.devnode = device->devnode()}};
    if (const auto given = optional_parameter<std::vector<uint8_t>>(call->parameters(), "interfaces")) {
        job.node->interfaces = *given;
    }
    const auto id = claim->id;
    parts_.drivers.open_for(id, job,
                            [this, call, id, device = *device](usbarb::Outcome outcome, std::vector<UniqueFd> files) {
                                if (outcome.done) return give_device(*call, id, device, std::move(files));
                                call->error("Failed", {{"message", outcome.message}});
                            });
}

/// Nothing: an error has been answered.
std::optional<ClaimRecord> ArbiterCalls::claim_to_open(Call& call, const Target& target) const {
    const Arbiter& arbiter = parts_.ledger.arbiter();
    const std::string holder = call.parameters().at("holder");
    std::vector<usbarb::Blocker> foreign;
    for (const ClaimId id : arbiter.claims_on(target)) {
        auto claim = *arbiter.find_claim(id);
        if (claim.holder == holder) return claim;
        foreign.push_back(blocker_of(claim));
    }
    const auto* hub = arbiter.covering(target.socket);
    if (hub != nullptr && hub->holder == holder) return *hub;
    if (hub != nullptr) foreign.push_back(blocker_of(*hub));
    const std::string socket = usbarb::to_text(target.socket);
    const std::string why = foreign.empty()
                                ? fmt::format("{} is not claimed: claim it for {} first", socket, holder)
                                : fmt::format("{} is {}'s, not {}'s", socket, foreign.front().holder, holder);
    refuse(call, why, foreign);
    return std::nullopt;
}

void ArbiterCalls::give_device(Call& call, ClaimId id, const usbarb::DeviceFacts& device,
                               std::vector<UniqueFd> files) const {
    const std::string devnode = device.devnode();
    const auto claim = parts_.ledger.arbiter().find_claim(id);
    if (!claim || claim->state != ClaimState::active) {
        return call.error("Failed",
                          {{"message", fmt::format("'{}' was opened, but claim {} has ended meanwhile", devnode, id)}});
    }
    // one may have been asked for while the device was being opened
    if (const auto node = parts_.nodes().at(device.socket)) {
        return refuse(call,
                      fmt::format("{}: node '{}' serves it: use that, or remove it first", summary_of(*claim), *node));
    }
    // who is gone, or takes no descriptors, has nothing open
    if (!call.alive()) return;
    log::notice("{}: '{}' is open to {} from now on, past any filter", summary_of(*claim), devnode,
                control::describe(call.peer()));
    call.reply({{"claim", to_json(*claim)}, {"devnode", devnode}, {"descriptor", 0}}, std::move(files));
    parts_.uses.look_soon();
}

}  // namespace storctl
