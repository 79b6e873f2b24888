#pragma once
// The lowest layer: each request becomes one io_uring operation on the backing's descriptor. Short transfers go on,
// what the kernel cannot queue is tried again, a backing that is away answers EIO. Reactor thread only.

#include <functional>

#include "base/io_ring.hpp"
#include "daemon/node/block.hpp"

namespace storctl::node {

class BackingLayer : public BlockLayer {
 public:
    /// `file_index`: the backing's place in the ring's table of registered descriptors.
    BackingLayer(IoRing& ring, unsigned file_index) : ring_(ring), file_index_(file_index) {}

    void submit(BlockRequest& request) override;

    /// While away every new request gets EIO; what is in flight ends as the kernel ends it.
    void set_away(bool away) { away_ = away; }
    bool away() const { return away_; }
    size_t in_flight() const { return in_flight_; }
    /// Called after an operation that failed as an absent device does (EIO, ENXIO, ENODEV).
    void on_device_error(std::function<void(int error_number)> callback) { on_device_error_ = std::move(callback); }

 private:
    void issue(BlockRequest& request);
    static void completed(IoCompletion& self, int result);
    void finish(BlockRequest& request, int64_t result);

    IoRing& ring_;
    unsigned file_index_;
    bool away_ = false;
    size_t in_flight_ = 0;
    std::function<void(int)> on_device_error_;
};

}  // namespace storctl::node
