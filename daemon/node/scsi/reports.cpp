#include "daemon/node/scsi/reports.hpp"

#include <algorithm>
#include <limits>

#include "daemon/node/scsi/commands.hpp"

namespace storctl::node::scsi {

namespace {

constexpr size_t timeouts_bytes = 12;

void append_timeouts(Bytes& out, const CommandRow& row, const Limits& limits) {
    append_be(out, timeouts_bytes - 2, 2);
    append_be(out, 0, 2);
    append_be(out, 0, 4);  // nominal: not known
    append_be(out, row.touches_medium ? limits.timeout_seconds : 0, 4);
}

Bytes all_codes(const Geometry& geometry, const Limits& limits, bool timeouts) {
    Bytes out(4);
    for (const auto& row : all_commands()) {
        if (!offered(row, geometry)) continue;
        out.push_back(row.opcode);
        out.push_back(0);
        append_be(out, row.service_action.value_or(0), 2);
        out.push_back(0);
        out.push_back(static_cast<uint8_t>((timeouts ? 0x02 : 0) | (row.service_action ? 0x01 : 0)));  // CTDP, SERVACTV
        append_be(out, row.length, 2);
        if (timeouts) append_timeouts(out, row, limits);
    }
    put_be(out, 0, out.size() - 4, 4);
    return out;
}

Bytes one_code(const CommandRow* row, const Limits& limits, bool timeouts) {
    if (row == nullptr) return {0, 0x01, 0, 0};
    Bytes out = {0, static_cast<uint8_t>((timeouts ? 0x80 : 0) | 0x03), 0, row->length};  // CTDP, SUPPORT 011b
    append(out, ByteView(row->usage).first(row->length));
    if (timeouts) append_timeouts(out, *row, limits);
    return out;
}

constexpr uint8_t log_supported = 0x00, log_exceptions = 0x2f, log_all_subpages = 0xff;

}  // namespace

Reply report_luns(ByteView cdb) {
    const uint8_t select = cdb[2];
    if (get_be32(cdb, 6) < 16) return invalid_field_in_cdb(6);
    Bytes out(8);
    switch (select) {
        case 0x00:  // logical units
        case 0x02:  // all of them
            append_be(out, 0, 8);
            break;
        case 0x01:
            break;  // well known ones: none
        default:
            return invalid_field_in_cdb(2);
    }
    put_be(out, 0, out.size() - 8, 4);
    return out;
}

Reply report_supported_operation_codes(const Geometry& geometry, const Limits& limits, ByteView cdb) {
    const bool timeouts = (cdb[2] & 0x80) != 0;  // RCTD
    const uint8_t option = cdb[2] & 0x07, opcode = cdb[3];
    const uint16_t service_action = get_be16(cdb, 4);
    const bool has_actions = opcode_has_service_actions(opcode);
    const auto find = [&]() -> const CommandRow* {
        if (service_action > 0x1f) return nullptr;
        const std::array<uint8_t, 2> asked = {opcode, static_cast<uint8_t>(service_action)};
        return find_command(asked, geometry).row;
    };
    switch (option) {
        case 0:
            return all_codes(geometry, limits, timeouts);
        case 1:
            if (has_actions) return invalid_field_in_cdb(2, 2);
            return one_code(find_command(ByteView(&opcode, 1), geometry).row, limits, timeouts);
        case 2:
            if (!has_actions && find_command(ByteView(&opcode, 1), geometry).row != nullptr)
                return invalid_field_in_cdb(2, 2);
            return one_code(find(), limits, timeouts);
        case 3:
            return one_code(has_actions || service_action == 0 ? find() : nullptr, limits, timeouts);
        default:
            return invalid_field_in_cdb(2, 2);
    }
}

Reply report_supported_task_management_functions(ByteView cdb) {
    const bool extended = (cdb[2] & 0x80) != 0;  // REPD
    if (get_be32(cdb, 6) < 4) return invalid_field_in_cdb(6);
    Bytes out(extended ? 16 : 4);
    out[0] = 0x08;  // LURS
    if (extended) out[3] = 0x0c;
    return out;
}

Reply log_sense(AdditionalSense exception, ByteView cdb) {
    const uint8_t control = cdb[2] >> 6, page = cdb[2] & 0x3f, subpage = cdb[3];
    const uint16_t first_parameter = get_be16(cdb, 5);
    if ((cdb[1] & 0x01) != 0) return invalid_field_in_cdb(1, 0);  // SP: nothing can be saved
    Bytes out = {page, 0, 0, 0};
    if (page == log_supported && subpage == 0) {
        append(out, std::array<uint8_t, 2>{log_supported, log_exceptions});
    } else if (page == log_supported && subpage == log_all_subpages) {
        append(out, std::array<uint8_t, 6>{log_supported, 0, log_supported, log_all_subpages, log_exceptions, 0});
    } else if (page == log_exceptions && subpage == 0) {
        if (control != 1) return invalid_field_in_cdb(2, 7);  // cumulative values are all there is
        // Parameter 0: format and linking 11b, 4 bytes: the exception, and a temperature that is not known
        append(out, std::array<uint8_t, 4>{0, 0, 0x03, 4});
        append_be(out, static_cast<uint16_t>(exception), 2);
        append(out, std::array<uint8_t, 2>{0xff, 0xff});
    } else {
        const bool known_page = page == log_supported || page == log_exceptions;
        return known_page ? invalid_field_in_cdb(3) : invalid_field_in_cdb(2, 5);
    }
    if (first_parameter != 0) return invalid_field_in_cdb(5);
    if (subpage != 0) {
        out[0] |= 0x40;  // SPF
        out[1] = subpage;
    }
    put_be(out, 2, out.size() - 4, 2);
    return out;
}

Reply get_lba_status(const Geometry& geometry, ByteView cdb) {
    const uint64_t lba = get_be64(cdb, 2);
    if (cdb[14] != 0) return invalid_field_in_cdb(14);  // report type
    if (lba >= geometry.blocks) return lba_out_of_range(lba);
    Bytes out;
    append_be(out, 4 + 16, 4);
    append_be(out, 0, 4);
    append_be(out, lba, 8);
    append_be(out, std::min<uint64_t>(geometry.blocks - lba, std::numeric_limits<uint32_t>::max()), 4);
    append_be(out, 0, 4);
    return out;
}

}  // namespace storctl::node::scsi
