#include "daemon/node/sg/controls.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string_view>

#include <linux/fs.h>
#include <scsi/sg.h>

#include "daemon/node/sg/header.hpp"

namespace storctl::node::sg {
namespace {

// What neither glibc's headers nor the kernel's exported ones have: include/scsi/sg.h, include/scsi/scsi_ioctl.h and
// include/linux/compat.h of Linux.
constexpr uint32_t get_access_count = 0x2289, get_id_and_lun = 0x5382, probe_host = 0x5385, get_bus_number = 0x5386,
                   get_pci = 0x5387;
constexpr auto size_in_bytes_64 = static_cast<uint32_t>(BLKGETSIZE64), block_size_64 = static_cast<uint32_t>(BLKBSZGET);
constexpr uint32_t size_in_bytes_32 = 0x80041272, block_size_32 = 0x80041270;
constexpr int32_t reset_target = 4, reset_no_escalate = 0x100;

constexpr int32_t driver_version = 30536;
constexpr uint32_t ms_per_tick = 10;  // USER_HZ is 100
constexpr int32_t most_ticks = INT32_MAX / ms_per_tick;
constexpr uint32_t page_bytes = 4096, least_sector = 512;
constexpr int16_t queue_depth = 64;
constexpr std::string_view host_name = "storctl";
constexpr int32_t most_next_cdb = 252;  // SG_MAX_CDB_SIZE

int32_t as_int(uint64_t value) {
    return static_cast<int32_t>(std::min<uint64_t>(value, std::numeric_limits<int32_t>::max()));
}
uint64_t unit_bytes(const UnitFacts& facts) { return facts.blocks * facts.block_bytes; }

/// Announces all of it and then writes it.
int put(CallerMemory& memory, uint64_t address, std::span<const std::byte> bytes) {
    if (const int failed = memory.announce_write(address, bytes.size()); failed != 0) return failed;
    if (const int failed = memory.ready(); failed != 0) return failed;
    return memory.write(address, bytes);
}
template <class T>
int put_value(CallerMemory& memory, uint64_t address, const T& value) {
    return put(memory, address, std::as_bytes(std::span(&value, 1)));
}
/// Reads a value; after that the call may act.
template <class T>
int get_value(CallerMemory& memory, uint64_t address, T& value) {
    if (const int failed = memory.read(address, std::as_writable_bytes(std::span(&value, 1))); failed != 0)
        return failed;
    return memory.ready();
}

int reset_action(int32_t wanted, ControlAction& action) {
    switch (wanted & ~reset_no_escalate) {
        case SG_SCSI_RESET_NOTHING:
            return 0;
        case SG_SCSI_RESET_DEVICE:
        case reset_target:
        case SG_SCSI_RESET_BUS:
        case SG_SCSI_RESET_HOST:
            action = ControlAction::reset_unit;
            return 0;
        default:
            return -EIO;
    }
}

/// Of a header that waits for read(), what a request table shows.
struct Told {
    uint64_t user_pointer = 0;
    uint32_t duration_ms = 0;
};
Told told_of(std::span<const std::byte> header, Layout layout) {
    const auto& v3 = header_v3(layout);
    if (header.size() >= header_v4.bytes && field<int32_t>(header, 0) == interface_v4)
        return {field<uint64_t>(header, header_v4.user_pointer),
                field<uint32_t>(header, header_v4.answer + answer_v4.duration)};
    if (header.size() < v3.bytes) return {};
    return {word(header, v3.user_pointer, layout), field<uint32_t>(header, v3.answer + answer_v3.duration)};
}

}  // namespace

struct Controls::Call {
    uint64_t argument;
    Layout layout;
    const UnitFacts& facts;
    CallerMemory& memory;
    ControlAction& action;
};

/// One of them is there.
struct Controls::Row {
    uint32_t number;
    int32_t (*tells)(const Controls&, const UnitFacts&) = nullptr;  ///< an int
    int (*takes)(Controls&, int32_t, const UnitFacts&) = nullptr;   ///< an int
    int (Controls::*gives)(const Call&) const = nullptr;            ///< a structure
    int (*other)(Controls&, const Call&) = nullptr;
};

const Controls::Row Controls::rows[] = {
    {.number = SG_GET_VERSION_NUM, .tells = [](auto&, auto&) { return driver_version; }},
    {.number = SG_EMULATED_HOST, .tells = [](auto&, auto&) { return 0; }},
    {.number = SG_GET_COMMAND_Q, .tells = [](auto& self, auto&) { return int32_t{self.command_queueing_}; }},
    {.number = SG_GET_KEEP_ORPHAN, .tells = [](auto& self, auto&) { return self.keep_orphan_; }},
    {.number = SG_GET_LOW_DMA, .tells = [](auto&, auto&) { return 0; }},
    {.number = SG_GET_TRANSFORM, .tells = [](auto&, auto&) { return 0; }},
    {.number = get_access_count, .tells = [](auto&, auto&) { return 1; }},
    {.number = SG_GET_RESERVED_SIZE,
     .tells = [](auto& self, auto& facts) { return as_int(self.reserved_bytes(facts)); }},
    {.number = SG_GET_PACK_ID,
     .tells = [](auto& self, auto&) { return self.answers_.empty() ? -1 : self.answers_.front().pack_id; }},
    {.number = SG_GET_NUM_WAITING, .tells = [](auto& self, auto&) { return as_int(self.answers_.size()); }},
    {.number = SG_GET_SG_TABLESIZE,
     .tells = [](auto&, auto& facts) { return as_int(facts.most_data_bytes / page_bytes); }},
    {.number = get_bus_number, .tells = [](auto&, auto& facts) { return int32_t{facts.host_number}; }},
    // of a block device it is the number of sectors in a short; QEMU knows that of sg it is bytes
    {.number = BLKSECTGET, .tells = [](auto&, auto& facts) { return as_int(facts.most_data_bytes); }},
    {.number = BLKSSZGET, .tells = [](auto&, auto& facts) { return as_int(facts.block_bytes); }},
    {.number = BLKPBSZGET, .tells = [](auto&, auto& facts) { return as_int(facts.physical_block_bytes); }},
    {.number = BLKIOMIN, .tells = [](auto&, auto& facts) { return as_int(facts.physical_block_bytes); }},
    {.number = BLKALIGNOFF, .tells = [](auto&, auto&) { return 0; }},
    {.number = BLKROGET, .tells = [](auto&, auto& facts) { return int32_t{facts.read_only}; }},
    {.number = block_size_64, .tells = [](auto&, auto& facts) { return as_int(facts.block_bytes); }},
    {.number = block_size_32, .tells = [](auto&, auto& facts) { return as_int(facts.block_bytes); }},

    {.number = SG_SET_TIMEOUT,
     .takes =
         [](auto& self, int32_t ticks, auto&) {
             if (ticks < 0) return -EIO;
             self.timeout_ms_ = static_cast<uint32_t>(std::min(ticks, most_ticks)) * ms_per_tick;
             return 0;
         }},
    {.number = SG_SET_COMMAND_Q,
     .takes =
         [](auto& self, int32_t on, auto&) {
             self.command_queueing_ = on != 0;
             return 0;
         }},
    {.number = SG_SET_FORCE_PACK_ID,
     .takes =
         [](auto& self, int32_t on, auto&) {
             self.force_pack_id_ = on != 0;
             return 0;
         }},
    {.number = SG_SET_KEEP_ORPHAN,
     .takes =
         [](auto& self, int32_t on, auto&) {
             self.keep_orphan_ = on;
             return 0;
         }},
    {.number = SG_SET_RESERVED_SIZE,
     .takes =
         [](auto& self, int32_t bytes, auto& facts) {
             if (bytes < 0) return -EINVAL;
             self.reserve(static_cast<uint32_t>(bytes), facts);
             return 0;
         }},
    // for headers of version 2, which are not carried
    {.number = SG_NEXT_CMD_LEN,
     .takes = [](auto&, int32_t bytes, auto&) { return bytes > most_next_cdb ? -ENOMEM : 0; }},
    {.number = SG_SET_DEBUG, .takes = [](auto&, int32_t, auto&) { return 0; }},

    {.number = SG_GET_SCSI_ID, .gives = &Controls::put_scsi_id},
    {.number = get_id_and_lun, .gives = &Controls::put_id_and_lun},
    {.number = probe_host, .gives = &Controls::put_host_name},
    {.number = SG_GET_REQUEST_TABLE, .gives = &Controls::put_request_table},

    {.number = SG_GET_TIMEOUT,
     .other = [](auto& self, auto&) { return static_cast<int>(self.timeout_ms_ / ms_per_tick); }},
    {.number = SG_SET_FORCE_LOW_DMA, .other = [](auto&, auto&) { return 0; }},
    {.number = SG_SET_TRANSFORM, .other = [](auto&, auto& call) { return call.argument == 0 ? 0 : -EINVAL; }},
    {.number = get_pci, .other = [](auto&, auto&) { return -ENXIO; }},
    {.number = SG_SCSI_RESET,
     .other =
         [](auto&, auto& call) {
             int32_t wanted = 0;
             if (const int failed = get_value(call.memory, call.argument, wanted); failed != 0) return failed;
             return reset_action(wanted, call.action);
         }},
    {.number = size_in_bytes_64,
     .other = [](auto&, auto& call) { return put_value(call.memory, call.argument, unit_bytes(call.facts)); }},
    {.number = size_in_bytes_32,
     .other = [](auto&, auto& call) { return put_value(call.memory, call.argument, unit_bytes(call.facts)); }},
    {.number = BLKGETSIZE,
     .other =
         [](auto&, auto& call) {
             const uint64_t sectors = unit_bytes(call.facts) / least_sector;
             if (call.layout == Layout::bits64) return put_value(call.memory, call.argument, sectors);
             if (sectors > UINT32_MAX) return -EFBIG;
             return put_value(call.memory, call.argument, static_cast<uint32_t>(sectors));
         }},
    {.number = BLKFLSBUF,
     .other =
         [](auto&, auto& call) {
             call.action = ControlAction::flush;
             return 0;
         }},
};

int Controls::control(uint32_t command, uint64_t argument, Layout layout, const UnitFacts& facts, CallerMemory& memory,
                      ControlAction& action) {
    action = ControlAction::none;
    const auto row =
        std::find_if(std::begin(rows), std::end(rows), [&](const Row& one) { return one.number == command; });
    if (row == std::end(rows)) return -ENOTTY;
    return carry_out(*row, {argument, layout, facts, memory, action});
}

int Controls::carry_out(const Row& row, const Call& call) {
    if (row.tells != nullptr) return put_value(call.memory, call.argument, row.tells(*this, call.facts));
    if (row.gives != nullptr) return (this->*row.gives)(call);
    if (row.other != nullptr) return row.other(*this, call);
    int32_t value = 0;
    if (const int failed = get_value(call.memory, call.argument, value); failed != 0) return failed;
    return row.takes(*this, value, call.facts);
}

uint32_t Controls::reserved_bytes(const UnitFacts& facts) const {
    const uint32_t wanted = reserved_bytes_ != 0 ? reserved_bytes_ : uint32_t{SG_DEF_RESERVED_SIZE};
    return static_cast<uint32_t>(std::min<uint64_t>(wanted, facts.most_data_bytes));
}

void Controls::reserve(uint32_t wanted, const UnitFacts& facts) {
    const uint64_t whole = (uint64_t{wanted} + least_sector - 1) / least_sector * least_sector;
    const uint64_t most = std::max<uint64_t>(facts.most_data_bytes, page_bytes);
    reserved_bytes_ = static_cast<uint32_t>(std::clamp<uint64_t>(whole, page_bytes, most));
}

int Controls::put_scsi_id(const Call& call) const {
    sg_scsi_id id{};  // target 0, LUN 0, a direct access device
    id.host_no = call.facts.host_number;
    id.h_cmd_per_lun = queue_depth;
    id.d_queue_depth = queue_depth;
    return put_value(call.memory, call.argument, id);
}

int Controls::put_id_and_lun(const Call& call) const {
    // id, LUN, channel and host in a byte each; the host's own number
    const std::array<uint32_t, 2> id = {static_cast<uint32_t>(call.facts.host_number) << 24,
                                        static_cast<uint32_t>(call.facts.host_number)};
    return put_value(call.memory, call.argument, id);
}

int Controls::put_host_name(const Call& call) const {
    uint32_t room = 0;
    if (const int failed = call.memory.read(call.argument, std::as_writable_bytes(std::span(&room, 1))); failed != 0)
        return failed;
    std::array<char, host_name.size() + 1> text{};
    std::copy(host_name.begin(), host_name.end(), text.begin());
    const auto bytes = std::as_bytes(std::span(text)).first(std::min<size_t>(room, text.size()));
    const int failed = put(call.memory, call.argument, bytes);
    return failed != 0 ? failed : 1;  // there is a host
}

int Controls::put_request_table(const Call& call) const {
    // struct sg_req_info: what waits for read(), and then what is in flight
    const bool wide = call.layout == Layout::bits64;
    const size_t row_bytes = wide ? sizeof(sg_req_info_t) : 20;
    const size_t duration_at = wide ? 16 : 12;
    constexpr std::byte written{1}, readable{2};
    std::array<std::byte, sizeof(sg_req_info_t) * SG_MAX_QUEUE> table{};
    auto left = std::span(table).first(row_bytes * SG_MAX_QUEUE);
    for (const auto& answer : answers_) {
        if (left.empty()) break;
        left[0] = readable;
        std::memcpy(left.data() + 4, &answer.pack_id, sizeof answer.pack_id);
        const auto told = told_of(answer.header, call.layout);
        std::memcpy(left.data() + 8, &told.user_pointer, duration_at - 8);
        std::memcpy(left.data() + duration_at, &told.duration_ms, sizeof told.duration_ms);
        left = left.subspan(row_bytes);
    }
    for (unsigned i = 0; i < call.facts.in_flight && !left.empty(); ++i) {
        left[0] = written;
        left = left.subspan(row_bytes);
    }
    return put(call.memory, call.argument, std::span(table).first(row_bytes * SG_MAX_QUEUE));
}

std::optional<Controls::Answer> Controls::take(int32_t pack_id) {
    const auto found = std::find_if(answers_.begin(), answers_.end(),
                                    [&](const Answer& one) { return pack_id == -1 || one.pack_id == pack_id; });
    if (found == answers_.end()) return std::nullopt;
    auto answer = std::move(*found);
    answers_.erase(found);
    return answer;
}

}  // namespace storctl::node::sg
