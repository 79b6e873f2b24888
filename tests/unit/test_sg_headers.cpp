// Headers of the SCSI generic protocol: their layouts are the system's, and what is wrong with them is refused.

#include <cstddef>

#include <doctest/doctest.h>

#include "tests/unit/sg_caller.hpp"

using namespace storctl::node;
using namespace storctl::node::sg;
using namespace storctl::node::sg::testing;

// ---- the layouts are the system's

#define SAME_V3(ours, theirs)                                        \
    static_assert(header_v3_64.ours == offsetof(sg_io_hdr, theirs)); \
    static_assert(header_v3_32.ours == offsetof(IoHeader32, theirs))
#define SAME_ANSWER_V3(ours, theirs)                                                    \
    static_assert(header_v3_64.answer + answer_v3.ours == offsetof(sg_io_hdr, theirs)); \
    static_assert(header_v3_32.answer + answer_v3.ours == offsetof(IoHeader32, theirs))
#define SAME_V4(ours, theirs) static_assert(header_v4.ours == offsetof(sg_io_v4, theirs))
#define SAME_ANSWER_V4(ours, theirs) static_assert(header_v4.answer + answer_v4.ours == offsetof(sg_io_v4, theirs))

static_assert(header_v3_64.bytes == sizeof(sg_io_hdr) && header_v3_32.bytes == sizeof(IoHeader32));
static_assert(header_v3_64.bytes == 88 && header_v3_32.bytes == 64);
SAME_V3(interface_id, interface_id);
SAME_V3(direction, dxfer_direction);
SAME_V3(cdb_length, cmd_len);
SAME_V3(sense_room, mx_sb_len);
SAME_V3(segments, iovec_count);
SAME_V3(data_bytes, dxfer_len);
SAME_V3(data, dxferp);
SAME_V3(cdb, cmdp);
SAME_V3(sense, sbp);
SAME_V3(timeout, timeout);
SAME_V3(flags, flags);
SAME_V3(pack_id, pack_id);
SAME_V3(user_pointer, usr_ptr);
SAME_V3(answer, status);
SAME_ANSWER_V3(masked_status, masked_status);
SAME_ANSWER_V3(message_status, msg_status);
SAME_ANSWER_V3(sense_bytes, sb_len_wr);
SAME_ANSWER_V3(host_status, host_status);
SAME_ANSWER_V3(driver_status, driver_status);
SAME_ANSWER_V3(residual, resid);
SAME_ANSWER_V3(duration, duration);
SAME_ANSWER_V3(info, info);
static_assert(answer_v3.bytes == answer_v3.info + sizeof(sg_io_hdr::info));

static_assert(header_v4.bytes == sizeof(sg_io_v4) && header_v4.bytes == 160);
SAME_V4(guard, guard);
SAME_V4(protocol, protocol);
SAME_V4(subprotocol, subprotocol);
SAME_V4(request_bytes, request_len);
SAME_V4(request, request);
SAME_V4(request_extra, request_extra);
SAME_V4(response_room, max_response_len);
SAME_V4(response, response);
SAME_V4(out_segments, dout_iovec_count);
SAME_V4(out_bytes, dout_xfer_len);
SAME_V4(in_segments, din_iovec_count);
SAME_V4(in_bytes, din_xfer_len);
SAME_V4(out, dout_xferp);
SAME_V4(in, din_xferp);
SAME_V4(timeout, timeout);
SAME_V4(flags, flags);
SAME_V4(user_pointer, usr_ptr);
SAME_V4(answer, driver_status);
SAME_ANSWER_V4(transport_status, transport_status);
SAME_ANSWER_V4(device_status, device_status);
SAME_ANSWER_V4(retry_delay, retry_delay);
SAME_ANSWER_V4(info, info);
SAME_ANSWER_V4(duration, duration);
SAME_ANSWER_V4(response_bytes, response_len);
SAME_ANSWER_V4(in_residual, din_resid);
SAME_ANSWER_V4(out_residual, dout_resid);
static_assert(answer_v4.bytes == answer_v4.out_residual + sizeof(sg_io_v4::dout_resid));
static_assert(segment_bytes(Layout::bits64) == sizeof(sg_iovec));

namespace {

Outcome refused(const Command&, std::span<const std::byte>) {
    FAIL("a refused command was carried out");
    return {};
}

}  // namespace

TEST_CASE("headers that the driver refuses are refused the same way") {
    struct Row {
        const char* name;
        std::function<void(Caller&)> before, after;  ///< it is placed
        int v3, v4;
        bool only_scattered = false;
        uint64_t most = 1 << 20;
    };
    const auto nothing = [](Caller&) {};
    const auto wrong_id = [](Caller& one) { one.process.put<int32_t>(one.address(Caller::header_at), 'R'); };
    const auto short_cdb = [](Caller& one) { one.cdb.resize(5); };
    const auto long_cdb = [](Caller& one) { one.cdb.resize(one.form.interface == Interface::v3 ? 253 : 261); };
    const auto long_list = [](Caller& one) { one.pieces.assign(most_segments + 1, 4); };
    const auto empty_list = [](Caller& one) { one.pieces = {0, 0}; };
    const auto negative_length = [](Caller& one) {
        one.process.memory[Caller::list_at + segment_bytes(one.form.layout) - 1] = std::byte{0x80};
    };
    const auto to_device = [](Caller& one) { one.direction = SG_DXFER_TO_DEV; };
    const auto no_data = [](Caller& one) {
        const bool v3 = one.form.interface == Interface::v3;
        put_pointer(one, v3 ? header_v3(one.form.layout).data : header_v4.out, 0);
    };
    const auto no_cdb = [](Caller& one) {
        const bool v3 = one.form.interface == Interface::v3;
        put_pointer(one, v3 ? header_v3(one.form.layout).cdb : header_v4.request, 0);
    };
    const Row rows[] = {
        {"another interface", nothing, wrong_id, -ENOSYS, -ENOSYS},
        {"a CDB that is too short", short_cdb, nothing, -EMSGSIZE, -EINVAL},
        {"a CDB that is too long", long_cdb, nothing, -EMSGSIZE, -EINVAL},
        {"no CDB", nothing, no_cdb, -EMSGSIZE, -EFAULT},
        {"more data than may be", nothing, nothing, -ENOMEM, -ENOMEM, false, 4095},
        {"a list that is too long", long_list, nothing, -EINVAL, -EINVAL, true},
        {"a list of nothing", empty_list, nothing, -EINVAL, -EINVAL, true},
        {"a segment with a negative length", nothing, negative_length, -EINVAL, -EINVAL, true},
        {"a write from nowhere", to_device, no_data, -EFAULT, -EFAULT},
    };
    for (const auto& row : rows) {
        for (const auto& form : all_forms()) {
            if (row.only_scattered && !form.scattered) continue;
            CAPTURE(row.name);
            CAPTURE(form.text());
            Caller caller(form);
            row.before(caller);
            caller.place();
            row.after(caller);
            const auto memory = caller.process.memory;
            CHECK(send(caller, refused, row.most) == (form.interface == Interface::v3 ? row.v3 : row.v4));
            CHECK(caller.process.memory == memory);
        }
    }
}

TEST_CASE("a header that is not there is a fault") {
    FakeProcess process;
    for (const auto layout : {Layout::bits64, Layout::bits32}) {
        const auto operation = [&](CallerMemory& memory) {
            Command command;
            return fetch(memory, 0x40, layout, 1 << 20, command);
        };
        DirectMemory memory(process);
        CHECK(operation(memory) == -EFAULT);
        CHECK(in_legs(process, operation) == -EFAULT);
    }
}

TEST_CASE("a short header at the end of memory is not read beyond") {
    for (const auto layout : {Layout::bits64, Layout::bits32}) {
        Caller caller({.layout = layout});
        caller.direction = SG_DXFER_NONE;
        caller.place();
        const size_t size = caller.header_bytes(), last = caller.process.memory.size() - size;
        std::copy_n(caller.process.memory.begin() + Caller::header_at, size,
                    caller.process.memory.begin() + static_cast<ptrdiff_t>(last));
        DirectMemory memory(caller.process);
        Command command;
        CHECK(fetch(memory, caller.address(last), layout, 1 << 20, command) == 0);
        caller.process.put<int32_t>(caller.address(last), 'Q');
        CHECK(fetch(memory, caller.address(last), layout, 1 << 20, command) == -EFAULT);
    }
}

TEST_CASE("what only version 3 has is refused there") {
    struct Row {
        const char* name;
        int direction;
        uint32_t flags;
    };
    for (const auto& row : {Row{"memory that would have to be mapped", SG_DXFER_FROM_DEV, 4},
                            Row{"a direction that is none", -6, 0}, Row{"an old direction", 0, 0},
                            Row{"a write of what lies in the driver's buffer", SG_DXFER_TO_DEV, SG_FLAG_NO_DXFER}}) {
        CAPTURE(row.name);
        Caller caller({});
        caller.direction = row.direction;
        caller.flags = row.flags;
        caller.place();
        CHECK(send(caller, refused) == -EINVAL);
    }
}

TEST_CASE("what only version 4 has is refused there") {
    struct Row {
        const char* name;
        void (*change)(sg_io_v4&);
        int expected;
    };
    const Row rows[] = {
        {"task management", [](auto& header) { header.subprotocol = BSG_SUB_PROTOCOL_SCSI_TMF; }, -EINVAL},
        {"another protocol", [](auto& header) { header.protocol = 1; }, -EINVAL},
        {"both ways at once", [](auto& header) { header.dout_xfer_len = 1; }, -EOPNOTSUPP},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        Caller caller({.interface = Interface::v4});
        caller.place();
        auto header = caller.process.get<sg_io_v4>(caller.address(Caller::header_at));
        row.change(header);
        caller.process.put(caller.address(Caller::header_at), header);
        CHECK(send(caller, refused) == row.expected);
    }
}

TEST_CASE("what legs cannot carry is refused before anything happens") {
    Caller caller({.way = Way::legs});
    caller.data_bytes = 131072;
    caller.place();
    CHECK(send(caller, refused) == -ENOMEM);
    caller.data_bytes = 131072 - 20 - 64;
    caller.place();
    const auto sent = pattern(caller.data_bytes);
    CHECK(send(caller, [&](auto&, auto) { return Outcome{.data = sent, .moved = sent.size()}; }) == 0);
    CHECK(caller.data() == sent);
}

TEST_CASE("what is written and is no header is refused") {
    FakeProcess process;
    DirectMemory memory(process);
    Command command;
    CHECK(fetch_written(memory, {}, Layout::bits64, 1 << 20, command) == -EINVAL);
    for (const auto& form : all_forms()) {
        Caller caller(form);
        caller.place();
        const auto header = caller.header();
        CHECK(fetch_written(memory, header.first(header.size() - 1), form.layout, 1 << 20, command) == -EINVAL);
        Bytes other(header.begin(), header.end());
        other[0] = std::byte{36};  // the length that begins a header of version 2
        CHECK(fetch_written(memory, other, form.layout, 1 << 20, command) == -EINVAL);
    }
}
