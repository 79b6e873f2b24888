#pragma once
// A process that sends SCSI commands to an sg node: its headers, in both interfaces and layouts, and the memory that
// they name.

#include <array>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include <linux/bsg.h>
#include <scsi/sg.h>

#include "daemon/node/sg/command.hpp"
#include "daemon/node/sg/header.hpp"
#include "tests/unit/fake_caller.hpp"

namespace storctl::node::sg::testing {

using node::testing::DirectMemory;
using node::testing::FakeProcess;
using node::testing::in_legs;

enum class Way : uint8_t { direct, legs };

/// What a 32-bit program is compiled with.
struct IoHeader32 {
    int32_t interface_id, dxfer_direction;
    uint8_t cmd_len, mx_sb_len;
    uint16_t iovec_count;
    uint32_t dxfer_len, dxferp, cmdp, sbp, timeout, flags;
    int32_t pack_id;
    uint32_t usr_ptr;
    uint8_t status, masked_status, msg_status, sb_len_wr;
    uint16_t host_status, driver_status;
    int32_t resid;
    uint32_t duration, info;
};

struct Form {
    Interface interface = Interface::v3;
    Layout layout = Layout::bits64;
    Way way = Way::direct;
    bool scattered = false;

    std::string text() const {
        return std::string(interface == Interface::v3 ? "v3" : "v4") +
               (layout == Layout::bits64 ? ", 64 bits" : ", 32 bits") +
               (way == Way::direct ? ", direct" : ", in legs") + (scattered ? ", scattered" : "");
    }
};
inline std::vector<Form> all_forms() {
    std::vector<Form> out;
    for (const auto interface : {Interface::v3, Interface::v4}) {
        for (const auto layout : {Layout::bits64, Layout::bits32}) {
            for (const auto way : {Way::direct, Way::legs}) {
                for (const bool scattered : {false, true}) out.push_back({interface, layout, way, scattered});
            }
        }
    }
    return out;
}

/// The answer, whatever header it came in.
struct Told {
    uint32_t status = 0, host_status = 0, driver_status = 0, sense_bytes = 0, duration = 0, info = 0;
    int32_t residual = 0;
};

class Caller {
 public:
    static constexpr size_t header_at = 0x100, cdb_at = 0x400, sense_at = 0x800, list_at = 0x2000, data_at = 0x10000;
    static constexpr size_t gap = 7;  ///< between the segments of a scattered buffer

    explicit Caller(Form wanted) : form(wanted) {
        // so that what is written to by mistake is seen
        for (size_t i = 0; i < process.memory.size(); ++i)
            process.memory[i] = static_cast<std::byte>(i * 31 + (i >> 8));
    }

    uint64_t address(size_t offset) const {
        return offset + (form.layout == Layout::bits64 ? FakeProcess::base : FakeProcess::base_32);
    }

    // what the header is going to say
    int direction = SG_DXFER_FROM_DEV;
    std::vector<uint8_t> cdb = {0x28, 0, 0, 0, 0, 9, 0, 0, 8, 0};
    uint32_t data_bytes = 4096;
    std::vector<size_t> pieces = {1, 1000, 3095, 100};  ///< of a scattered buffer; the last is more than there are data
    uint32_t sense_room = 64;
    uint32_t timeout_ms = 0, flags = 0;
    int32_t pack_id = 77;
    uint64_t user_pointer = 0x12345678;

    Form form;
    FakeProcess process;

    size_t header_bytes() const {
        if (form.interface == Interface::v4) return sizeof(sg_io_v4);
        return form.layout == Layout::bits64 ? sizeof(sg_io_hdr) : sizeof(IoHeader32);
    }

    void place() {
        std::copy(cdb.begin(), cdb.end(), reinterpret_cast<uint8_t*>(process.memory.data() + cdb_at));
        uint32_t segments = 0;
        if (form.scattered) segments = place_list();
        const uint64_t data = address(form.scattered ? list_at : data_at);
        if (form.interface == Interface::v4) {
            place_v4(data, segments);
        } else if (form.layout == Layout::bits64) {
            sg_io_hdr header = filled<sg_io_hdr>(segments);
            header.dxferp = reinterpret_cast<void*>(data);
            header.cmdp = reinterpret_cast<unsigned char*>(address(cdb_at));
            header.sbp = reinterpret_cast<unsigned char*>(address(sense_at));
            header.usr_ptr = reinterpret_cast<void*>(user_pointer);
            process.put(address(header_at), header);
        } else {
            auto header = filled<IoHeader32>(segments);
            header.dxferp = static_cast<uint32_t>(data);
            header.cmdp = static_cast<uint32_t>(address(cdb_at));
            header.sbp = static_cast<uint32_t>(address(sense_at));
            header.usr_ptr = static_cast<uint32_t>(user_pointer);
            process.put(address(header_at), header);
        }
    }

    std::span<const std::byte> header() const { return std::span(process.memory).subspan(header_at, header_bytes()); }

    Told told() const { return told(header()); }
    Told told(std::span<const std::byte> bytes) const {
        if (form.interface == Interface::v4) {
            const auto one = as<sg_io_v4>(bytes);
            return {.status = one.device_status,
                    .host_status = one.transport_status,
                    .driver_status = one.driver_status,
                    .sense_bytes = one.response_len,
                    .duration = one.duration,
                    .info = one.info,
                    .residual = direction == SG_DXFER_TO_DEV ? one.dout_resid : one.din_resid};
        }
        return form.layout == Layout::bits64 ? told_v3(as<sg_io_hdr>(bytes)) : told_v3(as<IoHeader32>(bytes));
    }

    /// The caller's buffer, its segments put together.
    std::vector<std::byte> data() const {
        std::vector<std::byte> out;
        for (const auto& [offset, length] : data_places()) {
            const auto from = std::span(process.memory).subspan(offset, length);
            out.insert(out.end(), from.begin(), from.end());
        }
        return out;
    }
    /// {offset in memory, length}, no more than the header's length.
    std::vector<std::pair<size_t, size_t>> data_places() const {
        if (!form.scattered) return {{data_at, data_bytes}};
        std::vector<std::pair<size_t, size_t>> out;
        size_t offset = data_at, left = data_bytes;
        for (const size_t piece : pieces) {
            const size_t length = std::min(piece, left);
            if (length > 0) out.emplace_back(offset, length);
            left -= length;
            offset += piece + gap;
        }
        return out;
    }

 private:
    template <class T>
    static T as(std::span<const std::byte> bytes) {
        T out;
        std::memcpy(&out, bytes.first(sizeof out).data(), sizeof out);
        return out;
    }
    template <class T>
    static Told told_v3(const T& one) {
        return {.status = one.status,
                .host_status = one.host_status,
                .driver_status = one.driver_status,
                .sense_bytes = one.sb_len_wr,
                .duration = one.duration,
                .info = one.info,
                .residual = one.resid};
    }
    template <class T>
    T filled(uint32_t segments) const {
        T header;
        std::memset(&header, 0xa5, sizeof header);
        header.interface_id = 'S';
        header.dxfer_direction = direction;
        header.cmd_len = static_cast<uint8_t>(cdb.size());
        header.mx_sb_len = static_cast<uint8_t>(sense_room);
        header.iovec_count = static_cast<uint16_t>(segments);
        header.dxfer_len = data_bytes;
        header.timeout = timeout_ms;
        header.flags = flags;
        header.pack_id = pack_id;
        return header;
    }
    void place_v4(uint64_t data, uint32_t segments) {
        sg_io_v4 header;
        std::memset(&header, 0xa5, sizeof header);
        header.guard = 'Q';
        header.protocol = header.subprotocol = 0;
        header.request_len = static_cast<uint32_t>(cdb.size());
        header.request = address(cdb_at);
        header.request_extra = static_cast<uint32_t>(pack_id);
        header.max_response_len = sense_room;
        header.response = address(sense_at);
        const bool out = direction == SG_DXFER_TO_DEV, none = direction == SG_DXFER_NONE;
        header.dout_iovec_count = out ? segments : 0;
        header.dout_xfer_len = out ? data_bytes : 0;
        header.dout_xferp = out ? data : 0;
        header.din_iovec_count = out || none ? 0 : segments;
        header.din_xfer_len = out || none ? 0 : data_bytes;
        header.din_xferp = out || none ? 0 : data;
        header.timeout = timeout_ms;
        header.flags = flags;
        header.usr_ptr = user_pointer;
        process.put(address(header_at), header);
    }
    uint32_t place_list() {
        const size_t width = form.layout == Layout::bits64 ? 8 : 4;
        size_t at = list_at, offset = data_at;
        for (const size_t piece : pieces) {
            const uint64_t start = address(offset), length = piece;
            std::memcpy(process.memory.data() + at, &start, width);
            std::memcpy(process.memory.data() + at + width, &length, width);
            at += 2 * width;
            offset += piece + gap;
        }
        return static_cast<uint32_t>(pieces.size());
    }
};

using Bytes = std::vector<std::byte>;

inline Bytes pattern(size_t size) {
    Bytes out(size);
    for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 7 + 3);
    return out;
}
inline void put_pointer(Caller& caller, size_t at, uint64_t value) {
    const bool wide = caller.form.interface == Interface::v4 || caller.form.layout == Layout::bits64;
    std::memcpy(caller.process.memory.data() + Caller::header_at + at, &value, wide ? 8 : 4);
}

/// What a node does with SG_IO: `act` gets the command and its data-out once, and says what became of it.
using Act = std::function<Outcome(const Command&, std::span<const std::byte>)>;
inline int send(Caller& caller, const Act& act, uint64_t most_data_bytes = 1 << 20, int* legs = nullptr) {
    const auto operation = [&](CallerMemory& memory) {
        Command command;
        if (const int failed =
                fetch(memory, caller.address(Caller::header_at), caller.form.layout, most_data_bytes, command);
            failed != 0)
            return failed;
        std::vector<std::byte> data(command.direction == Direction::to_device ? command.data_bytes : 0);
        if (const int failed = fetch_data(memory, command, data); failed != 0) return failed;
        if (const int failed = announce(memory, command); failed != 0) return failed;
        return give(memory, command, act(command, data));
    };
    if (caller.form.way == Way::legs) return in_legs(caller.process, operation, legs);
    DirectMemory memory(caller.process);
    return operation(memory);
}

}  // namespace storctl::node::sg::testing
