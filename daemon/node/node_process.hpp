#pragma once
// The control thread of a stor-node process: opens the backing, mounts, starts the reactor, attaches the loop device,
// starts the SCSI server,
// serves io.storctl.NodeProcess, watches the backing's size and presence, and ends all of it in order.

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/node/backing.hpp"
#include "daemon/node/describe.hpp"
#include "daemon/node/loop_device.hpp"
#include "daemon/node/node_control.hpp"
#include "daemon/node/reactor.hpp"
#include "daemon/node/scsi_unit.hpp"
#include "daemon/node/sg_server.hpp"
#include "daemon/node/spec.hpp"

namespace storctl::node {

class NodeProcess {
 public:
    /// Serving when it returns. Errors are those of Backing::open, FuseChannel::mount and so on.
    static Result<std::unique_ptr<NodeProcess>> start(EventLoop& loop, Spec spec);
    ~NodeProcess();

    /// Ends the loop with code 0: loop device, mount, in-flight I/O, in that order. Without `force` nothing happens
    /// while it is open, and the openers are given; empty: it ends.
    std::vector<Opener> stop(bool force);

 private:
    NodeProcess(EventLoop& loop, Spec spec) : loop_(loop), spec_(std::move(spec)) {}

    Result<Backing> open_with_patience() const;
    Result<void> open_backing();
    Result<void> make_unit();
    Result<void> start_reactor();
    Result<void> start_sg();
    Result<void> attach_loop();
    Reactor::Geometry geometry() const;
    void view_backing();

    void check_backing();
    void lose_backing(const std::string& why);
    Result<void> reopen(const std::string& path);
    void refresh_size();
    void sync_loop_size();
    bool detach_loop(bool force);

    Description description() const;
    NodeControl::Handlers handlers();

    EventLoop& loop_;
    Spec spec_;
    std::unique_ptr<NodeControl> control_;
    unsigned connection_ = 0;  // of the FUSE mount, as fusectl numbers it
    std::atomic<bool> check_posted_ = false;
    std::unique_ptr<Mailbox> mailbox_;
    std::optional<Backing> backing_;
    bool losing_ = false;  // the reactor still has operations on the lost descriptor
    uint64_t size_bytes_ = 0;
    uint32_t logical_block_bytes_ = 512;
    std::string message_;
    std::vector<Opener> openers_;
    std::shared_ptr<ScsiUnit> unit_;
    std::unique_ptr<Reactor> reactor_;
    std::unique_ptr<SgServer> sg_;
    std::optional<LoopDevice> loop_device_;
    EventSource check_timer_;
};

}  // namespace storctl::node
