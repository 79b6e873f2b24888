#pragma once
// The ioctls beside SG_IO that programs ask an sg node for: sg's own (<scsi/sg.h>, drivers/scsi/sg.c), those of the
// SCSI mid level (<scsi/scsi_ioctl.h>), and those of a block device that QEMU and others try on any disk. One object
// per open; it keeps what they set. Pure; one thread at a time.

#include <cstdint>
#include <optional>
#include <vector>

#include "daemon/node/sg/command.hpp"

namespace storctl::node::sg {

/// Of the disk, now, and for the caller who asks.
struct UnitFacts {
    uint64_t blocks = 0;
    uint32_t block_bytes = 512;
    uint32_t physical_block_bytes = 512;
    bool read_only = false;
    uint64_t most_data_bytes =
        0;                   ///< of one command of this caller: SG_GET_SG_TABLESIZE (pages) and BLKSECTGET (bytes)
    int host_number = 0;     ///< shown by SG_GET_SCSI_ID
    unsigned in_flight = 0;  ///< of this open
};

/// What an ioctl asks the disk to do; done before its answer.
enum class ControlAction : uint8_t { none, reset_unit, flush };

class Controls {
 public:
    /// SG_IO itself is not one of them. Unknown: -ENOTTY. A result of 0 or more is what ioctl(2) returns
    /// (SG_GET_TIMEOUT and SG_EMULATED_HOST tell something by it or by their argument as sg.c does).
    int control(uint32_t command, uint64_t argument, Layout layout, const UnitFacts& facts, CallerMemory& memory,
                ControlAction& action);

    /// SG_SET_FORCE_PACK_ID: read() returns only the answer to the pack id that its buffer names.
    bool force_pack_id() const { return force_pack_id_; }
    uint32_t timeout_ms() const { return timeout_ms_; }

    /// What ioctls have set on a copy of this one; the answers stay.
    void take_settings(const Controls& other) {
        force_pack_id_ = other.force_pack_id_;
        command_queueing_ = other.command_queueing_;
        keep_orphan_ = other.keep_orphan_;
        timeout_ms_ = other.timeout_ms_;
        reserved_bytes_ = other.reserved_bytes_;
    }

    // Answers that wait for read(), oldest first.
    struct Answer {
        int32_t pack_id = 0;
        std::vector<std::byte> header;
    };
    static constexpr size_t most_answers = 16;  ///< SG_MAX_QUEUE; one more command is -EDOM
    bool full() const { return answers_.size() >= most_answers; }
    void keep(Answer answer) { answers_.push_back(std::move(answer)); }
    /// -1: any.
    std::optional<Answer> take(int32_t pack_id);
    bool any() const { return !answers_.empty(); }

 private:
    struct Call;
    struct Row;
    static const Row rows[];

    int carry_out(const Row& row, const Call& call);
    uint32_t reserved_bytes(const UnitFacts& facts) const;
    void reserve(uint32_t wanted, const UnitFacts& facts);
    int put_scsi_id(const Call& call) const;
    int put_id_and_lun(const Call& call) const;
    int put_host_name(const Call& call) const;
    int put_request_table(const Call& call) const;

    bool force_pack_id_ = false;
    bool command_queueing_ = true;
    int32_t keep_orphan_ = 0;
    uint32_t timeout_ms_ = default_timeout_ms;
    uint32_t reserved_bytes_ = 0;  ///< 0: never set
    std::vector<Answer> answers_;
};

}  // namespace storctl::node::sg
