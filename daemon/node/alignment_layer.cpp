#include "daemon/node/alignment_layer.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/unique_fd.hpp"

namespace storctl::node {
namespace {

using Memory = std::unique_ptr<std::byte, CRelease<std::free>>;

Memory allocate(uint64_t bytes, uint32_t alignment) {
    return Memory(
        static_cast<std::byte*>(std::aligned_alloc(std::max<size_t>(alignment, 4096), (bytes + 4095) / 4096 * 4096)));
}

uint64_t round_down(uint64_t value, uint64_t block) { return value & ~(block - 1); }
uint64_t round_up(uint64_t value, uint64_t block) { return round_down(value + block - 1, block); }

/// An unaligned read: the blocks around it into a bounce buffer, the wanted part into the consumer's.
struct BouncedRead {
    BlockRequest inner;
    BlockRequest* outer = nullptr;
    Memory memory;
};

}  // namespace

/// A change whose range begins or ends inside a block. A write is one patch; for discard and write_zeroes the whole
/// blocks inside go down as they are, first, so that a refusal (EOPNOTSUPP) leaves nothing half done; then the edges
/// are patched. Deletes itself when it has handed its result on.
class AlignmentLayer::UnalignedChange {
 public:
    UnalignedChange(AlignmentLayer& layer, BlockRequest& outer)
        : layer_(layer), outer_(outer), block_(layer.block_bytes_) {}

    void run() {
        const uint64_t begin = outer_.offset, end = outer_.offset + outer_.length;
        if (outer_.op == BlockOp::write) return patch(begin, end, [this] { finish(0); });
        const uint64_t inner_begin = round_up(begin, block_), inner_end = round_down(end, block_);
        if (inner_begin >= inner_end) return patch(begin, end, [this] { finish(0); });
        below(outer_.op, inner_begin, inner_end, nullptr, [this, begin, end, inner_begin, inner_end] {
            patch(begin, inner_begin, [this, end, inner_end] { patch(inner_end, end, [this] { finish(0); }); });
        });
    }

 private:
    /// Read-modify-write of [begin, end) with the consumer's data, or zeroes.
    void patch(uint64_t begin, uint64_t end, std::function<void()> then) {
        if (begin == end) return then();
        const uint64_t first = round_down(begin, block_), last = round_up(end, block_);
        memory_ = allocate(last - first, block_);
        if (!memory_) return finish(-ENOMEM);
        after_patch_ = std::move(then);
        const bool head = begin != first;
        const bool tail = end != last && (last - first > block_ || !head);
        const auto write = [this, begin, end, first, last] {
            std::byte* const target = memory_.get() + (begin - first);
            if (outer_.op == BlockOp::write) {
                std::memcpy(target, outer_.data + (begin - outer_.offset), end - begin);
            } else {
                std::memset(target, 0, end - begin);
            }
            below(BlockOp::write, first, last, memory_.get(), [this] { std::exchange(after_patch_, nullptr)(); });
        };
        const auto read_tail = [this, tail, first, last, write] {
            if (!tail) return write();
            below(BlockOp::read, last - block_, last, memory_.get() + (last - block_ - first), write);
        };
        if (!head) return read_tail();
        below(BlockOp::read, first, first + block_, memory_.get(), read_tail);
    }

    void below(BlockOp op, uint64_t begin, uint64_t end, std::byte* data, std::function<void()> then) {
        then_ = std::move(then);
        inner_ = BlockRequest{};
        inner_.op = op;
        inner_.fua = outer_.fua && op == BlockOp::write;
        inner_.offset = begin;
        inner_.length = end - begin;
        inner_.data = data;
        inner_.then(
            [](void* context, BlockRequest&, int64_t result) {
                auto& self = *static_cast<UnalignedChange*>(context);
                if (result < 0) return self.finish(result);
                std::exchange(self.then_, nullptr)();
            },
            this);
        layer_.below_.submit(inner_);
    }

    void finish(int64_t result) {
        BlockRequest& outer = outer_;
        const std::unique_ptr<UnalignedChange> self(this);
        outer.finish(result < 0 ? result : static_cast<int64_t>(outer.length));
    }

    AlignmentLayer& layer_;
    BlockRequest& outer_;
    uint32_t block_;
    BlockRequest inner_;
    Memory memory_;
    std::function<void()> then_, after_patch_;
};

bool AlignmentLayer::aligned(const BlockRequest& request) const {
    return ((request.offset | request.length) & (block_bytes_ - 1)) == 0;
}

void AlignmentLayer::submit(BlockRequest& request) {
    if (block_bytes_ == 1 || request.op == BlockOp::flush) return below_.submit(request);
    if (request.op == BlockOp::read) return aligned(request) ? below_.submit(request) : unaligned_read(request);
    if (!aligned(request)) ++unaligned_;
    if (unaligned_ > 0 && must_wait(request, waiting_.size())) {
        waiting_.push_back(&request);
        return;
    }
    start(request);
}

bool AlignmentLayer::conflicts(const BlockRequest& a, const BlockRequest& b) const {
    if (aligned(a) && aligned(b)) return false;
    return round_down(a.offset, block_bytes_) < round_up(b.offset + b.length, block_bytes_) &&
           round_down(b.offset, block_bytes_) < round_up(a.offset + a.length, block_bytes_);
}

bool AlignmentLayer::must_wait(const BlockRequest& request, size_t waiting_before) const {
    for (const BlockRequest* other = active_; other != nullptr; other = other->next) {
        if (conflicts(request, *other)) return true;
    }
    const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(waiting_before);
    return std::any_of(waiting_.begin(), end, [&](const BlockRequest* other) { return conflicts(request, *other); });
}

void AlignmentLayer::start(BlockRequest& request) {
    request.previous = nullptr;
    request.next = active_;
    if (active_ != nullptr) active_->previous = &request;
    active_ = &request;
    request.then(&AlignmentLayer::change_done, this);
    if (aligned(request)) return below_.submit(request);
    (new UnalignedChange(*this, request))->run();
}

void AlignmentLayer::change_done(void* context, BlockRequest& request, int64_t result) {
    auto& layer = *static_cast<AlignmentLayer*>(context);
    if (request.previous != nullptr) request.previous->next = request.next;
    if (request.next != nullptr) request.next->previous = request.previous;
    if (layer.active_ == &request) layer.active_ = request.next;
    if (!layer.aligned(request)) --layer.unaligned_;
    request.finish(result);
    if (!layer.waiting_.empty()) layer.start_waiting();
}

void AlignmentLayer::start_waiting() {
    for (size_t i = 0; i < waiting_.size();) {
        BlockRequest* const request = waiting_[i];
        if (must_wait(*request, i)) {
            ++i;
            continue;
        }
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
        start(*request);
        i = 0;  // a change that ended at once has been here already and moved the others
    }
}

void AlignmentLayer::unaligned_read(BlockRequest& request) {
    auto read = std::make_unique<BouncedRead>();
    const uint64_t first = round_down(request.offset, block_bytes_);
    read->inner.offset = first;
    read->inner.length = round_up(request.offset + request.length, block_bytes_) - first;
    read->memory = allocate(read->inner.length, block_bytes_);
    if (!read->memory) return request.finish(-ENOMEM);
    read->outer = &request;
    read->inner.data = read->memory.get();
    read->inner.then(
        [](void* context, BlockRequest& inner, int64_t result) {
            const std::unique_ptr<BouncedRead> self(static_cast<BouncedRead*>(context));
            BlockRequest& outer = *self->outer;
            if (result < 0) return outer.finish(result);
            std::memcpy(outer.data, self->memory.get() + (outer.offset - inner.offset), outer.length);
            outer.finish(static_cast<int64_t>(outer.length));
        },
        read.get());
    below_.submit(read.release()->inner);
}

}  // namespace storctl::node
