#pragma once
// The data plane of a node: ring, layers, open table and front ends on a thread of their own. Other threads reach it
// only through the calls below, which post work to it; what it has to say comes back through `Listener` on its own
// thread.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "daemon/node/alignment_layer.hpp"
#include "daemon/node/backing.hpp"
#include "daemon/node/backing_layer.hpp"
#include "daemon/node/front_end.hpp"
#include "daemon/node/fuse_channel.hpp"
#include "daemon/node/spec.hpp"

namespace storctl::node {

/// Called on the reactor's thread: hand the news to your own.
struct ReactorListener {
    std::function<void(std::vector<Opener>)> opens_changed;
    std::function<void(int error_number)> device_error;  ///< an operation failed as on an absent device
    std::function<void()> closed;  ///< the FUSE connection ended (unmounted or aborted from outside)
};

class Reactor;

/// What other threads may ask of a reactor as long as there is one. Not from the reactor's own thread.
class ReactorPort {
 public:
    explicit ReactorPort(Reactor& reactor) : reactor_(&reactor) {}
    OpenDecision open(Opener opener);
    void release(uint64_t handle);
    /// Has it carried out by the layers, later; its continuation runs on the reactor's thread. Also from that thread.
    /// False: there is no reactor any more.
    bool submit(BlockRequest& request);
    void disconnect();

 private:
    bool post(std::function<void(Reactor&)> work);
    std::mutex mutex_;  // guards reactor_
    Reactor* reactor_;
};

class Reactor {
 public:
    struct Geometry {
        uint64_t size_bytes = 0;
        uint32_t transfer_alignment = 1;
    };
    /// `backing_fd` -1: start with the backing away. The reactor owns the descriptor's place in the ring, not the
    /// descriptor.
    static Result<std::unique_ptr<Reactor>> start(const Spec& spec, std::unique_ptr<FuseChannel> channel,
                                                  int backing_fd, Geometry geometry, bool read_only, ScsiUnit& unit,
                                                  ReactorListener listener);
    /// Ends the thread when what is in flight has been answered, however long that takes.
    ~Reactor();

    /// From now on EIO; `then` runs (on the reactor) once no operation uses the old descriptor any more.
    void take_backing_away(std::function<void()> then);
    Result<void> give_backing(int fd, Geometry geometry);
    void set_size(uint64_t size_bytes);
    /// Who has it open now, besides our own process (the loop device). Nobody: from now on nobody is let in any more.
    std::vector<Opener> close_if_unused();
    /// Lets consumers in again after close_if_unused.
    void open_again();
    /// Lets nobody in any more and unmounts; open files go on until the process ends.
    void unmount();
    const NodeStats& stats() const { return stats_; }
    std::shared_ptr<ReactorPort> port() const { return port_; }

 private:
    Reactor(const Spec& spec, std::unique_ptr<FuseChannel> channel, std::unique_ptr<IoRing> ring, Geometry geometry,
            bool read_only, ScsiUnit& unit, ReactorListener listener);
    friend class ReactorPort;
    void run();
    void after_batch();
    void carry_out(BlockRequest& request);
    static void ported_done(void* context, BlockRequest& request, int64_t result);
    /// Runs `work` on the reactor's thread and waits for it.
    template <class Work>
    auto on_reactor(Work work);
    size_t in_flight() const;

    ReactorListener listener_;
    std::unique_ptr<IoRing> ring_;
    std::unique_ptr<FuseChannel> channel_;
    NodeStats stats_;
    OpenTable opens_;
    BackingLayer backing_;
    AlignmentLayer alignment_;
    NodeContext context_;
    std::vector<std::unique_ptr<FrontEnd>> front_ends_;
    std::shared_ptr<ReactorPort> port_;
    std::atomic<size_t> ported_{0};       // what other threads have posted and is not done
    std::function<void()> when_drained_;  // of take_backing_away
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace storctl::node
