#include "daemon/node/scsi/sense.hpp"

#include <limits>

namespace storctl::node::scsi {

namespace {

constexpr uint8_t current_fixed = 0x70, current_descriptor = 0x72, valid = 0x80;

std::array<uint8_t, 3> sense_key_specific(const FieldPointer& field) {
    auto first = static_cast<uint8_t>(0x80 | (field.in_cdb ? 0x40 : 0));  // SKSV, C/D
    if (field.bit) first = static_cast<uint8_t>(first | 0x08 | (*field.bit & 7));
    return {first, static_cast<uint8_t>(field.byte >> 8), static_cast<uint8_t>(field.byte)};
}

Bytes encode_fixed(const Sense& sense) {
    Bytes out(18);
    out[0] = current_fixed;
    out[2] = static_cast<uint8_t>(sense.key);
    if (sense.information && *sense.information <= std::numeric_limits<uint32_t>::max()) {
        out[0] |= valid;
        put_be(out, 3, *sense.information, 4);
    }
    out[7] = static_cast<uint8_t>(out.size() - 8);
    put_be(out, 12, static_cast<uint16_t>(sense.code), 2);
    if (sense.field) {
        const auto specific = sense_key_specific(*sense.field);
        std::copy(specific.begin(), specific.end(), out.begin() + 15);
    }
    return out;
}

Bytes encode_descriptors(const Sense& sense) {
    Bytes out(8);
    out[0] = current_descriptor;
    out[1] = static_cast<uint8_t>(sense.key);
    put_be(out, 2, static_cast<uint16_t>(sense.code), 2);
    if (sense.information) {
        append(out, std::array<uint8_t, 4>{0x00, 0x0a, valid, 0});
        append_be(out, *sense.information, 8);
    }
    if (sense.field) {
        append(out, std::array<uint8_t, 4>{0x02, 0x06, 0, 0});
        append(out, sense_key_specific(*sense.field));
        out.push_back(0);
    }
    out[7] = static_cast<uint8_t>(out.size() - 8);
    return out;
}

}  // namespace

Sense invalid_field_in_cdb(size_t byte, std::optional<uint8_t> bit) {
    return {.key = SenseKey::illegal_request,
            .code = AdditionalSense::invalid_field_in_cdb,
            .field = FieldPointer{.in_cdb = true, .byte = static_cast<uint16_t>(byte), .bit = bit}};
}

Sense invalid_field_in_parameter_list(size_t byte, std::optional<uint8_t> bit) {
    return {.key = SenseKey::illegal_request,
            .code = AdditionalSense::invalid_field_in_parameter_list,
            .field = FieldPointer{.in_cdb = false, .byte = static_cast<uint16_t>(byte), .bit = bit}};
}

Sense illegal_request(AdditionalSense code) { return {.key = SenseKey::illegal_request, .code = code}; }

Sense lba_out_of_range(uint64_t lba) {
    return {.key = SenseKey::illegal_request,
            .code = AdditionalSense::logical_block_address_out_of_range,
            .information = lba};
}

Bytes encode_sense(const Sense& sense, SenseFormat format) {
    switch (format) {
        case SenseFormat::fixed:
            return encode_fixed(sense);
        case SenseFormat::descriptor:
            return encode_descriptors(sense);
    }
    __builtin_unreachable();
}

}  // namespace storctl::node::scsi
