#include "daemon/usb_nodes.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/arbiter_parameters.hpp"
#include "daemon/author.hpp"
#include "daemon/crash_point.hpp"
#include "daemon/node/usbfs/descriptors.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using usbarb::ClaimId;
using usbarb::ClaimRecord;
using usbarb::ClaimState;

constexpr std::string_view origin_prefix = "node:";
constexpr size_t descriptors_limit_bytes = 1 << 20;
constexpr std::chrono::milliseconds first_orphan_pause{1'000};
constexpr std::chrono::milliseconds longest_orphan_pause{60'000};

/// Without them the node takes what the device says at its first open for good.
std::vector<uint8_t> read_descriptors(const usbarb::DeviceFacts& device) {
    const auto text = read_file(device.syspath + "/descriptors", descriptors_limit_bytes);
    if (!text) {
        log::debug("{}: no descriptors in sysfs: {}", device.kernel_name, text.error().message());
        return {};
    }
    return {text->begin(), text->end()};
}

/// Of every configuration; empty: not known.
std::set<uint8_t> interface_numbers(const usbarb::DeviceFacts& device) {
    std::set<uint8_t> out;
    for (const auto& interface : device.interfaces) out.insert(interface.number);
    const auto described = node::usbfs::describe(read_descriptors(device));
    if (!described) return out;
    for (const auto& configuration : described->configurations) {
        for (const auto& [number, interface] : configuration.interfaces) out.insert(number);
    }
    return out;
}

/// Interfaces that were asked for and that the device does not have.
std::optional<NodeRefusal> without_interfaces(const node::usbfs::Policy& policy, const usbarb::DeviceFacts& device) {
    const auto there = interface_numbers(device);
    if (!policy.interfaces || there.empty()) return std::nullopt;
    std::vector<int> missing;
    std::set_difference(policy.interfaces->begin(), policy.interfaces->end(), there.begin(), there.end(),
                        std::back_inserter(missing));
    if (missing.empty()) return std::nullopt;
    const std::string value = fmt::format("{}", fmt::join(missing, ","));
    return NodeRefusal{"InvalidValue",
                       {{"parameter", "interfaces"},
                        {"value", value},
                        {"message", fmt::format("{} has no such interface, but {}", usbarb::to_text(device.socket),
                                                fmt::join(there, ", "))}}};
}

usbarb::Blocker blocker_of(const NodeRecord& record, const json& opener) {
    const int64_t pid = opener.value("pid", int64_t{0});
    const auto since = parse_time(opener.value("since", ""));
    return {.target = usbarb::to_text(record.usb->socket),
            .description = record.usb->description,
            .holder = pid == 0 ? "" : fmt::format("proc:{}", pid),
            .since = since ? std::optional(*since) : std::nullopt,
            .reason = fmt::format("node '{}' is open for {} by {} (pid {})", record.name, opener.value("mode", "?"),
                                  opener.value("program", "?"), pid)};
}

NodeRefusal behind_node(const usbarb::Socket& socket, const std::string& node) {
    return refused(fmt::format("{} is behind node '{}': use that, or remove it first", usbarb::to_text(socket), node),
                   {fmt::format("node '{}'", node)});
}

std::string open_message(const std::string& name) {
    return fmt::format(
        "node '{}' is open: nothing was released; end that, or take the device away from it by force "
        "(--force)",
        name);
}

}  // namespace

Result<std::unique_ptr<UsbNodes>> UsbNodes::open(EventLoop& loop, StateDb& db, EventHub& hub, ArbiterService& arbiter) {
    std::unique_ptr<UsbNodes> out(new UsbNodes(loop, arbiter));
    out->stored_ = TRY(db.nodes());
    out->orphan_pause_ = first_orphan_pause;
    out->orphan_timer_ =
        TRY(loop.add_timer(first_orphan_pause, priority::node_timers, [raw = out.get()] { raw->look(); }));
    out->orphan_timer_.enable(false);
    hub.listen([raw = out.get()](const Event& event) {
        if (event.event.starts_with("claim-") || event.event.starts_with("usb-")) raw->look_soon();
    });
    return out;
}

void UsbNodes::attach(NodeService& nodes) {
    nodes_ = &nodes;
    nodes.set_usb({.create = [this](control::Call call) { create(std::move(call)); },
                   .locate = [this](const NodeRecord& record) { return locate(record); },
                   .standing = [this](const NodeRecord& record) { return standing(record); },
                   .removed =
                       [this](const NodeRecord& record, std::function<void(std::string)> done) {
                           crash_point(CrashPoint::node_stopped);
                           if (!record.usb->own_claim || !claim_of(record)) return done("");
                           arbiter_.release_own(record.usb->claim, ArbiterCalls::Drivers::as_set, std::move(done));
                       }});
}

std::vector<NodeRecord> UsbNodes::records() const { return resumed_ ? nodes_->records() : stored_; }

std::map<std::string, std::string> UsbNodes::devices() const {
    std::map<std::string, std::string> out;
    for (const auto& record : records()) {
        if (!record.usb) continue;
        out[locate(record).value_or(record.backing_path)] = record.name;
    }
    return out;
}

NodeProcesses UsbNodes::processes() const {
    if (resumed_) return nodes_->processes();
    NodeProcesses out;
    for (const auto& record : stored_) out.unknown.insert(record.name);
    return out;
}

/// Not whoever else has its number: that is told apart even if numbers were given twice.
std::optional<ClaimRecord> UsbNodes::claim_of(const NodeRecord& record) const {
    const UsbNodeRecord& usb = *record.usb;
    auto claim = arbiter_.find_claim(usb.claim);
    if (!claim || claim->target != usb.socket || claim->holder != usb.holder) return std::nullopt;
    if (usb.own_claim && claim->origin != std::string(origin_prefix) + record.name) return std::nullopt;
    return claim;
}

std::optional<std::string> UsbNodes::locate(const NodeRecord& record) const {
    if (!claim_of(record)) return std::nullopt;
    const auto device = arbiter_.device_of(record.usb->claim);
    return device ? std::optional(device->devnode()) : std::nullopt;
}

UsbStanding UsbNodes::standing(const NodeRecord& record) const {
    const auto claim = claim_of(record);
    const auto device = claim ? arbiter_.device_in(claim->target) : std::nullopt;
    if (!device) return {};
    if (claim->state == ClaimState::lost) {
        return {.devnode = std::nullopt,
                .trouble = fmt::format("another device is in its socket: {}", device->description())};
    }
    UsbStanding out{.devnode = device->devnode(), .trouble = ""};
    if (arbiter_.device_of(claim->id)) return out;
    if (claim->state == ClaimState::releasing) {
        out.trouble = "its device is plugged in, but its claim is ending";
    } else if (claim->phase == usbarb::Phase::failed) {
        out.trouble =
            fmt::format("its device is plugged in, but the host's drivers could not be taken off: {}", claim->message);
    } else {
        out.trouble = "its device is plugged in; the host's drivers are being taken off";
    }
    return out;
}

// ---- CreateUsb

struct UsbNodes::Work {
    std::shared_ptr<control::Call> call;
    UsbNodeRequest request;
    bool reserved = false;  ///< its name and device are in `making_`
};

void UsbNodes::create(control::Call call) {
    auto checked = usb_node_request(call.parameters());
    if (const auto* wrong = std::get_if<NodeRefusal>(&checked)) return call.error(wrong->error, wrong->parameters);
    if (!check_claim_texts(call)) return;
    const auto work = std::make_shared<Work>(
        Work{std::make_shared<control::Call>(std::move(call)), std::get<UsbNodeRequest>(std::move(checked))});
    const auto& request = work->request;
    const auto asked = [this, work](control::Call& to, const usbarb::Socket& socket,
                                    const std::optional<ClaimRecord>& held) { return accept(to, work, socket, held); };
    arbiter_.claim_device(work->call,
                          {.what = request.target,
                           .holder = request.holder,
                           .origin = std::string(origin_prefix) + request.name,
                           .reason = request.reason,
                           .dry_run = request.dry_run,
                           .accept = asked},
                          [this, work](std::optional<ClaimedDevice> device) {
                              if (work->request.dry_run) return device ? answer_sketch(*work, *device) : void();
                              if (!device) return work->reserved ? void(making_.erase(work->request.name)) : void();
                              // its drivers' work ends after this
                              arbiter_.when_idle(device->claim.id,
                                                 [this, work, device = *device] { make(work, device); });
                          });
}

/// In the step of the decision: of two requests for one name or one device the second finds the first.
bool UsbNodes::accept(control::Call& call, const std::shared_ptr<Work>& work, const usbarb::Socket& socket,
                      const std::optional<ClaimRecord>& held) {
    const std::string& name = work->request.name;
    if (making_.contains(name) || !nodes_->describe(name).is_null()) {
        call.error("AlreadyExists", {{"name", name}});
        return false;
    }
    if (const auto other = at(socket)) {
        const auto answer = behind_node(socket, *other);
        call.error(answer.error, answer.parameters);
        return false;
    }
    if (held && held->keep_drivers && held->origin == "libvirt") {
        const auto answer = refused(
            fmt::format("{} is passed to {} by libvirt itself: a node needs a device that libvirt does not drive",
                        usbarb::to_text(socket), held->holder),
            {fmt::format("claim {} of {}, made by libvirt", held->id, held->holder)});
        call.error(answer.error, answer.parameters);
        return false;
    }
    if (const auto device = arbiter_.device_in(socket)) {
        if (const auto wrong = without_interfaces(work->request.policy, *device)) {
            call.error(wrong->error, wrong->parameters);
            return false;
        }
    }
    if (!work->request.dry_run) {
        making_[name] = socket;
        work->reserved = true;
    }
    return true;
}

void UsbNodes::answer_sketch(const Work& work, const ClaimedDevice& device) {
    NodeRecord record{.name = work.request.name,
                      .backing_kind = "usb",
                      .open = work.request.open,
                      .created = wall_now(),
                      .created_by = author_of(work.call->peer())};
    record.usb = UsbNodeRecord{.claim = device.claim.observed ? 0 : device.claim.id,
                               .socket = device.claim.target,
                               .description = device.claim.description,
                               .holder = device.claim.holder,
                               .own_claim = device.fresh,
                               .minor = free_minor(records()),
                               .policy = work.request.policy,
                               .descriptors = {}};
    auto shown = nodes_->sketch(record);
    if (!shown) return work.call->error("Failed", {{"message", shown.error().message()}});
    work.call->reply({{"node", std::move(*shown)}, {"warnings", device.warnings}});
}

void UsbNodes::make(const std::shared_ptr<Work>& work, const ClaimedDevice& device) {
    const auto& request = work->request;
    if (!nodes_->describe(request.name).is_null())
        return give_up(work, device, "AlreadyExists", {{"name", request.name}});
    if (const auto other = over(device.claim.id)) {
        making_.erase(request.name);
        const auto answer = behind_node(device.claim.target, *other);
        return work->call->error(answer.error, answer.parameters);
    }
    const auto facts = arbiter_.device_of(device.claim.id);
    if (!facts) {
        const auto claim = arbiter_.find_claim(device.claim.id);
        const std::string why = claim && !claim->message.empty()
                                    ? fmt::format("the claim is not in force: {}", claim->message)
                                    : std::string("the device was unplugged or released meanwhile");
        return give_up(work, device, "Failed", {{"message", why}});
    }
    crash_point(CrashPoint::node_claimed);
    NodeRecord record{.name = request.name,
                      .backing_path = facts->devnode(),
                      .backing_kind = "usb",
                      .open = request.open,
                      .created = wall_now(),
                      .created_by = author_of(work->call->peer())};
    record.usb = UsbNodeRecord{.claim = device.claim.id,
                               .socket = device.claim.target,
                               .description = facts->description(),
                               .holder = device.claim.holder,
                               .own_claim = device.fresh,
                               .minor = free_minor(records()),
                               .policy = request.policy,
                               .descriptors = read_descriptors(*facts)};
    places_[request.name] = place_of(record);
    nodes_->make(std::move(record), [this, work, device](const std::optional<ManagedNode::StartFailure>& failure) {
        made(work, device, failure);
    });
}

void UsbNodes::made(const std::shared_ptr<Work>& work, const ClaimedDevice& device,
                    const std::optional<ManagedNode::StartFailure>& failure) {
    const std::string& name = work->request.name;
    if (failure && failure->refused) {
        const auto answer = refused(failure->message, {});
        return give_up(work, device, answer.error, answer.parameters);
    }
    if (failure) return give_up(work, device, "Failed", {{"message", failure->message}});
    making_.erase(name);
    // a claim that ended while the node came up takes it along
    look_soon();
    if (!work->call->alive()) log::notice("the client that made node '{}' is gone; the node stays", name);
    work->call->reply({{"node", nodes_->describe(name)}, {"warnings", device.warnings}});
}

void UsbNodes::give_up(const std::shared_ptr<Work>& work, const ClaimedDevice& device, std::string error,
                       json parameters) {
    const auto answer = [this, work, error = std::move(error), parameters = std::move(parameters)](const auto&) {
        making_.erase(work->request.name);
        work->call->error(error, parameters);
    };
    if (!device.fresh || !arbiter_.find_claim(device.claim.id)) return answer(std::string());
    arbiter_.release_own(device.claim.id, ArbiterCalls::Drivers::given_back, answer);
}

// ---- nodes that end with their claims

std::vector<std::string> UsbNodes::names_over(const std::vector<ClaimId>& claims) const {
    std::vector<std::string> out;
    for (const auto& record : records()) {
        const bool meant = record.usb && std::find(claims.begin(), claims.end(), record.usb->claim) != claims.end();
        if (meant && claim_of(record)) out.push_back(record.name);
    }
    return out;
}

std::optional<std::string> UsbNodes::over(ClaimId claim) const {
    const auto names = names_over({claim});
    return names.empty() ? std::nullopt : std::optional(names.front());
}

std::optional<std::string> UsbNodes::at(const usbarb::Socket& socket) const {
    for (const auto& [name, place] : making_) {
        if (place == socket) return name;
    }
    for (const auto& record : records()) {
        if (record.usb && record.usb->socket == socket && claim_of(record)) return record.name;
    }
    return std::nullopt;
}

std::optional<ClaimNodes::Refusal> UsbNodes::refusal(const std::vector<ClaimId>& claims) const {
    if (!resumed_) return std::nullopt;
    Refusal out;
    for (const auto& record : records()) {
        if (!record.usb || std::find(claims.begin(), claims.end(), record.usb->claim) == claims.end()) continue;
        if (!claim_of(record)) continue;
        const json shown = nodes_->describe(record.name);
        for (const auto& opener : shown.at("openers")) {
            if (out.message.empty()) out.message = open_message(record.name);
            out.blockers.push_back(blocker_of(record, opener));
        }
    }
    return out.blockers.empty() ? std::nullopt : std::optional(std::move(out));
}

struct UsbNodes::Ending {
    std::vector<ClaimId> claims;
    bool force = false;
    Ended done;
    std::vector<NodeRecord> nodes, stopped;
    size_t running = 1;
    std::optional<Refusal> refusal;
};

void UsbNodes::end(const std::vector<ClaimId>& claims, bool force, Ended done) {
    const auto names = names_over(claims);
    if (names.empty()) return done(std::nullopt);
    if (!resumed_) return waiting_.push_back({.claims = claims, .force = force, .done = std::move(done)});
    for (const auto& name : names) {
        if (!nodes_->busy(name)) continue;
        if (force) nodes_->hurry(name);
        return nodes_->when_idle(name, [this, claims, force, done = std::move(done)] { end(claims, force, done); });
    }
    if (auto open = force ? std::nullopt : refusal(claims)) return done(std::move(open));
    const auto ending = std::make_shared<Ending>();
    ending->claims = claims;
    ending->force = force;
    ending->done = std::move(done);
    for (const auto& record : records()) {
        if (std::find(names.begin(), names.end(), record.name) != names.end()) ending->nodes.push_back(record);
    }
    stop_all(ending);
}

void UsbNodes::hurry(const std::vector<ClaimId>& claims) {
    for (const auto& name : names_over(claims)) {
        if (resumed_) nodes_->hurry(name);
    }
    for (auto& one : waiting_) {
        if (std::find_first_of(one.claims.begin(), one.claims.end(), claims.begin(), claims.end()) != one.claims.end())
            one.force = true;
    }
}

/// All of them before any is forgotten: one may have been opened since, and then the others go on.
void UsbNodes::stop_all(const std::shared_ptr<Ending>& ending) {
    for (const auto& record : ending->nodes) {
        ++ending->running;
        nodes_->stop(record.name, ending->force,
                     [this, ending, record](const std::optional<ManagedNode::StopFailure>& failure) {
                         if (!failure) {
                             ending->stopped.push_back(record);
                         } else if (!ending->refusal) {
                             ending->refusal = Refusal{.message = failure->message, .blockers = {}};
                             for (const auto& opener : failure->openers) {
                                 ending->refusal->message = open_message(record.name);
                                 ending->refusal->blockers.push_back({.target = usbarb::to_text(record.usb->socket),
                                                                      .description = record.usb->description,
                                                                      .holder = "",
                                                                      .since = std::nullopt,
                                                                      .reason = opener});
                             }
                         }
                         stopped(ending);
                     });
    }
    stopped(ending);
}

void UsbNodes::stopped(const std::shared_ptr<Ending>& ending) {
    if (--ending->running > 0) return;
    if (ending->refusal && ending->force) {
        // somebody else is stopping one at the same time: after that
        return end(ending->claims, true, std::move(ending->done));
    }
    if (ending->refusal) {
        for (const auto& record : ending->stopped) nodes_->start_again(record.name);
        return ending->done(std::move(ending->refusal));
    }
    for (const auto& record : ending->nodes) {
        if (auto erased = nodes_->erase(record.name); !erased) {
            log::error("{}", erased.error().message());
            // by force the claim ends all the same, and with it, as soon as it can be stored, the node
            if (!ending->force) nodes_->start_again(record.name);
            if (!ending->refusal) ending->refusal = Refusal{.message = erased.error().message(), .blockers = {}};
            continue;
        }
        places_.erase(record.name);
        log::notice("node '{}' ended with its claim {}", record.name, record.usb->claim);
    }
    crash_point(CrashPoint::node_stopped);
    ending->done(ending->force ? std::nullopt : std::move(ending->refusal));
}

// ---- what comes and goes

/// Not from inside an event, whose cause is still going on.
void UsbNodes::look_soon() {
    auto soon = loop_.add_defer(priority::node_timers, [this] { look(); });
    if (soon) look_ = std::move(*soon);
}

void UsbNodes::look() {
    if (!resumed_) return;
    std::erase_if(orphans_, [this](const std::string& name) { return nodes_->describe(name).is_null(); });
    for (const auto& record : records()) {
        if (record.usb) look_at(record);
    }
}

void UsbNodes::look_at(const NodeRecord& record) {
    const ClaimId claim = record.usb->claim;
    if (!claim_of(record)) return end_orphan(record.name);
    if (arbiter_.busy(claim)) {
        if (!awaited_.insert(claim).second) return;
        return arbiter_.when_idle(claim, [this, claim] {
            awaited_.erase(claim);
            look_soon();
        });
    }
    auto place = place_of(record);
    auto& known = places_[record.name];
    if (place == known) return;
    known = std::move(place);
    nodes_->usb_changed(record.name);
}

/// Its claim is over, and with it whatever it was for.
void UsbNodes::end_orphan(const std::string& name) {
    if (nodes_->busy(name)) return nodes_->when_idle(name, [this] { look_soon(); });
    if (orphans_.insert(name).second) log::notice("node '{}' ends: its claim has ended", name);
    nodes_->stop(name, true, [this, name](const std::optional<ManagedNode::StopFailure>& failure) {
        if (failure) return end_orphans_later(failure->message);
        if (auto erased = nodes_->erase(name); !erased) return end_orphans_later(erased.error().message());
        orphans_.erase(name);
        places_.erase(name);
        orphan_pause_ = first_orphan_pause;
    });
}

/// Nothing need happen by then that would bring it up again.
void UsbNodes::end_orphans_later(const std::string& why) {
    log::warning("a node without a claim could not be ended: {}; trying again in {}", why,
                 format_duration(orphan_pause_));
    orphan_timer_.arm(orphan_pause_);
    orphan_pause_ = std::min(2 * orphan_pause_, longest_orphan_pause);
}

/// Claims made for nodes that there are not: a stord was killed between the two.
void UsbNodes::release_orphans() {
    for (const auto& claim : arbiter_.claims()) {
        if (claim.observed || !claim.origin.starts_with(origin_prefix)) continue;
        // whoever began that goes on with it
        if (claim.state == ClaimState::releasing) continue;
        const std::string name = claim.origin.substr(origin_prefix.size());
        if (over(claim.id) == name) continue;
        log::notice("claim {} of {} is released: it was made for node '{}', which does not exist", claim.id,
                    escape_unprintable(claim.holder), name);
        arbiter_.release_own(claim.id, ArbiterCalls::Drivers::given_back, [](const auto&) {});
    }
}

void UsbNodes::resume() {
    resumed_ = true;
    stored_.clear();
    for (const auto& record : records()) {
        if (record.usb) places_[record.name] = place_of(record);
    }
    for (auto& one : std::exchange(waiting_, {})) end(one.claims, one.force, std::move(one.done));
    release_orphans();
    look();
}

}  // namespace storctl
