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
#include "daemon/node_processes.hpp"
#include "daemon/node_request.hpp"
#include "daemon/state_db.hpp"
#include "daemon/supervisor.hpp"

namespace storctl {

class NodeService {
 public:
    struct Counts {
        size_t total = 0, serving = 0, failed = 0;
    };

    /// What lies elsewhere for nodes over USB devices.
    struct UsbSide {
        std::function<void(control::Call)> create;  ///< CreateUsb
        /// Where the device is, if its claim lets it be used.
        std::function<std::optional<std::string>(const NodeRecord&)> locate;
        /// What is plugged in for it, whether it can be used or not.
        std::function<UsbStanding(const NodeRecord&)> standing;
        /// One was removed; what goes with it is gone when `done` is called, with what that had to say.
        std::function<void(const NodeRecord&, std::function<void(std::string)> done)> removed;
    };

    /// Creates the folders for nodes.
    static Result<std::unique_ptr<NodeService>> open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                     DeviceService& devices, Supervisor& supervisor,
                                                     ReservationStore& reservations, NodePaths paths,
                                                     NodeSettings settings);

    /// Adopts the nodes of the records that live and starts the others. `settled` once: each has described
    /// itself or ended, or its time to answer is over.
    Result<void> resume(std::function<void()> settled);
    Result<void> serve(control::Server& server);
    /// Asked before a node is created.
    void set_claims(ClaimedBelow claimed) { claimed_ = std::move(claimed); }
    NodeProcesses processes() const;
    /// The disks behind nodes: kernel name → node's name.
    std::map<std::string, std::string> disks() const;
    void set_settings(const NodeSettings& settings) { environment_.settings = settings; }
    void set_usb(UsbSide usb) { usb_ = std::move(usb); }

    // for nodes over USB devices (daemon/usb_nodes.hpp), which begin and end with claims

    std::vector<NodeRecord> records() const;
    /// The node as it would be shown.
    Result<nlohmann::json> sketch(const NodeRecord& record);
    /// Recorded, then started. `done` once: it serves, or nothing of it is left and why.
    void make(NodeRecord record, ManagedNode::Started done);
    /// Ends the process of a node that there is, not its record.
    void stop(const std::string& name, bool force, ManagedNode::Stopped done);
    /// A stop that is under way goes on as one by force.
    void hurry(const std::string& name);
    /// The record and every file of a node without a process; it stays known when that cannot be stored.
    Result<void> erase(const std::string& name);
    /// What was stopped and not erased.
    void start_again(const std::string& name);
    /// Its device came, went or moved.
    void usb_changed(const std::string& name);
    /// Being created or stopped.
    bool busy(const std::string& name) const;
    /// Once it is neither, or gone; from inside when that is so now.
    void when_idle(const std::string& name, std::function<void()> then);
    /// As io.storctl.Node's type Node; null: there is none.
    nlohmann::json describe(const std::string& name) const;

    /// All nodes as io.storctl.Node's type Node: for state.json.
    nlohmann::json describe_all() const;
    Counts counts() const;
    /// Sentences for `status`.
    std::vector<std::string> findings() const;

 private:
    struct Waiting {
        std::string name;
        std::function<void()> then;
    };
    struct Entry {
        std::unique_ptr<ManagedNode> node;
        nlohmann::json published;  // as last told to the hub
    };

    NodeService(EventLoop& loop, StateDb& db, EventHub& hub, DeviceService& devices, Supervisor& supervisor,
                ReservationStore& reservations, NodePaths paths, NodeSettings settings);
    void on_create(control::Call call);
    void create(std::shared_ptr<control::Call> call, CheckedNode checked);
    void on_show(control::Call call);
    void on_stat(control::Call call);
    void on_remove(control::Call call);
    void remove(const std::shared_ptr<control::Call>& call);
    void removed(const std::shared_ptr<control::Call>& call, const NodeRecord& record);

    Result<ManagedNode*> add(const NodeRecord& record);
    void forget(const std::string& name);
    void node_changed(const std::string& name);
    void device_changed(const std::string& device_id);
    std::optional<std::string> locate(const NodeRecord& record) const;
    void release_reservations(const NodeRecord& gone);
    void wake();
    std::vector<std::string> device_holders(const std::optional<std::string>& device_id) const;

    EventLoop& loop_;
    StateDb& db_;
    EventHub& hub_;
    DeviceService& devices_;
    NodeEnvironment environment_;
    ClaimedBelow claimed_;
    UsbSide usb_;
    std::map<std::string, Entry> nodes_;
    std::vector<std::unique_ptr<ManagedNode>> gone_;  // until their own callbacks have returned
    std::vector<Waiting> waiting_;
    EventSource sweep_;
    EventSource wake_;
    EventSource folder_watch_;
};

}  // namespace storctl
