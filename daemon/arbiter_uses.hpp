#pragma once
// What the host and its programs use, kept fresh: looked at soon after anything has happened, and anew before a
// decision. Loop thread only.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/arbiter_ledger.hpp"
#include "daemon/use_scanner.hpp"

namespace storctl {

class UseWatch {
 public:
    /// UseScanner::scan.
    using Scan = std::function<void(UseRequest, UseScanner::Done)>;
    /// Disks behind mediated nodes: kernel name → node's name.
    using Disks = std::map<std::string, std::string>;
    using Nodes = std::function<Disks()>;

    static Result<std::unique_ptr<UseWatch>> open(EventLoop& loop, ClaimLedger& ledger, Scan scan);

    void set_nodes(Nodes nodes) { nodes_ = std::move(nodes); }
    /// USB devices behind mediated nodes: "/dev/bus/usb/001/004" → node's name.
    void set_usb_nodes(Nodes nodes) { usb_nodes_ = std::move(nodes); }
    void set_node_processes(std::function<NodeProcesses()> processes) { processes_ = std::move(processes); }
    void set_consoles(bool are_used) { consoles_ = are_used; }

    /// Something has happened: a look in a moment, shared with whatever else happens until then.
    void look_soon();
    /// A look that begins after this call; the arbiter knows the result when `done` runs. An error: what is used is not
    /// known.
    void look(std::function<void(Result<void>)> done);
    /// The last look's failure; empty: it succeeded.
    const std::string& trouble() const { return trouble_; }
    /// Processes that could not be looked into.
    size_t hidden_processes() const { return hidden_processes_; }

 private:
    UseWatch(ClaimLedger& ledger, Scan scan) : ledger_(ledger), scan_(std::move(scan)) {}
    UseRequest request() const;
    Result<void> take(Result<UseScan> scan);

    ClaimLedger& ledger_;
    Scan scan_;
    Nodes nodes_, usb_nodes_;
    std::function<NodeProcesses()> processes_;
    bool consoles_ = true;
    bool soon_ = false;
    size_t hidden_processes_ = 0;
    std::string trouble_;
    EventSource timer_;
};

}  // namespace storctl
