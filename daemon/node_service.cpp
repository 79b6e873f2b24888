#include "daemon/node_service.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "control/interfaces.hpp"
#include "daemon/author.hpp"
#include "daemon/node_identity.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

using nlohmann::json;

constexpr mode_t private_folder = 0700;
constexpr mode_t public_folder = 0755;
constexpr std::string_view socket_suffix = ".socket";

void refuse(control::Call& call, const NodeRefusal& refusal) { call.error(refusal.error, refusal.parameters); }

/// Absent and null are the same in Varlink.
template <class T>
std::optional<T> optional_parameter(const json& parameters, const char* name) {
    const auto found = parameters.find(name);
    if (found == parameters.end() || found->is_null()) return std::nullopt;
    return found->get<T>();
}

NodeRequest request_of(const json& parameters) {
    return {.name = parameters.at("name"),
            .device = parameters.at("device"),
            .open = optional_parameter<std::string>(parameters, "open"),
            .loop = optional_parameter<bool>(parameters, "loop").value_or(false),
            .sg = optional_parameter<bool>(parameters, "sg")};
}

std::string summary_of(const json& node) {
    const std::string message = node.value("message", "");
    return fmt::format("node '{}': {}{}", node.value("name", ""), node.value("state", ""),
                       message.empty() ? "" : ", " + message);
}

}  // namespace

NodeService::NodeService(EventLoop& loop, StateDb& db, EventHub& hub, DeviceService& devices, Supervisor& supervisor,
                         ReservationStore& reservations, NodePaths paths, NodeSettings settings)
    : loop_(loop),
      db_(db),
      hub_(hub),
      devices_(devices),
      environment_{
          .loop = loop,
          .supervisor = supervisor,
          .reservations = reservations,
          .paths = std::move(paths),
          .settings = settings,
          .changed = [this](const std::string& name) { node_changed(name); },
          .save =
              [this](const NodeRecord& record) {
                  if (auto saved = db_.put_node(record); !saved) log::error("{}", saved.error().message());
              },
          .locate = [this](const NodeRecord& record) { return locate(record); },
          .standing =
              [this](const NodeRecord& record) { return usb_.standing ? usb_.standing(record) : UsbStanding{}; }} {}

Result<std::unique_ptr<NodeService>> NodeService::open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                       DeviceService& devices, Supervisor& supervisor,
                                                       ReservationStore& reservations, NodePaths paths,
                                                       NodeSettings settings) {
    TRY(make_directories(paths.folder(), private_folder));
    TRY(make_directories(paths.run_dir + "/block", public_folder));
    std::unique_ptr<NodeService> service(
        new NodeService(loop, db, hub, devices, supervisor, reservations, std::move(paths), settings));
    NodeService* const raw = service.get();
    // a process that comes up is connected to at once instead of at the next attempt
    const auto on_file = [raw](uint32_t, const std::string& file) {
        if (!file.ends_with(socket_suffix)) return;
        const auto found = raw->nodes_.find(file.substr(0, file.size() - socket_suffix.size()));
        if (found != raw->nodes_.end()) found->second.node->nudge();
    };
    service->folder_watch_ = TRY(
        loop.add_watch(raw->environment_.paths.folder(), IN_CREATE | IN_MOVED_TO, priority::node_messages, on_file));
    devices.on_device_event([raw](const std::string& device_id) { raw->device_changed(device_id); });
    return service;
}

// ---- the nodes

Result<ManagedNode*> NodeService::add(const NodeRecord& record) {
    auto node = TRY(ManagedNode::open(environment_, record));
    ManagedNode* const raw = node.get();
    nodes_[record.name] = {.node = std::move(node), .published = raw->describe()};
    if (record.device_id) devices_.set_node_on(*record.device_id, record.name);
    return raw;
}

/// Out of the list now; destroyed when its own callback, from which this may come, has returned.
void NodeService::forget(const std::string& name) {
    const auto found = nodes_.find(name);
    const auto device_id = found->second.node->record().device_id;
    gone_.push_back(std::move(found->second.node));
    nodes_.erase(found);
    if (device_id) devices_.set_node_on(*device_id, "");
    auto sweep = loop_.add_defer(priority::node_timers, [this] { gone_.clear(); });
    if (sweep) sweep_ = std::move(*sweep);
    hub_.publish({.event = "node-removed", .subject = name, .summary = fmt::format("node '{}' removed", name)});
}

Result<void> NodeService::resume(std::function<void()> settled) {
    const auto records = TRY(db_.nodes());
    const auto waiting = std::make_shared<size_t>(records.size() + 1);
    const auto one_settled = [waiting, settled = std::move(settled)] {
        if (--*waiting == 0) settled();
    };
    for (const auto& record : records) {
        ManagedNode* const node = TRY(add(record));
        node->resume(one_settled);
    }
    one_settled();
    return {};
}

void NodeService::node_changed(const std::string& name) {
    const auto found = nodes_.find(name);
    if (found == nodes_.end()) return;
    json now = found->second.node->describe();
    if (now == found->second.published) return;
    const bool reserved = now.at("reservations") != found->second.published.at("reservations");
    found->second.published = now;
    const std::string summary =
        reserved ? fmt::format("node '{}': {}", name, reservations_summary(now.at("reservations"))) : summary_of(now);
    hub_.publish({.event = "node-changed", .subject = name, .summary = summary, .detail = std::move(now)});
}

void NodeService::device_changed(const std::string& device_id) {
    for (auto& [name, entry] : nodes_) {
        if (entry.node->record().device_id == device_id) entry.node->backing_changed();
    }
}

std::optional<std::string> NodeService::locate(const NodeRecord& record) const {
    if (record.usb) return usb_.locate ? usb_.locate(record) : std::nullopt;
    if (!record.device_id) {
        struct stat status {};
        return ::stat(record.backing_path.c_str(), &status) == 0 ? std::optional(record.backing_path) : std::nullopt;
    }
    const DeviceMatch match = devices_.find(*record.device_id);
    if (match.outcome != DeviceMatch::Outcome::found || match.device->conflict) return std::nullopt;
    return match.device->devnode;
}

std::vector<NodeRecord> NodeService::records() const {
    std::vector<NodeRecord> out;
    for (const auto& [name, entry] : nodes_) out.push_back(entry.node->record());
    return out;
}

NodeProcesses NodeService::processes() const {
    NodeProcesses out;
    for (const auto& [name, entry] : nodes_) {
        const auto pid = entry.node->process();
        if (!pid) out.unknown.insert(name);
        if (pid.value_or(0) != 0) out.by_pid.emplace(*pid, name);
    }
    return out;
}

std::map<std::string, std::string> NodeService::disks() const {
    std::map<std::string, std::string> out;
    for (const auto& [name, entry] : nodes_) {
        const std::string block = block_name(entry.node->record());
        if (!block.empty()) out[block] = name;
    }
    return out;
}

json NodeService::describe_all() const {
    json out = json::array();
    for (const auto& [name, entry] : nodes_) out.push_back(entry.node->describe());
    return out;
}

NodeService::Counts NodeService::counts() const {
    Counts out{.total = nodes_.size()};
    for (const auto& [name, entry] : nodes_) {
        if (entry.node->state() == NodeState::serving) ++out.serving;
        if (entry.node->state() == NodeState::failed) ++out.failed;
    }
    return out;
}

std::vector<std::string> NodeService::findings() const {
    std::vector<std::string> out;
    for (const auto& [name, entry] : nodes_) {
        const NodeState state = entry.node->state();
        const bool trouble = state == NodeState::failed || state == NodeState::backing_lost;
        if (trouble) out.push_back(summary_of(entry.node->describe()));
    }
    return out;
}

// ---- the interface

Result<void> NodeService::serve(control::Server& server) {
    using control::Access;
    using control::Call;
    std::vector<control::Method> methods;
    methods.push_back({"Create", Access::change, [this](Call call) { on_create(std::move(call)); }});
    methods.push_back({"CreateUsb", Access::change, [this](Call call) {
                           if (usb_.create) return usb_.create(std::move(call));
                           call.error("Failed", {{"message", "USB devices are not served here"}});
                       }});
    methods.push_back({"List", Access::read, [this](Call call) { call.reply({{"nodes", describe_all()}}); }});
    methods.push_back({"Show", Access::read, [this](Call call) { on_show(std::move(call)); }});
    methods.push_back({"Stat", Access::read, [this](Call call) { on_stat(std::move(call)); }});
    methods.push_back({"Remove", Access::change, [this](Call call) { on_remove(std::move(call)); }});
    return server.add_interface(control::io_storctl_node, std::move(methods));
}

void NodeService::on_show(control::Call call) {
    const std::string name = call.parameters().at("name");
    const auto found = nodes_.find(name);
    if (found == nodes_.end()) return call.error("NotFound", {{"name", name}});
    call.reply({{"node", found->second.node->describe()}});
}

void NodeService::on_create(control::Call call) {
    const NodeSettings& settings = environment_.settings;
    const SgMeans means{.by_default = settings.sg, .cuse = ::access(settings.cuse_path.c_str(), F_OK) == 0};
    auto checked = check_node_request(request_of(call.parameters()), devices_, records(), claimed_, means);
    if (const auto* refusal = std::get_if<NodeRefusal>(&checked)) return refuse(call, *refusal);
    auto& node = std::get<CheckedNode>(checked);
    const auto device = node.record.device_id ? devices_.find(*node.record.device_id).device : std::nullopt;
    node.record.scsi.identity = identity_of(node.record, device ? &*device : nullptr, settings.machine_id);
    node.record.created = wall_now();
    node.record.created_by = author_of(call.peer());
    if (!optional_parameter<bool>(call.parameters(), "dry_run").value_or(false)) {
        return create(std::make_shared<control::Call>(std::move(call)), std::move(node));
    }
    auto shown = sketch(node.record);
    if (!shown) return call.error("Failed", {{"message", shown.error().message()}});
    call.reply({{"node", std::move(*shown)}, {"warnings", node.warnings}});
}

void NodeService::create(std::shared_ptr<control::Call> call, CheckedNode checked) {
    const std::string name = checked.record.name;
    const auto device_id = checked.record.device_id;
    make(std::move(checked.record), [this, call, name, device_id, warnings = std::move(checked.warnings)](
                                        const std::optional<ManagedNode::StartFailure>& failure) {
        if (!failure) return call->reply({{"node", nodes_.at(name).node->describe()}, {"warnings", warnings}});
        if (failure->refused) return refuse(*call, refused(failure->message, device_holders(device_id)));
        call->error("Failed", {{"message", failure->message}});
    });
}

void NodeService::make(NodeRecord record, ManagedNode::Started done) {
    const std::string name = record.name;
    // first the record: a stord that is killed from here on finds the node again instead of leaving a process unknown
    if (auto saved = db_.put_node(record); !saved) {
        return done(ManagedNode::StartFailure{.message = saved.error().message()});
    }
    auto node = add(record);
    if (!node) {
        if (auto undone = db_.remove_node(name); !undone) log::error("{}", undone.error().message());
        return done(ManagedNode::StartFailure{.message = node.error().message()});
    }
    hub_.publish({.event = "node-added",
                  .subject = name,
                  .summary = fmt::format("node '{}' added over '{}'", name, record.backing_path),
                  .detail = (*node)->describe()});
    (*node)->create([this, name, done = std::move(done)](std::optional<ManagedNode::StartFailure> failure) {
        if (failure) {
            log::warning("node '{}' was not created: {}", name, failure->message);
            failure->message = fmt::format("node '{}' could not be started: {}", name, failure->message);
            if (auto undone = erase(name); !undone) log::error("{}", undone.error().message());
        }
        wake();
        done(std::move(failure));
    });
}

// ---- the end of a node

void NodeService::stop(const std::string& name, bool force, ManagedNode::Stopped done) {
    nodes_.at(name).node->stop(force, [this, done = std::move(done)](std::optional<ManagedNode::StopFailure> failure) {
        wake();
        done(std::move(failure));
    });
}

void NodeService::hurry(const std::string& name) {
    const auto found = nodes_.find(name);
    if (found != nodes_.end()) found->second.node->hurry();
}

Result<void> NodeService::erase(const std::string& name) {
    if (!nodes_.contains(name)) return {};
    TRY(db_.remove_node(name));
    remove_node_files(environment_.paths, name);
    const NodeRecord record = nodes_.at(name).node->record();
    forget(name);
    release_reservations(record);
    return {};
}

void NodeService::release_reservations(const NodeRecord& gone) {
    if (gone.kind() != node::NodeKind::block) return;
    const std::string device = reservations_key(gone);
    for (const auto& [name, entry] : nodes_) {
        if (reservations_key(entry.node->record()) == device) return;
    }
    environment_.reservations.released(device);
}

void NodeService::start_again(const std::string& name) {
    const auto found = nodes_.find(name);
    if (found != nodes_.end() && !found->second.node->busy()) found->second.node->resume([] {});
}

void NodeService::usb_changed(const std::string& name) {
    const auto found = nodes_.find(name);
    if (found == nodes_.end()) return;
    found->second.node->backing_changed();
    node_changed(name);
}

bool NodeService::busy(const std::string& name) const {
    const auto found = nodes_.find(name);
    return found != nodes_.end() && found->second.node->busy();
}

void NodeService::when_idle(const std::string& name, std::function<void()> then) {
    if (!busy(name)) return then();
    waiting_.push_back({.name = name, .then = std::move(then)});
}

/// At the next turn of the loop: whoever has just ended something has to finish first.
void NodeService::wake() {
    if (waiting_.empty()) return;
    auto again = loop_.add_defer(priority::node_timers, [this] {
        for (auto& one : std::exchange(waiting_, {})) when_idle(one.name, std::move(one.then));
    });
    if (again) wake_ = std::move(*again);
}

json NodeService::describe(const std::string& name) const {
    const auto found = nodes_.find(name);
    return found == nodes_.end() ? json() : found->second.node->describe();
}

Result<json> NodeService::sketch(const NodeRecord& record) {
    const auto node = TRY(ManagedNode::open(environment_, record));
    return node->describe();
}

std::vector<std::string> NodeService::device_holders(const std::optional<std::string>& device_id) const {
    std::vector<std::string> out;
    if (!device_id) return out;
    for (const auto& device : devices_.describe_all()) {
        if (device.value("id", "") == *device_id) out = device.value("in_use", out);
    }
    return out;
}

void NodeService::on_remove(control::Call call) {
    const std::string name = call.parameters().at("name");
    if (!nodes_.contains(name)) return call.error("NotFound", {{"name", name}});
    remove(std::make_shared<control::Call>(std::move(call)));
}

void NodeService::remove(const std::shared_ptr<control::Call>& call) {
    const std::string name = call->parameters().at("name");
    const bool force = optional_parameter<bool>(call->parameters(), "force").value_or(false);
    const auto found = nodes_.find(name);
    // by whoever was waited for
    if (found == nodes_.end()) return call->reply({{"warnings", json::array()}});
    if (force && found->second.node->stopping()) {
        hurry(name);
        return when_idle(name, [this, call] { remove(call); });
    }
    const auto& record = found->second.node->record();
    stop(name, force, [this, call, record](const std::optional<ManagedNode::StopFailure>& failure) {
        if (!failure) return removed(call, record);
        switch (failure->why) {
            case ManagedNode::StopFailure::Why::busy:
                return refuse(*call, refused(failure->message, failure->openers));
            case ManagedNode::StopFailure::Why::unavailable:
                return call->error("Failed", {{"message", failure->message}});
        }
    });
}

/// Its process is gone; with its record it would come back at the next start of stord.
void NodeService::removed(const std::shared_ptr<control::Call>& call, const NodeRecord& record) {
    if (auto erased = erase(record.name); !erased) {
        start_again(record.name);
        return call->error("Failed", {{"message", erased.error().message()}});
    }
    const auto reply = [call](const std::string& said) {
        json warnings = json::array();
        if (!said.empty()) warnings.push_back(said);
        call->reply({{"warnings", std::move(warnings)}});
    };
    return record.usb ? usb_.removed(record, reply) : reply("");
}

void NodeService::on_stat(control::Call call) {
    const auto name = optional_parameter<std::string>(call.parameters(), "name");
    if (name && !nodes_.contains(*name)) return call.error("NotFound", {{"name", *name}});
    struct Gathering {
        control::Call call;
        json stats = json::array();
        std::string problem;
        explicit Gathering(control::Call c) : call(std::move(c)) {}
    };
    const auto gathering = std::make_shared<Gathering>(std::move(call));
    const auto waiting = std::make_shared<size_t>(1);
    const auto one_done = [gathering, waiting, named = name.has_value()] {
        if (--*waiting > 0) return;
        if (named && !gathering->problem.empty())
            return gathering->call.error("Failed", {{"message", gathering->problem}});
        gathering->call.reply({{"stats", gathering->stats}});
    };
    for (auto& [node_name, entry] : nodes_) {
        if (name && *name != node_name) continue;
        ++*waiting;
        entry.node->stat([gathering, one_done, node_name = node_name](Result<json> stat) {
            if (stat) {
                (*stat)["name"] = node_name;
                gathering->stats.push_back(std::move(*stat));
            } else {
                gathering->problem =
                    fmt::format("node '{}' gives no statistics: {}", node_name, stat.error().message());
            }
            one_done();
        });
    }
    one_done();
}

}  // namespace storctl
