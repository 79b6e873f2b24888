#include "daemon/node/scsi/inquiry.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace storctl::node::scsi {

namespace {

constexpr uint8_t vpd_supported = 0x00, vpd_serial = 0x80, vpd_identification = 0x83, vpd_block_limits = 0xb0,
                  vpd_block_characteristics = 0xb1, vpd_provisioning = 0xb2;
constexpr std::array<uint8_t, 6> vpd_pages = {
    vpd_supported, vpd_serial, vpd_identification, vpd_block_limits, vpd_block_characteristics, vpd_provisioning};

// Version descriptors of SPC-5's table, no version claimed: SAM-5, SPC-5, SBC-4, and for readers who know no newer ones
// SPC-4 and SBC-3.
constexpr std::array<uint16_t, 5> version_descriptors = {0x00a0, 0x05c0, 0x0600, 0x0460, 0x04c0};

Bytes standard(const Identity& identity) {
    Bytes out(8);
    out[2] = 0x07;                                  // SPC-5
    out[3] = 0x10 | 0x02;                           // HISUP, response data format
    out[6] = identity.target_ports > 1 ? 0x10 : 0;  // MULTIP
    out[7] = 0x02;                                  // CMDQUE
    append_text(out, identity.vendor, 8);
    append_text(out, identity.product, 16);
    append_text(out, identity.revision, 4);
    out.resize(58);
    for (const auto version : version_descriptors) append_be(out, version, 2);
    out.resize(96);
    out[4] = static_cast<uint8_t>(out.size() - 5);
    return out;
}

enum class CodeSet : uint8_t { binary = 1, ascii = 2 };
enum class DesignatorType : uint8_t { t10_vendor = 1, eui64 = 2, naa = 3, relative_target_port = 4 };
enum class Association : uint8_t { logical_unit = 0, target_port = 1 };

void designator(Bytes& out, CodeSet set, DesignatorType type, Association association, ByteView value) {
    out.push_back(static_cast<uint8_t>(set));
    out.push_back(static_cast<uint8_t>(static_cast<uint8_t>(association) << 4 | static_cast<uint8_t>(type)));
    out.push_back(0);
    out.push_back(static_cast<uint8_t>(value.size()));
    append(out, value);
}

void identification(Bytes& out, const Identity& identity, uint16_t target_port) {
    if (!identity.naa.empty())
        designator(out, CodeSet::binary, DesignatorType::naa, Association::logical_unit, identity.naa);
    if (!identity.eui64.empty())
        designator(out, CodeSet::binary, DesignatorType::eui64, Association::logical_unit, identity.eui64);
    Bytes t10;
    append_text(t10, identity.vendor, 8);
    append_text(t10, identity.product, 16);
    append_text(t10, identity.serial, std::min<size_t>(identity.serial.size(), 200));
    designator(out, CodeSet::ascii, DesignatorType::t10_vendor, Association::logical_unit, t10);
    Bytes port(2);
    append_be(port, target_port, 2);
    designator(out, CodeSet::binary, DesignatorType::relative_target_port, Association::target_port, port);
}

uint64_t capped(uint64_t value) { return std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max()); }

void block_limits(Bytes& out, const Geometry& geometry, const Limits& limits) {
    out.resize(64);
    out[4] = 0x01;  // WSNZ: WRITE SAME of zero blocks is refused
    out[5] = static_cast<uint8_t>(limits.compare_blocks);
    put_be(out, 6, geometry.physical_block_bytes / geometry.block_bytes, 2);
    put_be(out, 8, capped(limits.transfer_bytes / geometry.block_bytes), 4);
    put_be(out, 12, capped(limits.optimal_transfer_bytes / geometry.block_bytes), 4);
    if (geometry.thin) {
        put_be(out, 20, limits.unmap_blocks, 4);
        put_be(out, 24, limits.unmap_descriptors, 4);
        put_be(out, 28, limits.unmap_granularity_blocks, 4);
        put_be(out, 32, 0x80000000u | (limits.unmap_alignment_block & 0x7fffffff), 4);  // UGAVALID
    }
    put_be(out, 36, limits.write_same_blocks, 8);
}

void block_characteristics(Bytes& out, const Geometry& geometry) {
    out.resize(64);
    put_be(out, 4, geometry.rotation, 2);
}

void provisioning(Bytes& out, const Geometry& geometry) {
    out.resize(8);
    if (!geometry.thin) return;
    out[5] = 0x80 | 0x40 | 0x20 | 0x04;  // LBPU, LBPWS, LBPWS10, LBPRZ 001b
    out[6] = 0x02;                       // thin provisioned
}

}  // namespace

Reply inquiry(const Identity& identity, const Geometry& geometry, const Limits& limits, uint16_t target_port,
              ByteView cdb) {
    const bool vital = (cdb[1] & 0x01) != 0;
    const uint8_t page = cdb[2];
    if ((cdb[1] & 0x02) != 0) return invalid_field_in_cdb(1, 1);  // CMDDT of SPC-2
    if (!vital) {
        if (page != 0) return invalid_field_in_cdb(2);
        return standard(identity);
    }
    Bytes out = {0x00, page, 0, 0};
    switch (page) {
        case vpd_supported:
            append(out, vpd_pages);
            break;
        case vpd_serial:
            append_text(out, identity.serial, identity.serial.size());
            break;
        case vpd_identification:
            identification(out, identity, target_port);
            break;
        case vpd_block_limits:
            block_limits(out, geometry, limits);
            break;
        case vpd_block_characteristics:
            block_characteristics(out, geometry);
            break;
        case vpd_provisioning:
            provisioning(out, geometry);
            break;
        default:
            return invalid_field_in_cdb(2);
    }
    put_be(out, 2, out.size() - 4, 2);
    return out;
}

Bytes read_capacity_10(const Geometry& geometry) {
    Bytes out;
    append_be(out, capped(geometry.blocks - 1), 4);
    append_be(out, geometry.block_bytes, 4);
    return out;
}

Bytes read_capacity_16(const Geometry& geometry) {
    Bytes out;
    append_be(out, geometry.blocks - 1, 8);
    append_be(out, geometry.block_bytes, 4);
    out.push_back(0);  // no protection information
    out.push_back(static_cast<uint8_t>(std::countr_zero(geometry.physical_block_bytes / geometry.block_bytes)));
    const uint16_t provisioned = geometry.thin ? 0xc000 : 0;  // LBPME, LBPRZ
    append_be(out, provisioned | geometry.lowest_aligned_block, 2);
    out.resize(32);
    return out;
}

}  // namespace storctl::node::scsi
