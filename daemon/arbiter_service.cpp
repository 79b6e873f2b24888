#include "daemon/arbiter_service.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/arbiter_convergence.hpp"
#include "daemon/arbiter_service_parts.hpp"
#include "daemon/arbiter_view.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using usbarb::Arbiter;
using usbarb::Change;
using usbarb::ClaimId;
using usbarb::ClaimKind;
using usbarb::ClaimRecord;
using usbarb::ClaimState;
using usbarb::DeviceFacts;

constexpr std::chrono::seconds longest_start{10};
constexpr std::chrono::seconds look_again_after{10};
constexpr size_t state_file_limit_bytes = 64 << 20;

bool is_unconfirmed(const ClaimRecord& claim) {
    return claim.state == ClaimState::provisional && claim.origin == "libvirt" && !claim.observed;
}

bool is_open(const Arbiter& arbiter, const ClaimRecord& claim) {
    bool open = false;
    const auto look = [&open](const std::vector<usbarb::Use>& uses) {
        for (const auto& use : uses) {
            if (use.kind == usbarb::UseKind::open || use.kind == usbarb::UseKind::usbfs) open = true;
        }
    };
    arbiter.each_device([&](const Arbiter::DeviceView& view) {
        const auto& socket = view.facts->socket;
        if (view.present && (socket == claim.target || socket.is_below(claim.target))) look(*view.uses);
    });
    arbiter.each_controller([&](const Arbiter::ControllerView& view) {
        if (view.facts->path != claim.target.controller || claim.kind != ClaimKind::controller) return;
        for (const auto& [unit, uses] : view.uses) look(*uses);
    });
    return open;
}

std::string plug_name(const std::string& socket, const std::string& devnode) { return socket + " " + devnode; }

}  // namespace

ArbiterService::Parts::Parts(EventLoop& the_loop, StateDb& the_db, EventHub& the_hub,
                             std::unique_ptr<ArbiterKernel> the_kernel, ArbiterOptions the_options)
    : loop(the_loop),
      hub(the_hub),
      db(the_db),
      options(std::move(the_options)),
      ledger(db, hub, {.grace = options.settings.grace}, options.boot_id),
      drivers(
          ledger.arbiter(), hubs,
          [this](usbarb::Job job, std::vector<UniqueFd> in, Actuator::Done done) {
              kernel->run(std::move(job), std::move(in), std::move(done));
          },
          options.kernel),
      maker(ledger, drivers),
      releases(loop, ledger, drivers,
               {.refresh = [this] { return refresh(); },
                .uncovered = [this](const std::vector<ClaimId>& claims) { maker.bring_about_again(claims); },
                .returned =
                    [this](const std::vector<std::string>& controllers) {
                        for (const auto& path : controllers) rules->again(path);
                    },
                .nodes = [this]() -> ClaimNodes& { return *nodes; }}),
      guard(ledger, drivers, hubs, maker),
      kernel(std::move(the_kernel)) {}

Result<void> ArbiterService::Parts::open() {
    uses = TRY(UseWatch::open(loop, ledger, [this](UseRequest request, UseScanner::Done done) {
        kernel->scan(std::move(request), std::move(done));
    }));
    uses->set_consoles(options.settings.consoles_are_used);
    rules = TRY(RuleBook::open(db, hub, ledger, maker, *uses));
    calls.emplace(ArbiterCalls::Parts{.ledger = ledger,
                                      .drivers = drivers,
                                      .maker = maker,
                                      .releases = releases,
                                      .rules = *rules,
                                      .uses = *uses,
                                      .refresh = [this] { return refresh(); },
                                      .nodes = [this]() -> ClaimNodes& { return *nodes; }},
                  options.settings);
    deadline = TRY(loop.add_timer(std::chrono::microseconds(0), priority::node_timers, [this] { deadline_came(); }));
    deadline.enable(false);
    start_limit = TRY(loop.add_timer(longest_start, priority::node_timers, [this] {
        log::warning("what this host uses of its USB devices is still not known; starting without");
        settle();
    }));
    start_limit.enable(false);
    ledger.on_change([this] {
        counts.reset();
        arm_deadline();
    });
    // mounts, holders and nodes are seen as changes of disks
    hub.listen([this](const Event& event) {
        const bool of_disks = event.event.starts_with("device-") || event.event.starts_with("node-");
        if (of_disks && started) uses->look_soon();
    });
    return {};
}

// ---- coming up

Result<void> ArbiterService::Parts::start(std::function<void()> when_settled) {
    settled = std::move(when_settled);
    hubs.adopt();
    kernel->set_may_ask([this](const usbarb::Socket& socket) { return may_ask(socket); });
    TRY(kernel->coldplug([this](UsbBatch batch) { take(std::move(batch)); }));
    TRY(ledger.restore());
    started = true;
    start_limit.arm(longest_start);
    uses->look([this](const Result<void>& looked) {
        // without it nobody can tell what may be moved: claims stay as they are until the next start or request
        if (looked) converge(ledger, hubs, maker, releases);
        for (const auto& [node, device] : present()) {
            const bool seen = options.seen_plugs.contains(plug_name(usbarb::to_text(device.socket), node));
            if (seen) rules->mark_seen(device);
            guard.plugged(device);
            if (!unsettled.contains(device.syspath)) rules->plugged(device);
        }
        settle();
    });
    return {};
}

void ArbiterService::Parts::settle() {
    start_limit.enable(false);
    if (const auto callback = std::exchange(settled, nullptr)) callback();
}

/// Only of what nobody has claimed, also while it is away; before the claims are known that can be anything.
bool ArbiterService::Parts::may_ask(const usbarb::Socket& socket) const {
    const auto claims = ledger.arbiter().claims();
    const bool free = std::none_of(claims.begin(), claims.end(), [&](const ClaimRecord& claim) {
        return claim.target == socket || socket.is_below(claim.target);
    });
    return started && free;
}

// ---- deadlines

void ArbiterService::Parts::arm_deadline() {
    const auto next = ledger.arbiter().next_deadline();
    if (!next) return deadline.enable(false);
    deadline.arm(std::max(std::chrono::seconds(0), *next - wall_now()));
}

/// A machine that has its device open runs, though nobody said so: before its claim ends, a fresh look.
void ArbiterService::Parts::deadline_came() {
    const auto now = wall_now();
    const auto claims = ledger.arbiter().claims();
    const bool look = std::any_of(claims.begin(), claims.end(), [now](const ClaimRecord& claim) {
        return is_unconfirmed(claim) && claim.deadline && *claim.deadline <= now;
    });
    if (!look) return expire();
    uses->look([this](const Result<void>& looked) {
        // unknown is not unused
        if (!looked) return deadline.arm(look_again_after);
        const auto late = wall_now();
        for (const auto& claim : ledger.arbiter().claims()) {
            if (!is_unconfirmed(claim) || !claim.deadline || *claim.deadline > late) continue;
            if (!is_open(ledger.arbiter(), claim)) continue;
            log::warning("{}: not confirmed in time, but open: it is taken for confirmed", summary_of(claim));
            ledger.note(ledger.arbiter().confirm(claim.holder, claim.origin));
        }
        expire();
    });
}

void ArbiterService::Parts::expire() {
    const auto changes = ledger.arbiter().expire(wall_now());
    std::vector<ClaimId> over;
    for (const auto& change : changes) {
        if (change.what == Change::What::removed) {
            log::notice("{}: it did not come back in time", summary_of(change.claim));
        } else if (change.claim.state == ClaimState::releasing) {
            log::warning("{}: not confirmed in time", summary_of(change.claim));
            over.push_back(change.claim.id);
        }
    }
    ledger.note(changes);
    for (const ClaimId id : over) releases.carry_on({id});
    arm_deadline();
}

// ---- the service

ArbiterService::ArbiterService(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ArbiterService::~ArbiterService() = default;

Result<std::unique_ptr<ArbiterService>> ArbiterService::open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                             std::unique_ptr<ArbiterKernel> kernel,
                                                             ArbiterOptions options) {
    auto parts = std::make_unique<Parts>(loop, db, hub, std::move(kernel), std::move(options));
    TRY(parts->open());
    return std::unique_ptr<ArbiterService>(new ArbiterService(std::move(parts)));
}

Result<void> ArbiterService::start(std::function<void()> settled) { return parts_->start(std::move(settled)); }
Result<void> ArbiterService::serve(control::Server& server) { return parts_->calls->serve(server); }
Result<void> ArbiterService::rescan() { return parts_->kernel->rescan(); }

void ArbiterService::set_settings(const ArbiterSettings& settings) {
    parts_->options.settings = settings;
    parts_->ledger.arbiter().set_policy({.grace = settings.grace});
    parts_->uses->set_consoles(settings.consoles_are_used);
    parts_->uses->look_soon();
}

void ArbiterService::set_nodes(UseWatch::Nodes nodes) { parts_->uses->set_nodes(std::move(nodes)); }
void ArbiterService::set_usb_nodes(UseWatch::Nodes nodes) { parts_->uses->set_usb_nodes(std::move(nodes)); }
void ArbiterService::set_node_processes(std::function<NodeProcesses()> processes) {
    parts_->uses->set_node_processes(std::move(processes));
}
void ArbiterService::set_claim_nodes(ClaimNodes& nodes) { parts_->nodes = &nodes; }

json ArbiterService::describe_claims() const { return claims_json(parts_->ledger.arbiter().claims()); }
json ArbiterService::describe_devices() const { return devices_digest(parts_->ledger.arbiter()); }

/// Asked with every event that is published.
ArbiterService::Counts ArbiterService::counts() const {
    if (!parts_->counts) parts_->count();
    return *parts_->counts;
}

void ArbiterService::Parts::count() {
    counts.emplace();
    for (const auto& claim : ledger.arbiter().claims()) {
        if (claim.observed) continue;
        ++counts->total;
        if (claim.state == ClaimState::lost) ++counts->lost;
        if (claim.phase == usbarb::Phase::failed) ++counts->failed;
    }
}

std::vector<std::string> ArbiterService::findings() const {
    std::vector<std::string> out;
    for (const auto& claim : parts_->ledger.arbiter().claims()) {
        const bool trouble = claim.state == ClaimState::lost || claim.phase == usbarb::Phase::failed;
        if (trouble && !claim.observed) out.push_back(summary_of(claim));
    }
    for (auto& sentence : parts_->rules->findings()) out.push_back(std::move(sentence));
    if (!parts_->uses->trouble().empty()) {
        out.push_back(
            fmt::format("nothing can be claimed: what this host uses is not known: {}", parts_->uses->trouble()));
    }
    if (const size_t hidden = parts_->uses->hidden_processes(); hidden != 0) {
        out.push_back(
            fmt::format("{} processes cannot be looked into: USB nodes that they have open are not seen", hidden));
    }
    if (!parts_->kernel->monitoring())
        out.push_back("USB events are not heard: claims do not follow what is plugged in and out");
    return out;
}

std::set<std::string> seen_plugs(const std::string& state_file) {
    std::set<std::string> out;
    const auto text = read_file(state_file, state_file_limit_bytes);
    if (!text) return out;
    const json state = json::parse(*text, nullptr, false);
    if (!state.is_object() || !state.contains("usb") || !state.at("usb").is_array()) return out;
    for (const auto& device : state.at("usb")) {
        if (!device.is_object()) continue;
        const auto socket = device.find("socket"), devnode = device.find("devnode");
        const bool good =
            socket != device.end() && devnode != device.end() && socket->is_string() && devnode->is_string();
        if (good) out.insert(plug_name(socket->get<std::string>(), devnode->get<std::string>()));
    }
    return out;
}

}  // namespace storctl
