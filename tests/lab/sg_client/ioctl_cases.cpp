// The ioctls beside SG_IO: what a node answers, for a comparison of two nodes' answers, and what is wrong with any.
#include <array>
#include <bit>

#include <fmt/format.h>
#include <linux/fs.h>
#include <scsi/scsi.h>
#include <scsi/scsi_ioctl.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

struct Asked {
    const char* name;
    unsigned long command;
    size_t bytes;
};

constexpr unsigned long get_pci = 0x5387;  // SCSI_IOCTL_GET_PCI, <scsi/scsi_ioctl.h> of the kernel

constexpr auto numbers = std::to_array<Asked>({
    {"SG_GET_VERSION_NUM", SG_GET_VERSION_NUM, sizeof(int)},
    {"SG_EMULATED_HOST", SG_EMULATED_HOST, sizeof(int)},
    {"SG_GET_RESERVED_SIZE", SG_GET_RESERVED_SIZE, sizeof(int)},
    {"SG_GET_SG_TABLESIZE", SG_GET_SG_TABLESIZE, sizeof(int)},
    {"SG_GET_COMMAND_Q", SG_GET_COMMAND_Q, sizeof(int)},
    {"SG_GET_LOW_DMA", SG_GET_LOW_DMA, sizeof(int)},
    {"SG_GET_PACK_ID", SG_GET_PACK_ID, sizeof(int)},
    {"SG_GET_NUM_WAITING", SG_GET_NUM_WAITING, sizeof(int)},
    {"SG_GET_KEEP_ORPHAN", SG_GET_KEEP_ORPHAN, sizeof(int)},
    {"SG_GET_TRANSFORM", SG_GET_TRANSFORM, sizeof(int)},
    {"SCSI_IOCTL_GET_BUS_NUMBER", SCSI_IOCTL_GET_BUS_NUMBER, sizeof(int)},
    {"BLKSECTGET", BLKSECTGET, sizeof(int)},
    {"BLKSSZGET", BLKSSZGET, sizeof(int)},
    {"BLKPBSZGET", BLKPBSZGET, sizeof(int)},
    {"BLKROGET", BLKROGET, sizeof(int)},
    {"BLKGETSIZE64", BLKGETSIZE64, sizeof(uint64_t)},
});

void ask(const SgNode& node, const Asked& asked) {
    GuardedBuffer buffer(64);
    const auto data = buffer.use(asked.bytes, 32, std::byte{0});
    const long result = node.call(asked.command, data.data());
    uint64_t value = 0;
    for (size_t i = data.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(data[i]);
    if (!buffer.intact()) expect(asked.name, "memory around the argument written", "untouched");
    report(asked.name, result < 0 ? outcome(result) : fmt::format("{}, {}", result, value));
}

/// Set, then asked for.
void set(const SgNode& node, const char* name, unsigned long setter, unsigned long getter, int value) {
    int argument = value, now = -1;
    const long result = node.call(setter, &argument);
    node.call(getter, &now);
    report(name, fmt::format("{}: {} then {}", value, outcome(result), now));
}

void unreachable(const SgNode& node) {
    for (const Asked& asked : numbers)
        report(fmt::format("{} to nowhere", asked.name), outcome(node.call(asked.command, untouchable_page())));
    report("SG_SET_TIMEOUT from nowhere", outcome(node.call(SG_SET_TIMEOUT, untouchable_page())));
    report("SG_GET_SCSI_ID to nowhere", outcome(node.call(SG_GET_SCSI_ID, untouchable_page())));
}

}  // namespace

void ioctl_cases(const std::string& path) {
    const SgNode node(path);
    for (const Asked& asked : numbers) ask(node, asked);
    report("SG_GET_TIMEOUT", outcome(node.call(SG_GET_TIMEOUT, nullptr)));
    int timeout = 4200;
    report("SG_SET_TIMEOUT", outcome(node.call(SG_SET_TIMEOUT, &timeout)));
    report("SG_GET_TIMEOUT then", outcome(node.call(SG_GET_TIMEOUT, nullptr)));
    set(node, "SG_SET_RESERVED_SIZE", SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, 65536);
    set(node, "SG_SET_RESERVED_SIZE none", SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, 0);
    set(node, "SG_SET_RESERVED_SIZE negative", SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, -1);
    set(node, "SG_SET_COMMAND_Q", SG_SET_COMMAND_Q, SG_GET_COMMAND_Q, 1);
    set(node, "SG_SET_KEEP_ORPHAN", SG_SET_KEEP_ORPHAN, SG_GET_KEEP_ORPHAN, 1);
    sg_scsi_id id{};
    const long identified = node.call(SG_GET_SCSI_ID, &id);
    report("SG_GET_SCSI_ID", fmt::format("{}, type {}, lun {}", outcome(identified), id.scsi_type, id.lun));
    std::array<sg_req_info, SG_MAX_QUEUE> table{};
    report("SG_GET_REQUEST_TABLE", fmt::format("{}, first {}", outcome(node.call(SG_GET_REQUEST_TABLE, table.data())),
                                               int{table[0].req_state}));
    std::array<uint32_t, 2> idlun{};
    report("SCSI_IOCTL_GET_IDLUN", outcome(node.call(SCSI_IOCTL_GET_IDLUN, idlun.data())));
    int nothing = SG_SCSI_RESET_NOTHING;
    report("SG_SCSI_RESET nothing", outcome(node.call(SG_SCSI_RESET, &nothing)));
    report("SCSI_IOCTL_GET_PCI", outcome(node.call(get_pci, untouchable_page())));
    report("unknown of sg", outcome(node.call(0x22f0, nullptr)));
    report("unknown", outcome(node.call(0x4c99, nullptr)));
    unreachable(node);
}

}  // namespace storctl::sg_client
