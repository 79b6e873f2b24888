#pragma once
// io.storctl.Node: the nodes of this host. Owns their records and their ManagedNodes, follows device events, publishes
// node-* events. Nodes outlive this object: destroying it leaves every process running. Loop thread only.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "control/server.hpp"
#include "daemon/device_service.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/managed_node.hpp"
#include "daemon/node_request.hpp"
#include "daemon/state_db.hpp"
#include "daemon/supervisor.hpp"

namespace storctl {

class NodeService {
 public:
    struct Counts {
        size_t total = 0, serving = 0, failed = 0;
    };

    /// Creates the folders for nodes.
    static Result<std::unique_ptr<NodeService>> open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                     DeviceService& devices, Supervisor& supervisor, NodePaths paths,
                                                     NodeSettings settings);

    /// Adopts the nodes of the records that live and starts the others. `settled` once: each has described
    /// itself or ended, or its time to answer is over.
    Result<void> resume(std::function<void()> settled);
    Result<void> serve(control::Server& server);
    /// Asked before a node is created.
    void set_claims(ClaimedBelow claimed) { claimed_ = std::move(claimed); }
    /// The disks behind nodes: kernel name → node's name.
    std::map<std::string, std::string> disks() const;
    void set_settings(const NodeSettings& settings) { environment_.settings = settings; }

    /// All nodes as io.storctl.Node's type Node: for state.json.
    nlohmann::json describe_all() const;
    Counts counts() const;
    /// Sentences for `status`.
    std::vector<std::string> findings() const;

 private:
    struct Entry {
        std::unique_ptr<ManagedNode> node;
        nlohmann::json published;  // as last told to the hub
    };

    NodeService(EventLoop& loop, StateDb& db, EventHub& hub, DeviceService& devices, Supervisor& supervisor,
                NodePaths paths, NodeSettings settings);
    void on_create(control::Call call);
    void create(std::shared_ptr<control::Call> call, CheckedNode checked);
    void created(control::Call& call, const std::string& name, const std::vector<std::string>& warnings);
    void undo_create(control::Call& call, const std::string& name, const ManagedNode::StartFailure& failure);
    void on_show(control::Call call);
    void on_stat(control::Call call);
    void on_remove(control::Call call);
    void removed(const std::string& name);

    Result<ManagedNode*> add(const NodeRecord& record);
    void forget(const std::string& name);
    void node_changed(const std::string& name);
    void device_changed(const std::string& device_id);
    std::optional<std::string> locate(const NodeRecord& record) const;
    std::vector<NodeRecord> records() const;
    std::vector<std::string> device_holders(const std::optional<std::string>& device_id) const;

    EventLoop& loop_;
    StateDb& db_;
    EventHub& hub_;
    DeviceService& devices_;
    NodeEnvironment environment_;
    ClaimedBelow claimed_;
    std::map<std::string, Entry> nodes_;
    std::vector<std::unique_ptr<ManagedNode>> gone_;  // until their own callbacks have returned
    EventSource sweep_;
    EventSource folder_watch_;
};

}  // namespace storctl
