#pragma once
// The one interface between the layers of a block node (front end -> cache -> alignment -> backing). Reactor thread
// only.
//
// A request travels down through `submit` and its result back up through the continuations that the layers have put on
// it. A layer finishes a request exactly once, at once or later, with the bytes done or a negative errno.

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "base/enum_text.hpp"
#include "base/io_ring.hpp"

namespace storctl::node {

enum class BlockOp : uint8_t { read, write, flush, discard, write_zeroes };
inline constexpr size_t block_op_count = 5;

inline bool changes_data(BlockOp op) { return op != BlockOp::read && op != BlockOp::flush; }

/// Offset and length are bytes inside the node's size; `data` is page-aligned memory of `length` bytes for read and
/// write, else null. A discarded range reads as zeroes, as a hole in a file does.
struct BlockRequest : IoCompletion {
    using Continuation = void (*)(void* context, BlockRequest& self, int64_t result);

    BlockOp op = BlockOp::read;
    bool fua = false;  ///< durable before it finishes (O_DSYNC, RWF_DSYNC)
    uint64_t offset = 0;
    uint64_t length = 0;
    std::byte* data = nullptr;

    /// `continuation(context, request, result)` runs when the layers below have finished.
    void then(Continuation continuation, void* context) {
        assert(depth_ < continuations_.size());
        continuations_[depth_++] = {continuation, context};
    }
    /// Hands the result to the layer above; the request may be gone when this returns.
    void finish(int64_t result) {
        const auto [continuation, context] = continuations_[--depth_];
        continuation(context, *this, result);
    }

    // Of the reactor, for a request of another thread.
    uint64_t submitted_ns = 0;
    // Of the backing layer while it has the request: itself, and how far a short transfer has come.
    void* backing_layer = nullptr;
    uint64_t transferred = 0;
    // Of the alignment layer while it has the request: neighbours in its list of changes in flight.
    BlockRequest* previous = nullptr;
    BlockRequest* next = nullptr;

 private:
    struct Step {
        Continuation continuation;
        void* context;
    };
    std::array<Step, 6> continuations_{};  // one per layer, front end included
    uint8_t depth_ = 0;
};

class BlockLayer {
 public:
    virtual ~BlockLayer() = default;
    virtual void submit(BlockRequest& request) = 0;
};

}  // namespace storctl::node

namespace storctl {

template <>
struct EnumNames<node::BlockOp> {
    static constexpr auto table = std::to_array<EnumName<node::BlockOp>>({
        {node::BlockOp::read, "read"},
        {node::BlockOp::write, "write"},
        {node::BlockOp::flush, "flush"},
        {node::BlockOp::discard, "discard"},
        {node::BlockOp::write_zeroes, "write-zeroes"},
    });
};
static_assert(round_trips<node::BlockOp>() && EnumNames<node::BlockOp>::table.size() == node::block_op_count);

}  // namespace storctl
