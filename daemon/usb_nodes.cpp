#include "daemon/usb_nodes.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/arbiter_parameters.hpp"
#include "daemon/author.hpp"
#include "daemon/crash_point.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using nlohmann::json;
using usbarb::ClaimId;
using usbarb::ClaimRecord;
using usbarb::ClaimState;

constexpr std::string_view origin_prefix = "node:";
constexpr size_t descriptors_limit_bytes = 1 << 20;

/// Without them the node takes what the device says at its first open for good.
std::vector<uint8_t> read_descriptors(const usbarb::DeviceFacts& device) {
    const auto text = read_file(device.syspath + "/descriptors", descriptors_limit_bytes);
    if (!text) {
        log::debug("{}: no descriptors in sysfs: {}", device.kernel_name, text.error().message());
        return {};
    }
    return {text->begin(), text->end()};
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
    hub.listen([raw = out.get()](const Event& event) {
        if (event.event.starts_with("claim-") || event.event.starts_with("usb-")) raw->look_soon();
    });
    return out;
}

void UsbNodes::attach(NodeService& nodes) {
    nodes_ = &nodes;
    nodes.set_usb({.create = [this](control::Call call) { create(std::move(call)); },
                   .locate = [this](const UsbNodeRecord& usb) { return locate(usb); },
                   .removed =
                       [this](const UsbNodeRecord& usb, std::function<void()> done) {
                           crash_point(CrashPoint::node_stopped);
                           if (!usb.own_claim || !arbiter_.find_claim(usb.claim)) return done();
                           arbiter_.release_own(usb.claim, std::move(done));
                       }});
}

std::vector<NodeRecord> UsbNodes::records() const { return resumed_ ? nodes_->records() : stored_; }

std::map<std::string, std::string> UsbNodes::devices() const {
    std::map<std::string, std::string> out;
    for (const auto& record : records()) {
        if (!record.usb) continue;
        out[locate(*record.usb).value_or(record.backing_path)] = record.name;
    }
    return out;
}

std::optional<std::string> UsbNodes::locate(const UsbNodeRecord& usb) const {
    const auto device = arbiter_.device_of(usb.claim);
    return device ? std::optional(device->devnode()) : std::nullopt;
}

// ---- CreateUsb

struct UsbNodes::Work {
    std::shared_ptr<control::Call> call;
    UsbNodeRequest request;
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
                              if (!device) return void(making_.erase(work->request.name));
                              // its drivers' work ends after this
                              arbiter_.when_idle(device->claim.id,
                                                 [this, work, device = *device] { make(work, device); });
                          });
}

/// In the step of the decision: of two requests for one name or one device the second finds the first.
bool UsbNodes::accept(control::Call& call, const std::shared_ptr<Work>& work, const usbarb::Socket& socket,
                      const std::optional<ClaimRecord>& held) {
    const std::string& name = work->request.name;
    const auto exists = [&call](const std::string& which) {
        call.error("AlreadyExists", {{"name", which}});
        return false;
    };
    if (making_.contains(name) || !nodes_->describe(name).is_null()) return exists(name);
    for (const auto& [other, place] : making_) {
        if (place == socket) return exists(other);
    }
    if (held) {
        if (const auto other = over(held->id)) return exists(*other);
    }
    if (held && held->keep_drivers && held->origin == "libvirt") {
        const auto answer = refused(
            fmt::format("{} is passed to {} by libvirt itself: a node needs a device that libvirt does not drive",
                        usbarb::to_text(socket), held->holder),
            {fmt::format("claim {} of {}, made by libvirt", held->id, held->holder)});
        call.error(answer.error, answer.parameters);
        return false;
    }
    if (!work->request.dry_run) making_[name] = socket;
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
    places_[request.name] = record.backing_path;
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
    const auto answer = [this, work, error = std::move(error), parameters = std::move(parameters)] {
        making_.erase(work->request.name);
        work->call->error(error, parameters);
    };
    if (!device.fresh || !arbiter_.find_claim(device.claim.id)) return answer();
    arbiter_.release_own(device.claim.id, answer);
}

// ---- nodes that end with their claims

std::vector<std::string> UsbNodes::names_over(const std::vector<ClaimId>& claims) const {
    std::vector<std::string> out;
    for (const auto& record : records()) {
        const bool meant = record.usb && std::find(claims.begin(), claims.end(), record.usb->claim) != claims.end();
        if (meant) out.push_back(record.name);
    }
    return out;
}

std::optional<std::string> UsbNodes::over(ClaimId claim) const {
    const auto names = names_over({claim});
    return names.empty() ? std::nullopt : std::optional(names.front());
}

std::optional<ClaimNodes::Refusal> UsbNodes::refusal(const std::vector<ClaimId>& claims) const {
    if (!resumed_) return std::nullopt;
    Refusal out;
    for (const auto& record : records()) {
        if (!record.usb || std::find(claims.begin(), claims.end(), record.usb->claim) == claims.end()) continue;
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
        if (auto erased = nodes_->erase(record.name); !erased) log::error("{}", erased.error().message());
        places_.erase(record.name);
        log::notice("node '{}' ended with its claim {}", record.name, record.usb->claim);
    }
    crash_point(CrashPoint::node_stopped);
    ending->done(std::nullopt);
}

// ---- what comes and goes

/// Not from inside an event, whose cause is still going on.
void UsbNodes::look_soon() {
    auto soon = loop_.add_defer(priority::node_timers, [this] { look(); });
    if (soon) look_ = std::move(*soon);
}

void UsbNodes::look() {
    if (!resumed_) return;
    for (const auto& record : records()) {
        if (record.usb) look_at(record);
    }
}

void UsbNodes::look_at(const NodeRecord& record) {
    const ClaimId claim = record.usb->claim;
    if (!arbiter_.find_claim(claim)) return end_orphan(record.name);
    if (arbiter_.busy(claim)) {
        if (!awaited_.insert(claim).second) return;
        return arbiter_.when_idle(claim, [this, claim] {
            awaited_.erase(claim);
            look_soon();
        });
    }
    auto place = locate(*record.usb);
    auto& known = places_[record.name];
    if (place == known) return;
    known = std::move(place);
    nodes_->usb_changed(record.name);
}

/// Its claim is over, and with it whatever it was for.
void UsbNodes::end_orphan(const std::string& name) {
    if (nodes_->busy(name)) return nodes_->when_idle(name, [this] { look_soon(); });
    log::notice("node '{}' ends: its claim has ended", name);
    nodes_->stop(name, true, [this, name](const std::optional<ManagedNode::StopFailure>& failure) {
        if (failure) return log::warning("{}", failure->message);
        if (auto erased = nodes_->erase(name); !erased) log::error("{}", erased.error().message());
        places_.erase(name);
    });
}

/// Claims made for nodes that there are not: a stord was killed between the two.
void UsbNodes::release_orphans() {
    for (const auto& claim : arbiter_.claims()) {
        if (claim.observed || !claim.origin.starts_with(origin_prefix)) continue;
        const std::string name = claim.origin.substr(origin_prefix.size());
        if (over(claim.id) == name) continue;
        log::notice("claim {} of {} is released: it was made for node '{}', which does not exist", claim.id,
                    escape_unprintable(claim.holder), name);
        arbiter_.release_own(claim.id, [] {});
    }
}

void UsbNodes::resume() {
    resumed_ = true;
    stored_.clear();
    for (const auto& record : records()) {
        if (record.usb) places_[record.name] = locate(*record.usb);
    }
    for (auto& one : std::exchange(waiting_, {})) end(one.claims, one.force, std::move(one.done));
    release_orphans();
    look();
}

}  // namespace storctl
