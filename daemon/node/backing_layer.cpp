#include "daemon/node/backing_layer.hpp"

#include <cerrno>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

namespace storctl::node {

void BackingLayer::submit(BlockRequest& request) {
    if (away_) return request.finish(-EIO);
    request.done = &BackingLayer::completed;
    request.backing_layer = this;
    request.transferred = 0;
    ++in_flight_;
    issue(request);
}

void BackingLayer::issue(BlockRequest& request) {
    io_uring_sqe* const sqe = ring_.entry(request);
    const auto fd = static_cast<int>(file_index_);
    const uint64_t offset = request.offset + request.transferred;
    const uint64_t left = request.length - request.transferred;
    void* const memory = request.data + request.transferred;
    switch (request.op) {
        case BlockOp::read:
            io_uring_prep_read(sqe, fd, memory, static_cast<unsigned>(left), offset);
            break;
        case BlockOp::write:
            io_uring_prep_write(sqe, fd, memory, static_cast<unsigned>(left), offset);
            if (request.fua) sqe->rw_flags = RWF_DSYNC;
            break;
        case BlockOp::flush:
            io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
            break;
        case BlockOp::discard:
            io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                                    static_cast<off_t>(left));
            break;
        case BlockOp::write_zeroes:
            io_uring_prep_fallocate(sqe, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                                    static_cast<off_t>(left));
            break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
}

void BackingLayer::completed(IoCompletion& self, int result) {
    auto& request = static_cast<BlockRequest&>(self);
    auto& layer = *static_cast<BackingLayer*>(request.backing_layer);
    if ((result == -EAGAIN || result == -EINTR) && !layer.away_) return layer.issue(request);
    if (result < 0) return layer.finish(request, result);
    const bool transfer = request.op == BlockOp::read || request.op == BlockOp::write;
    if (!transfer) return layer.finish(request, static_cast<int64_t>(request.length));
    request.transferred += static_cast<uint64_t>(result);
    if (request.transferred == request.length) return layer.finish(request, static_cast<int64_t>(request.length));
    // nothing at all inside the node's size: the backing has become shorter than it was
    if (result == 0) return layer.finish(request, -EIO);
    layer.issue(request);
}

void BackingLayer::finish(BlockRequest& request, int64_t result) {
    --in_flight_;
    const bool like_absent = result == -EIO || result == -ENXIO || result == -ENODEV;
    if (like_absent && on_device_error_) on_device_error_(static_cast<int>(-result));
    // a consumer of a disk knows EIO; that the device went away is for the log and `node show`
    request.finish(result == -ENXIO || result == -ENODEV || result == -EAGAIN ? -EIO : result);
}

}  // namespace storctl::node
