#pragma once
// A way for consumers to reach a node's layers: the FUSE file now, CUSE nodes beside it. Each front end has its own
// descriptor in the reactor's ring and shares the open table, the counters and the layers. Reactor thread only.

#include <functional>
#include <string>

#include "daemon/node/block.hpp"
#include "daemon/node/open_table.hpp"
#include "daemon/node/scsi_unit.hpp"
#include "daemon/node/stats.hpp"

namespace storctl::node {

/// What every front end of a node shares.
struct NodeContext {
    IoRing& ring;
    BlockLayer& top;  ///< the uppermost layer
    OpenTable& opens;
    NodeStats& stats;
    ScsiUnit& unit;
    std::string name;
    std::string host;  ///< first half of an initiator's name
    uint64_t size_bytes = 0;
    uint32_t block_bytes = 512;  ///< logical block of the disk
    bool read_only = false;
    std::function<void()> on_opens_changed;
};

class FrontEnd {
 public:
    virtual ~FrontEnd() = default;
    virtual void serve() = 0;
    /// Takes no more requests; those in flight are answered.
    virtual void stop_receiving() = 0;
    virtual size_t in_flight() const = 0;
    /// A descriptor of the ring was replaced: let go of what waits and holds the old one.
    virtual void restart_receiving() = 0;
    /// The node's size is another now.
    virtual void size_changed() = 0;
};

}  // namespace storctl::node
