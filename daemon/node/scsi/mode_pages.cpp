#include "daemon/node/scsi/mode_pages.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace storctl::node::scsi {

namespace {

constexpr uint8_t page_caching = 0x08, page_control = 0x0a, page_exceptions = 0x1c, page_all = 0x3f;
constexpr std::array<uint8_t, 3> pages = {page_caching, page_control, page_exceptions};

enum class PageControl : uint8_t { current = 0, changeable = 1, defaults = 2, saved = 3 };

constexpr uint8_t wce = 0x04, d_sense = 0x04, swp = 0x08;

Bytes page_of(uint8_t code, const ModeValues& values) {
    const auto flag = [](bool set, uint8_t bit) { return set ? bit : uint8_t{0}; };
    switch (code) {
        case page_caching: {
            Bytes out(20);
            out[2] = flag(values.write_cache, wce);
            out[12] = 0x20;  // DRA: no read ahead of our own
            out[0] = page_caching;
            out[1] = 18;
            return out;
        }
        case page_control: {
            Bytes out(12);
            out[0] = page_control;
            out[1] = 10;
            out[2] = static_cast<uint8_t>(0x02 | flag(values.descriptor_sense, d_sense));  // GLTSD
            out[3] = 0x10;                                                                 // commands may be reordered
            out[4] = flag(values.software_write_protect, swp);
            out[5] = 0x40;  // TAS: what is aborted by another nexus answers TASK ABORTED
            out[8] = out[9] = 0xff;
            return out;
        }
        default: {
            Bytes out(12);
            out[0] = page_exceptions;
            out[1] = 10;
            out[3] = 0x06;  // MRIE: reported on request only
            return out;
        }
    }
}

Bytes changeable_bits(uint8_t code) {
    Bytes out = page_of(code, {});
    std::fill(out.begin() + 2, out.end(), uint8_t{0});
    if (code == page_caching) out[2] = wce;
    if (code == page_control) {
        out[2] = d_sense;
        out[4] = swp;
    }
    return out;
}

void append_descriptor(Bytes& out, const Geometry& geometry, bool long_lba) {
    if (long_lba) {
        append_be(out, geometry.blocks, 8);
        append_be(out, 0, 4);
        append_be(out, geometry.block_bytes, 4);
        return;
    }
    append_be(out, std::min<uint64_t>(geometry.blocks, std::numeric_limits<uint32_t>::max()), 4);
    append_be(out, geometry.block_bytes, 4);  // its highest byte is reserved
}

bool is_ten(ByteView cdb) { return cdb[0] >= 0x40; }

/// Block descriptors may say what is, or leave the number of blocks open.
std::optional<Sense> check_descriptor(ByteView parameters, size_t at, size_t size, const Geometry& geometry) {
    const bool long_lba = size == 16;
    const uint64_t blocks = get_be(parameters, at, long_lba ? 8 : 4);
    const uint64_t open = long_lba ? UINT64_MAX : UINT32_MAX;
    const uint64_t shown = std::min(geometry.blocks, open);
    if (blocks != 0 && blocks != open && blocks != shown) return invalid_field_in_parameter_list(at);
    const size_t length_at = long_lba ? at + 12 : at + 5;
    if (get_be(parameters, length_at, long_lba ? 4 : 3) != geometry.block_bytes)
        return invalid_field_in_parameter_list(length_at);
    return std::nullopt;
}

/// One page as given, against the same page now: only changeable bits may differ.
std::optional<Sense> apply_page(ModeValues& values, ByteView parameters, size_t at, size_t size) {
    const uint8_t code = parameters[at] & 0x3f;
    const Bytes now = page_of(code, values);
    const Bytes mask = changeable_bits(code);
    for (size_t i = 2; i < size; ++i) {
        const auto wrong = static_cast<uint8_t>((parameters[at + i] ^ now[i]) & ~mask[i]);
        if (wrong != 0) return invalid_field_in_parameter_list(at + i, static_cast<uint8_t>(std::bit_width(wrong) - 1));
    }
    if (code == page_caching) values.write_cache = (parameters[at + 2] & wce) != 0;
    if (code == page_control) {
        values.descriptor_sense = (parameters[at + 2] & d_sense) != 0;
        values.software_write_protect = (parameters[at + 4] & swp) != 0;
    }
    return std::nullopt;
}

}  // namespace

Reply mode_sense(const ModeValues& values, const Geometry& geometry, bool write_protected, ByteView cdb) {
    const bool ten = is_ten(cdb);
    const auto control = static_cast<PageControl>(cdb[2] >> 6);
    const uint8_t code = cdb[2] & 0x3f, subpage = cdb[3];
    if (control == PageControl::saved) return illegal_request(AdditionalSense::saving_parameters_not_supported);
    if (code != page_all && std::find(pages.begin(), pages.end(), code) == pages.end())
        return invalid_field_in_cdb(2, 5);
    if (subpage != 0 && subpage != 0xff) return invalid_field_in_cdb(3);

    const bool long_lba = ten && (cdb[1] & 0x10) != 0;  // LLBAA
    Bytes out(ten ? 8 : 4);
    const auto device_specific = static_cast<uint8_t>((write_protected ? 0x80 : 0) | 0x10);  // WP, DPOFUA
    out[ten ? 3 : 2] = device_specific;
    if ((cdb[1] & 0x08) == 0) {  // DBD
        const size_t before = out.size();
        append_descriptor(out, geometry, long_lba);
        const auto length = static_cast<uint8_t>(out.size() - before);
        out[ten ? 7 : 3] = length;
        if (long_lba) out[4] = 0x01;
    }
    for (const uint8_t page : pages) {
        if (code != page_all && code != page) continue;
        if (control == PageControl::changeable)
            append(out, changeable_bits(page));
        else
            append(out, page_of(page, control == PageControl::defaults ? default_mode_values(geometry) : values));
    }
    if (ten)
        put_be(out, 0, out.size() - 2, 2);
    else
        out[0] = static_cast<uint8_t>(out.size() - 1);
    return out;
}

std::variant<ModeValues, Sense> mode_select(const ModeValues& values, const Geometry& geometry, ByteView cdb,
                                            ByteView parameters) {
    const bool ten = is_ten(cdb);
    if ((cdb[1] & 0x10) == 0) return invalid_field_in_cdb(1, 4);  // PF: pages of the standard only
    if ((cdb[1] & 0x01) != 0) return invalid_field_in_cdb(1, 0);  // SP: nothing can be saved
    if (parameters.empty()) return values;
    const size_t header = ten ? 8 : 4;
    const auto wrong_length = illegal_request(AdditionalSense::parameter_list_length_error);
    if (parameters.size() < header) return wrong_length;
    if (parameters[ten ? 2 : 1] != 0) return invalid_field_in_parameter_list(ten ? 2 : 1);  // medium type

    const bool long_lba = ten && (parameters[4] & 0x01) != 0;
    const size_t descriptors = ten ? get_be16(parameters, 6) : parameters[3];
    const size_t descriptor = long_lba ? 16 : 8;
    if (descriptors != 0 && descriptors != descriptor) return invalid_field_in_parameter_list(ten ? 6 : 3);
    if (parameters.size() < header + descriptors) return wrong_length;
    if (descriptors != 0) {
        if (auto sense = check_descriptor(parameters, header, descriptors, geometry)) return *sense;
    }

    ModeValues changed = values;
    for (size_t at = header + descriptors; at < parameters.size();) {
        const uint8_t code = parameters[at] & 0x3f;
        if ((parameters[at] & 0x40) != 0 || std::find(pages.begin(), pages.end(), code) == pages.end())  // SPF
            return invalid_field_in_parameter_list(at);
        if (parameters.size() < at + 2) return wrong_length;
        const size_t size = page_of(code, changed).size();
        if (parameters[at + 1] + 2u != size) return invalid_field_in_parameter_list(at + 1);
        if (parameters.size() < at + size) return wrong_length;
        if (auto sense = apply_page(changed, parameters, at, size)) return *sense;
        at += size;
    }
    return changed;
}

}  // namespace storctl::node::scsi
