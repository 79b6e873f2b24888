#include "daemon/node/fuse_file.hpp"

#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.hpp"
#include "daemon/node/holder.hpp"
#include "daemon/node/initiator.hpp"

namespace storctl::node {
namespace {

constexpr unsigned most_identifying = 16;
constexpr uint32_t parallel_direct_writes = 1 << 6;  // FOPEN_PARALLEL_DIRECT_WRITES, FUSE 7.38
constexpr uint32_t no_flush = 1 << 5;                // FOPEN_NOFLUSH, FUSE 7.36

}  // namespace

void FuseFile::serve() {
    channel_.serve(
        node_.ring, file_index_, [this](FuseSlot& slot) { handle(slot); }, on_closed_);
}

void FuseFile::handle(FuseSlot& slot) {
    switch (slot.header().opcode) {
        case FUSE_READ:
            return read(slot);
        case FUSE_WRITE:
            return write(slot);
        case FUSE_FSYNC:
            return flush(slot);
        case FUSE_FALLOCATE:
            return allocate(slot);
        case FUSE_OPEN:
            return open(slot);
        case FUSE_RELEASE:
            return release(slot);
        case FUSE_GETATTR:
            return reply_attributes(slot);
        case FUSE_SETATTR:
            return set_attributes(slot);
        case FUSE_STATFS:
            return file_system_status(slot);
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
            return channel_.no_reply(slot);
        // ENOSYS: the kernel does without, and does not ask again (also INTERRUPT: a killed client waits for its disk
        // I/O)
        default:
            return channel_.reply_error(slot, ENOSYS);
    }
}

void FuseFile::submit(FuseSlot& slot, BlockOp op, uint64_t offset, uint64_t length, std::byte* data, bool fua) {
    if (op != BlockOp::flush && node_.unit.reserved() && refused(slot, op)) return channel_.reply_error(slot, EBADE);
    node_.stats.of(op).begin();
    slot.started_ns = node_.ring.turn_time_ns();
    BlockRequest& request = slot.block;
    request.op = op;
    request.fua = fua;
    request.offset = offset;
    request.length = length;
    request.data = data;
    request.then(&FuseFile::block_done, &slot);
    slot.front_end = this;
    if (enters_ && op != BlockOp::flush && !enter(slot)) return;
    node_.top.submit(request);
}

/// Whose open it is has its place in the reservation; an open that we have no name for has none.
bool FuseFile::refused(FuseSlot& slot, BlockOp op) const {
    const auto handle = slot.body<fuse_read_in>().fh;  // the first member of every structure with a handle
    const auto found = nexuses_.find(handle);
    return node_.unit.refuses(found == nexuses_.end() ? nullptr : found->second.get(), changes_data(op));
}

/// False: it goes on by `entered`.
bool FuseFile::enter(FuseSlot& slot) {
    const uint32_t block_bytes = node_.block_bytes;
    slot.blocks.first = slot.block.offset / block_bytes;
    slot.blocks.end = (slot.block.offset + slot.block.length + block_bytes - 1) / block_bytes;
    slot.blocks.owner = &slot;
    slot.blocks.granted = &FuseFile::entered;
    return node_.unit.enter(slot.blocks);
}

/// Called on whichever thread the way was cleared.
void FuseFile::entered(scsi::RangeLocks::Hold& hold) {
    auto& slot = *static_cast<FuseSlot*>(hold.owner);
    auto& self = *static_cast<FuseFile*>(slot.front_end);
    self.node_.ring.post([&self, &slot] {
        // what it waited for may have been the reservation that keeps it out
        const BlockOp op = slot.block.op;
        if (self.node_.unit.reserved() && self.refused(slot, op)) return slot.block.finish(-EBADE);
        self.node_.top.submit(slot.block);
    });
}

void FuseFile::block_done(void* context, BlockRequest& request, int64_t result) {
    auto& slot = *static_cast<FuseSlot*>(context);
    auto& self = *static_cast<FuseFile*>(slot.front_end);
    const uint64_t took = self.node_.ring.turn_time_ns() - slot.started_ns;
    self.node_.stats.of(request.op).end(result, request.length, took);
    if (self.enters_ && request.op != BlockOp::flush) self.node_.unit.leave(slot.blocks);
    if (result < 0) return self.channel_.reply_error(slot, static_cast<int>(-result));
    switch (request.op) {
        case BlockOp::read:
            return self.channel_.reply_data(slot, request.data, request.length);
        case BlockOp::write:
            return self.channel_.reply(slot,
                                       fuse_write_out{.size = static_cast<uint32_t>(request.length), .padding = 0});
        case BlockOp::flush:
        case BlockOp::discard:
        case BlockOp::write_zeroes:
            return self.channel_.reply_error(slot, 0);
    }
}

void FuseFile::read(FuseSlot& slot) {
    const auto in = slot.body<fuse_read_in>();
    const uint64_t end =
        std::min<uint64_t>(in.offset + std::min<uint64_t>(in.size, fuse_max_transfer_bytes), node_.size_bytes);
    if (in.offset >= end) return channel_.reply_data(slot, slot.data, 0);
    submit(slot, BlockOp::read, in.offset, end - in.offset, slot.data, false);
}

void FuseFile::write(FuseSlot& slot) {
    const auto in = slot.body<fuse_write_in>();
    const size_t payload = slot.received - std::min(slot.received, slot.head.size());
    if (in.size > payload) return channel_.reply_error(slot, EIO);
    if (in.size == 0) return channel_.reply(slot, fuse_write_out{});
    if (in.offset >= node_.size_bytes) return channel_.reply_error(slot, ENOSPC);
    const uint64_t length = std::min<uint64_t>(in.size, node_.size_bytes - in.offset);
    submit(slot, BlockOp::write, in.offset, length, slot.data, (in.flags & O_DSYNC) != 0);
}

void FuseFile::flush(FuseSlot& slot) { submit(slot, BlockOp::flush, 0, 0, nullptr, false); }

void FuseFile::allocate(FuseSlot& slot) {
    const auto in = slot.body<fuse_fallocate_in>();
    if (in.length == 0 || in.offset + in.length < in.offset) return channel_.reply_error(slot, EINVAL);
    const uint32_t mode = in.mode & ~static_cast<uint32_t>(FALLOC_FL_KEEP_SIZE);
    const bool keeps_size = (in.mode & FALLOC_FL_KEEP_SIZE) != 0;
    if (!keeps_size && in.offset + in.length > node_.size_bytes) return channel_.reply_error(slot, ENOSPC);
    const uint64_t end = std::min(in.offset + in.length, node_.size_bytes);
    if (mode == FALLOC_FL_PUNCH_HOLE || mode == FALLOC_FL_ZERO_RANGE) {
        if (in.offset >= end) return channel_.reply_error(slot, 0);
        const BlockOp op = mode == FALLOC_FL_PUNCH_HOLE ? BlockOp::discard : BlockOp::write_zeroes;
        return submit(slot, op, in.offset, end - in.offset, nullptr, false);
    }
    // plain allocation: a disk has its space
    channel_.reply_error(slot, mode == 0 ? 0 : EOPNOTSUPP);
}

void FuseFile::open(FuseSlot& slot) {
    const auto in = slot.body<fuse_open_in>();
    Opener opener = identify_holder(static_cast<int>(slot.header().pid));
    opener.writes = (in.flags & O_ACCMODE) != O_RDONLY;
    const Opener asking = opener;
    const OpenDecision decision = node_.opens.open(std::move(opener));
    switch (decision.verdict) {
        case OpenVerdict::granted:
            break;
        case OpenVerdict::read_only:
            node_.stats.refused_opens.add(1);
            return channel_.reply_error(slot, EROFS);
        case OpenVerdict::closed:
            node_.stats.refused_opens.add(1);
            return channel_.reply_error(slot, ENXIO);
        case OpenVerdict::busy:
            node_.stats.refused_opens.add(1);
            log::notice("node {}: '{}' (pid {}) may not open it for writing: '{}' (pid {}) writes since {}", node_.name,
                        asking.program, asking.pid, decision.blocker->program, decision.blocker->pid,
                        format_time(decision.blocker->since));
            return channel_.reply_error(slot, EBUSY);
    }
    node_.on_opens_changed();
    // Who it is stands in the process's own memory, and to read that may take as long as this node takes for what the
    // process is just having brought in: not on this thread.
    if (identifying_->fetch_add(1) >= most_identifying) {
        identifying_->fetch_sub(1);
        log::warning("node {}: '{}' (pid {}) has no part in reservations: too many are being looked at", node_.name,
                     asking.program, asking.pid);
        return opened(slot, decision.handle);
    }
    const auto identify = [this, count = identifying_, &slot, asking, handle = decision.handle] {
        auto nexus = node_.unit.attach(initiator_of(asking.pid, node_.host));
        count->fetch_sub(1);
        if (!nexus) {
            log::warning("node {}: '{}' (pid {}) has no part in reservations: {}", node_.name, asking.program,
                         asking.pid, nexus.error().message());
        }
        node_.ring.post([this, &slot, handle, nexus = nexus ? *std::move(nexus) : nullptr] {
            if (nexus != nullptr) nexuses_[handle] = nexus;
            opened(slot, handle);
        });
    };
    try {
        std::thread(identify).detach();
    } catch (const std::system_error&) {
        identifying_->fetch_sub(1);
        opened(slot, decision.handle);  // too many threads: without a part in reservations
    }
}

void FuseFile::opened(FuseSlot& slot, uint64_t handle) {
    channel_.reply(
        slot,
        fuse_open_out{.fh = handle, .open_flags = FOPEN_DIRECT_IO | parallel_direct_writes | no_flush, .padding = 0});
}

void FuseFile::release(FuseSlot& slot) {
    const uint64_t handle = slot.body<fuse_release_in>().fh;
    node_.opens.release(handle);
    nexuses_.erase(handle);
    node_.on_opens_changed();
    channel_.reply_error(slot, 0);
}

void FuseFile::reply_attributes(FuseSlot& slot) {
    fuse_attr_out out{};
    out.attr.ino = FUSE_ROOT_ID;
    out.attr.size = node_.size_bytes;
    out.attr.blocks = node_.size_bytes / 512;
    out.attr.mode = S_IFREG | (node_.read_only ? ownership_.mode & ~0222U : ownership_.mode);
    out.attr.nlink = 1;
    out.attr.uid = ownership_.uid;
    out.attr.gid = ownership_.gid;
    out.attr.blksize = 4096;
    channel_.reply(slot,
                   out);  // valid for no time: the size may change, and nothing on the I/O path asks for attributes
}

/// Owner and mode are kept while the node runs (libvirt gives an image to its QEMU's user at each start); times are
/// ignored.
void FuseFile::set_attributes(FuseSlot& slot) {
    const auto in = slot.body<fuse_setattr_in>();
    const bool open_with_o_trunc = (in.valid & FATTR_FH) == 0 && in.size == 0;
    if ((in.valid & FATTR_SIZE) != 0 && in.size != node_.size_bytes && !open_with_o_trunc) {
        return channel_.reply_error(slot, EINVAL);
    }
    if ((in.valid & FATTR_UID) != 0) ownership_.uid = in.uid;
    if ((in.valid & FATTR_GID) != 0) ownership_.gid = in.gid;
    if ((in.valid & FATTR_MODE) != 0) ownership_.mode = in.mode & 0777;
    reply_attributes(slot);
}

void FuseFile::file_system_status(FuseSlot& slot) {
    fuse_statfs_out out{};
    out.st.bsize = out.st.frsize = 4096;
    out.st.blocks = node_.size_bytes / 4096;
    out.st.files = 1;
    out.st.namelen = 255;
    channel_.reply(slot, out);
}

}  // namespace storctl::node
