#pragma once
// Lets consumers of an O_DIRECT backing transfer any byte range: what is not aligned to the backing's blocks goes
// through a bounce buffer, writes as read-modify-write. Reactor thread only.
//
// Order: a read-modify-write works on whole blocks, so another change of the same blocks in between would be lost.
// A change (write, discard, write_zeroes) that shares a block with one in flight waits when either of them is
// unaligned; those that wait go in order of arrival. Aligned changes never wait for each other: that order is the
// consumer's.

#include <deque>
#include <functional>
#include <memory>

#include "daemon/node/block.hpp"

namespace storctl::node {

class AlignmentLayer : public BlockLayer {
 public:
    /// `block_bytes`: a power of two; 1 hands everything through.
    AlignmentLayer(BlockLayer& below, uint32_t block_bytes) : below_(below), block_bytes_(block_bytes) {}

    void submit(BlockRequest& request) override;
    /// For a backing that came back with other blocks. Only while nothing is in flight.
    void set_block_bytes(uint32_t block_bytes) { block_bytes_ = block_bytes; }

 private:
    class UnalignedChange;

    bool aligned(const BlockRequest& request) const;
    bool conflicts(const BlockRequest& a, const BlockRequest& b) const;
    bool must_wait(const BlockRequest& request, size_t waiting_before) const;
    void start(BlockRequest& request);
    void unaligned_read(BlockRequest& request);
    static void change_done(void* context, BlockRequest& request, int64_t result);
    void start_waiting();

    BlockLayer& below_;
    uint32_t block_bytes_;
    BlockRequest* active_ = nullptr;  // list of changes in flight
    std::deque<BlockRequest*> waiting_;
    size_t unaligned_ = 0;  // changes in flight or waiting that are not aligned
};

}  // namespace storctl::node
