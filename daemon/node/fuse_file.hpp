#pragma once
// The FUSE file of a node: what each operation on a file means for a disk. Reactor thread only.
//
// A disk has a fixed size: O_TRUNC is ignored, as on a block device; ftruncate to another size is EINVAL; writing
// behind the end is ENOSPC. Nothing is cached in the kernel (FOPEN_DIRECT_IO), so O_DSYNC and RWF_DSYNC arrive only in
// a write's flags.
//
// What is reserved for others by SCSI (daemon/node/scsi_unit.hpp) fails with EBADE, as on a block device of the kernel.
// While SCSI commands may come, each request enters its blocks.

#include <atomic>
#include <map>
#include <memory>

#include "daemon/node/front_end.hpp"
#include "daemon/node/fuse_channel.hpp"

namespace storctl::node {

class FuseFile : public FrontEnd {
 public:
    FuseFile(NodeContext& context, FuseChannel& channel, unsigned file_index, std::function<void()> on_closed)
        : node_(context),
          channel_(channel),
          file_index_(file_index),
          on_closed_(std::move(on_closed)),
          enters_(context.unit.commands_expected()) {}

    void serve() override;
    void stop_receiving() override { channel_.stop_receiving(); }
    size_t in_flight() const override { return channel_.in_flight(); }
    void restart_receiving() override { channel_.restart_receiving(); }
    void size_changed() override { channel_.notify_attributes_changed(); }

 private:
    struct Ownership {
        uint32_t uid = 0, gid = 0, mode = 0600;
    };

    void handle(FuseSlot& slot);
    void read(FuseSlot& slot);
    void write(FuseSlot& slot);
    void flush(FuseSlot& slot);
    void allocate(FuseSlot& slot);
    void open(FuseSlot& slot);
    void opened(FuseSlot& slot, uint64_t handle);
    void release(FuseSlot& slot);
    void set_attributes(FuseSlot& slot);
    void file_system_status(FuseSlot& slot);
    void submit(FuseSlot& slot, BlockOp op, uint64_t offset, uint64_t length, std::byte* data, bool fua);
    bool refused(FuseSlot& slot, BlockOp op) const;
    bool enter(FuseSlot& slot);
    static void entered(scsi::RangeLocks::Hold& hold);
    static void block_done(void* context, BlockRequest& request, int64_t result);
    void reply_attributes(FuseSlot& slot);

    NodeContext& node_;
    FuseChannel& channel_;
    unsigned file_index_;
    std::function<void()> on_closed_;
    Ownership ownership_;
    std::map<uint64_t, std::shared_ptr<scsi::Nexus>> nexuses_;  // by the open's handle
    std::shared_ptr<std::atomic<unsigned>> identifying_ = std::make_shared<std::atomic<unsigned>>(0);
    const bool enters_;
};

}  // namespace storctl::node
