#include "daemon/device_service.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "control/interfaces.hpp"
#include "daemon/author.hpp"
#include "daemon/device_service_view.hpp"
#include "daemon/discovery.hpp"

namespace storctl {
namespace {

using control::Call;
using nlohmann::json;

constexpr size_t reason_limit_bytes = 256;
// mounts change in bursts as well (a container's start is a dozen)
constexpr std::chrono::milliseconds mounts_settle{200};

std::vector<std::string> ids_of(const std::vector<DeviceView>& views, const std::vector<size_t>& indices) {
    std::vector<std::string> out;
    for (const size_t i : indices) out.push_back(views[i].device.id);
    return out;
}

std::string describe_sharing(const DeviceView& view) {
    return fmt::format("{} ({})", view.sharing.shared ? "shared" : "not shared", view.sharing.reason);
}

class Service final : public DeviceService {
 public:
    Service(EventLoop& loop, StateDb& db, EventHub& hub, DeviceServiceOptions options)
        : loop_(loop), db_(db), hub_(hub), options_(std::move(options)) {}

    Result<void> start();

    Result<void> coldplug() override { return discovery_->coldplug(); }
    Result<void> serve(control::Server& server) override;
    Result<void> rescan() override { return discovery_->rescan(); }

    DeviceMatch find(const std::string& name) const override;
    json describe_all() const override;
    size_t total() const override { return views_.size(); }
    size_t shared() const override;
    size_t conflicts() const override;
    std::string event_source() const override { return discovery_->source(); }
    std::vector<std::string> findings() const override;
    void set_node_on(const std::string& device_id, const std::string& node_name) override;
    void on_device_event(std::function<void(const std::string&)> listener) override { listener_ = std::move(listener); }

 private:
    struct Changes {
        std::vector<std::string> added, removed, changed;
    };

    void take(DiscoveryBatch batch);
    Changes refresh();
    void publish(const std::string& event, const DeviceView& view, const std::string& summary);
    void publish_change(const DeviceView& view);
    Result<void> watch_mounts();
    std::vector<size_t> resolve(const std::string& name) const;
    /// The device a call names, or its error answer given and none.
    const DeviceView* device_for(Call& call, const std::string& name) const;

    void list(Call call) const;
    void show(Call call) const;
    void set_sharing(Call call);
    void rescan_call(Call call);
    DeviceView as_decided(DeviceView view, const std::string& value, const std::string& reason,
                          const control::Peer& peer) const;
    Result<void> store_decision(const DeviceView& view, const std::string& value, const std::string& reason,
                                const control::Peer& peer);

    EventLoop& loop_;
    StateDb& db_;
    EventHub& hub_;
    DeviceServiceOptions options_;
    locality::KnownBlocks blocks_;
    locality::UsageTexts texts_;
    std::map<std::string, SharingOverride> overrides_;
    std::map<std::string, std::string> nodes_;
    std::vector<DeviceView> views_;
    bool known_ = false;  // the first enumeration is no news
    std::function<void(const std::string&)> listener_;
    std::vector<Call> waiting_rescans_;
    std::unique_ptr<Discovery> discovery_;
    UniqueFd mounts_;
    EventSource mounts_source_, mounts_timer_;
};

Result<void> Service::start() {
    const auto stored = TRY(db_.sharing_overrides());
    for (const auto& entry : stored) overrides_[entry.device_id] = entry;
    discovery_ = TRY(Discovery::open(loop_,
                                     {.monitor_buffer_bytes = options_.monitor_buffer_bytes,
                                      .priority = options_.priority,
                                      .sys = options_.kernel.sys},
                                     [this](DiscoveryBatch batch) { take(std::move(batch)); }));
    return watch_mounts();
}

Result<void> Service::watch_mounts() {
    mounts_timer_ = TRY(loop_.add_timer(mounts_settle, options_.priority, [this] {
        if (known_) refresh();
    }));
    mounts_timer_.enable(false);
    mounts_ = TRY(open_file(options_.kernel.mountinfo, O_RDONLY));
    // proc_pid_mountinfo(5): a change of the mount table makes the file readable as priority data
    auto source = loop_.add_io(mounts_.get(), EPOLLPRI, options_.priority,
                               [this](uint32_t) { mounts_timer_.arm(mounts_settle); });
    // a plain file in place of the kernel's never tells of a change
    if (!source && source.error().code == std::errc::operation_not_permitted) return {};
    if (!source) return std::move(source).error();
    mounts_source_ = std::move(*source);
    return {};
}

void Service::take(DiscoveryBatch batch) {
    locality::KnownBlocks fresh;
    locality::KnownBlocks& into = batch.full ? fresh : blocks_;
    for (auto& facts : batch.present) {
        std::string name = facts.name;
        into[name] = locality::know(std::move(facts), options_.extra_placeholders);
    }
    for (const auto& name : batch.gone) into.erase(name);
    if (batch.full) blocks_ = std::move(fresh);
    const Changes changes = refresh();
    if (!batch.full) return;
    for (auto& call : std::exchange(waiting_rescans_, {})) {
        call.reply({{"added", changes.added}, {"removed", changes.removed}, {"changed", changes.changed}});
    }
}

Service::Changes Service::refresh() {
    auto texts = locality::read_usage_texts(options_.kernel);
    if (texts) {
        texts_ = std::move(*texts);
    } else {
        log::error("what is mounted is taken as it was known: {}", texts.error().message());
    }
    auto next = build_views(blocks_, {.host = options_.host,
                                      .extra_placeholders = options_.extra_placeholders,
                                      .overrides = overrides_,
                                      .nodes = nodes_,
                                      .texts = texts_});
    const auto before = std::exchange(views_, std::move(next));
    Changes changes;
    if (!std::exchange(known_, true)) {
        for (const auto& view : views_) changes.added.push_back(view.device.id);
        return changes;
    }
    std::map<std::string_view, const DeviceView*> old;
    for (const auto& view : before) old.emplace(view.device.id, &view);
    std::vector<DeviceView> added, changed;
    for (const auto& view : views_) {
        const auto found = old.find(view.device.id);
        if (found == old.end()) {
            added.push_back(view);
            continue;
        }
        if (!(*found->second == view)) changed.push_back(view);
        old.erase(found);
    }
    for (const auto& [id, view] : old) changes.removed.emplace_back(id);
    for (const auto& view : added) changes.added.push_back(view.device.id);
    for (const auto& view : changed) changes.changed.push_back(view.device.id);
    // from copies: a listener may call back and change the views
    for (const auto& [id, view] : old) publish("device-removed", *view, fmt::format("{} is gone", view->device.name));
    for (const auto& view : added) {
        publish("device-added", view, fmt::format("{} appeared: {}", view.device.name, describe_sharing(view)));
    }
    for (const auto& view : changed) publish_change(view);
    return changes;
}

void Service::publish(const std::string& event, const DeviceView& view, const std::string& summary) {
    log::info("device {}: {}", view.device.id, summary);
    hub_.publish({.event = event,
                  .subject = view.device.id,
                  .summary = summary,
                  .detail = event == "device-removed" ? json(nullptr) : to_json(view)});
    if (listener_) listener_(view.device.id);
}

void Service::publish_change(const DeviceView& view) {
    publish("device-changed", view, fmt::format("{} changed: {}", view.device.name, describe_sharing(view)));
}

std::vector<size_t> Service::resolve(const std::string& name) const {
    auto found = resolve_device(name, views_, blocks_);
    if (!found.empty() || !name.starts_with('/')) return found;
    // a link or node of somebody else's making
    struct stat status {};
    if (::stat(name.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) return {};
    const locality::DeviceNumber number{gnu_dev_major(status.st_rdev), gnu_dev_minor(status.st_rdev)};
    return resolve_device(number, views_, blocks_);
}

DeviceMatch Service::find(const std::string& name) const {
    const auto found = resolve(name);
    if (found.empty()) return {};
    if (found.size() > 1) {
        return {.outcome = DeviceMatch::Outcome::ambiguous, .candidates = ids_of(views_, found)};
    }
    return {.outcome = DeviceMatch::Outcome::found, .device = summary_of(views_[found[0]])};
}

json Service::describe_all() const {
    json out = json::array();
    for (const auto& view : views_) out.push_back(to_json(view));
    return out;
}

size_t Service::shared() const {
    return static_cast<size_t>(
        std::count_if(views_.begin(), views_.end(), [](const auto& view) { return view.sharing.shared; }));
}

size_t Service::conflicts() const {
    return static_cast<size_t>(
        std::count_if(views_.begin(), views_.end(), [](const auto& view) { return view.device.conflict.has_value(); }));
}

std::vector<std::string> Service::findings() const {
    std::vector<std::string> out;
    for (const auto& view : views_) {
        if (view.device.conflict) {
            out.push_back(fmt::format("{} has an identifier conflict: {}", view.device.name, *view.device.conflict));
        }
        if (view.boot == true && view.sharing.shared) {
            out.push_back(fmt::format("{} carries this host's running system and is marked shared", view.device.name));
        }
    }
    if (!discovery_->monitoring()) {
        out.push_back("device events are not heard: devices that come and go are only seen by 'storctl device rescan'");
    }
    return out;
}

void Service::set_node_on(const std::string& device_id, const std::string& node_name) {
    std::string& node = nodes_[device_id];
    const std::string before = "node " + std::exchange(node, node_name);
    if (node_name.empty()) nodes_.erase(device_id);
    for (auto& view : views_) {
        if (view.device.id != device_id) continue;
        auto in_use = view.in_use;
        std::erase(in_use, before);
        if (!node_name.empty()) in_use.push_back("node " + node_name);
        if (in_use == view.in_use) return;
        view.in_use = std::move(in_use);
        const DeviceView copy = view;
        publish_change(copy);
        return;
    }
}

const DeviceView* Service::device_for(Call& call, const std::string& name) const {
    const auto found = resolve(name);
    if (found.size() == 1) return &views_[found[0]];
    if (found.empty()) {
        call.error("NotFound", {{"id", name}});
    } else {
        call.error("Ambiguous", {{"id", name}, {"candidates", ids_of(views_, found)}});
    }
    return nullptr;
}

void Service::list(Call call) const { call.reply({{"devices", describe_all()}}); }

void Service::show(Call call) const {
    const auto* view = device_for(call, call.parameters().at("id").get<std::string>());
    if (view != nullptr) call.reply({{"device", to_json(*view)}});
}

void Service::set_sharing(Call call) {
    const auto& parameters = call.parameters();
    const auto name = parameters.at("id").get<std::string>();
    const auto value = parameters.at("value").get<std::string>();
    const auto given = parameters.find("reason");
    const auto reason = given == parameters.end() || given->is_null() ? std::string() : given->get<std::string>();
    if (value != "true" && value != "false" && value != "auto") {
        return call.error("InvalidValue",
                          {{"parameter", "value"}, {"value", value}, {"message", "give true, false or auto"}});
    }
    const bool one_line = std::none_of(reason.begin(), reason.end(),
                                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (!one_line || reason.size() > reason_limit_bytes) {
        return call.error("InvalidValue",
                          {{"parameter", "reason"},
                           {"value", reason},
                           {"message", fmt::format("give one line of at most {} bytes", reason_limit_bytes)}});
    }
    const auto* view = device_for(call, name);
    if (view == nullptr) return;
    const std::string id = view->device.id;
    if (auto refusal = locality::sharing_refusal(sharing_case(*view, options_.host), value == "true")) {
        return call.error("Refused",
                          {{"id", id},
                           {"message", fmt::format("{} cannot be marked shared: {}", view->device.name, *refusal)},
                           {"blockers", {*view->device.conflict}}});
    }
    const auto dry_run = parameters.find("dry_run");
    if (dry_run != parameters.end() && dry_run->is_boolean() && dry_run->get<bool>()) {
        return call.reply({{"device", to_json(as_decided(*view, value, reason, call.peer()))}});
    }
    if (auto stored = store_decision(*view, value, reason, call.peer()); !stored) {
        log::error("cannot keep the sharing of '{}': {}", id, stored.error().message());
        return call.error("io.storctl.InternalError",
                          {{"message", fmt::format("the decision could not be stored, nothing was changed: {}",
                                                   stored.error().message())}});
    }
    log::notice("sharing of device {} set to {} by {}: '{}'", id, value, author_of(call.peer()), reason);
    // an identifier that can be used is one device's alone: no other device is concerned
    auto& changed = views_[static_cast<size_t>(view - views_.data())];
    const auto before = std::exchange(changed.sharing, sharing_of(changed, options_.host, overrides_));
    const DeviceView copy = changed;
    if (!(copy.sharing == before)) publish_change(copy);
    call.reply({{"device", to_json(copy)}});
}

/// The device as it would be with this decision.
DeviceView Service::as_decided(DeviceView view, const std::string& value, const std::string& reason,
                               const control::Peer& peer) const {
    std::optional<locality::AdminDecision> decision;
    if (value != "auto") {
        decision = {.shared = value == "true", .reason = reason, .author = author_of(peer), .time = wall_now()};
    }
    view.sharing = locality::decide_sharing(sharing_case(view, options_.host), decision);
    return view;
}

/// Stored first, then in force. One decision per device: those under its other identifiers go.
Result<void> Service::store_decision(const DeviceView& view, const std::string& value, const std::string& reason,
                                     const control::Peer& peer) {
    const std::string id = view.device.id;
    if (value != "auto") {
        const SharingOverride entry{.device_id = id,
                                    .shared = value == "true",
                                    .reason = reason,
                                    .author = author_of(peer),
                                    .time = wall_now()};
        TRY(db_.put_sharing_override(entry));
        overrides_[id] = entry;
    }
    for (const auto& identifier : view.device.identifiers) {
        const std::string key = identifier.text();
        if (!identifier.usable || (key == id && value != "auto") || overrides_.count(key) == 0) continue;
        TRY(db_.remove_sharing_override(key));
        overrides_.erase(key);
    }
    return {};
}

void Service::rescan_call(Call call) {
    if (auto begun = discovery_->rescan(); !begun) {
        return call.error("io.storctl.InternalError", {{"message", begun.error().message()}});
    }
    waiting_rescans_.push_back(std::move(call));
}

Result<void> Service::serve(control::Server& server) {
    using control::Access;
    return server.add_interface(
        control::io_storctl_device,
        {{.name = "List", .handler = [this](Call call) { list(std::move(call)); }},
         {.name = "Show", .handler = [this](Call call) { show(std::move(call)); }},
         {.name = "SetSharing",
          .access = Access::change,
          .handler = [this](Call call) { set_sharing(std::move(call)); }},
         {.name = "Rescan", .access = Access::change, .handler = [this](Call call) { rescan_call(std::move(call)); }}});
}

}  // namespace

Result<std::unique_ptr<DeviceService>> DeviceService::open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                           DeviceServiceOptions options) {
    auto service = std::make_unique<Service>(loop, db, hub, std::move(options));
    TRY(service->start());
    return std::unique_ptr<DeviceService>(std::move(service));
}

}  // namespace storctl
