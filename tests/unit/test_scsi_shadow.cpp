// Random commands against a naive model of a disk, and every CDB that is none: nothing crashes, nothing else changes.

#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/scsi_disk.hpp"

using namespace storctl::node::scsi;
using storctl::test::scsi_configuration;
using storctl::test::ScsiDisk;

namespace {

constexpr uint64_t disk_blocks = 512;

uint64_t fresh_seed() { return std::random_device{}(); }

/// What a disk is to an initiator: bytes.
struct Model {
    Bytes bytes = Bytes(disk_blocks * 512);

    uint8_t* at(uint64_t lba) { return bytes.data() + lba * 512; }
    bool inside(uint64_t lba, uint64_t blocks) const { return lba < disk_blocks && blocks <= disk_blocks - lba; }
};

struct Rig {
    std::mt19937_64 random;
    ScsiDisk disk{scsi_configuration(disk_blocks)};
    std::shared_ptr<Nexus> nexus = disk.attach("a");
    Model model;

    explicit Rig(uint64_t seed) : random(seed) {}
    uint64_t below(uint64_t limit) { return random() % limit; }
    Bytes data(size_t blocks) {
        Bytes out(blocks * 512);
        // few different blocks, so that comparisons succeed now and then
        for (size_t i = 0; i < blocks; ++i)
            std::fill_n(out.begin() + static_cast<long>(i * 512), 512, static_cast<uint8_t>(below(3)));
        return out;
    }
};

Bytes block_cdb(Rig& rig, uint8_t ten, uint8_t twelve, uint8_t sixteen, uint64_t lba, uint64_t blocks, uint8_t flags) {
    const auto kind = rig.below(twelve != 0 ? 3 : 2);
    Bytes out;
    if (kind == 0) {
        out = {ten, flags};
        append_be(out, lba, 4);
        out.push_back(0);
        append_be(out, blocks, 2);
    } else if (kind == 1) {
        out = {sixteen, flags};
        append_be(out, lba, 8);
        append_be(out, blocks, 4);
        out.push_back(0);
    } else {
        out = {twelve, flags};
        append_be(out, lba, 4);
        append_be(out, blocks, 4);
        out.push_back(0);
    }
    out.push_back(0);
    return out;
}

void read_one(Rig& rig, uint64_t lba, uint64_t blocks) {
    const auto command =
        rig.disk.run(*rig.nexus, block_cdb(rig, 0x28, 0xa8, 0x88, lba, blocks, rig.below(2) != 0 ? 0x08 : 0));
    if (!rig.model.inside(lba, blocks)) {
        CHECK(command->code() == AdditionalSense::logical_block_address_out_of_range);
        return;
    }
    REQUIRE(command->task.status == Status::good);
    CHECK(command->answer() == Bytes(rig.model.at(lba), rig.model.at(lba) + blocks * 512));
}

void write_one(Rig& rig, uint64_t lba, uint64_t blocks) {
    const auto data = rig.data(blocks);
    const bool verified = rig.below(4) == 0;
    const auto command =
        rig.disk.run(*rig.nexus,
                     verified ? block_cdb(rig, 0x2e, 0xae, 0x8e, lba, blocks, 0x02)
                              : block_cdb(rig, 0x2a, 0xaa, 0x8a, lba, blocks, rig.below(2) != 0 ? 0x08 : 0),
                     data);
    CHECK((command->task.status == Status::good) == rig.model.inside(lba, blocks));
    if (rig.model.inside(lba, blocks)) std::copy(data.begin(), data.end(), rig.model.at(lba));
}

void verify_one(Rig& rig, uint64_t lba, uint64_t blocks) {
    auto data =
        rig.model.inside(lba, blocks) ? Bytes(rig.model.at(lba), rig.model.at(lba) + blocks * 512) : rig.data(blocks);
    const bool spoiled = blocks > 0 && rig.below(2) == 0;
    if (spoiled) data[rig.below(data.size())] ^= 0x80;
    const auto command = rig.disk.run(*rig.nexus, block_cdb(rig, 0x2f, 0xaf, 0x8f, lba, blocks, 0x02), data);
    if (!rig.model.inside(lba, blocks))
        CHECK(command->key() == SenseKey::illegal_request);
    else
        CHECK((command->task.status == Status::good) == !spoiled);
}

void write_same_one(Rig& rig, uint64_t lba, uint64_t blocks) {
    const auto data = rig.data(1);
    const bool none = rig.below(4) == 0, unmaps = rig.below(2) == 0;
    Bytes cdb = {0x93, static_cast<uint8_t>((none ? 1 : 0) | (unmaps ? 8 : 0))};
    append_be(cdb, lba, 8);
    append_be(cdb, blocks, 4);
    append_be(cdb, 0, 2);
    const auto command = rig.disk.run(*rig.nexus, cdb, none ? Bytes{} : data);
    const bool possible = rig.model.inside(lba, blocks) && blocks > 0;
    CHECK((command->task.status == Status::good) == possible);
    if (!possible) return;
    for (uint64_t i = 0; i < blocks; ++i) std::fill_n(rig.model.at(lba + i), 512, none ? uint8_t{0} : data[0]);
}

void compare_and_write_one(Rig& rig, uint64_t lba, uint64_t blocks) {
    auto data = rig.data(blocks);
    if (rig.model.inside(lba, blocks) && rig.below(2) == 0)
        data.assign(rig.model.at(lba), rig.model.at(lba) + blocks * 512);
    const auto fresh = rig.data(blocks);
    Bytes both = data;
    both.insert(both.end(), fresh.begin(), fresh.end());
    Bytes cdb = {0x89, 0};
    append_be(cdb, lba, 8);
    append_be(cdb, blocks, 4);
    append_be(cdb, 0, 2);
    const auto command = rig.disk.run(*rig.nexus, cdb, both);
    if (!rig.model.inside(lba, blocks)) {
        CHECK(command->key() == SenseKey::illegal_request);
        return;
    }
    const bool same = std::equal(data.begin(), data.end(), rig.model.at(lba));
    CHECK((command->task.status == Status::good) == same);
    if (same) std::copy(fresh.begin(), fresh.end(), rig.model.at(lba));
}

void unmap_one(Rig& rig) {
    const auto count = rig.below(5);
    Bytes list;
    append_be(list, 6 + 16 * count, 2);
    append_be(list, 16 * count, 2);
    append_be(list, 0, 4);
    std::vector<BlockRange> ranges;
    for (uint64_t i = 0; i < count; ++i) {
        ranges.push_back({rig.below(disk_blocks + 2), rig.below(40)});
        append_be(list, ranges.back().lba, 8);
        append_be(list, ranges.back().blocks, 4);
        append_be(list, 0, 4);
    }
    Bytes cdb = {0x42, 0, 0, 0, 0, 0, 0};
    append_be(cdb, list.size(), 2);
    cdb.push_back(0);
    const auto command = rig.disk.run(*rig.nexus, cdb, list);
    const bool possible = std::all_of(ranges.begin(), ranges.end(), [](const BlockRange& range) {
        return range.lba <= disk_blocks && range.blocks <= disk_blocks - range.lba;
    });
    CHECK((command->task.status == Status::good) == possible);
    if (!possible) return;
    for (const auto& [lba, blocks] : ranges) std::fill_n(rig.model.at(0) + lba * 512, blocks * 512, uint8_t{0});
}

}  // namespace

TEST_CASE("random commands do to the disk what they do to a model of it") {
    const auto seed = fresh_seed();
    MESSAGE("seed " << seed);
    CAPTURE(seed);
    Rig rig(seed);
    for (int i = 0; i < 20000; ++i) {
        const uint64_t lba = rig.below(disk_blocks + 4), blocks = rig.below(48);
        switch (rig.below(6)) {
            case 0:
                read_one(rig, lba, blocks);
                break;
            case 1:
                write_one(rig, lba, blocks);
                break;
            case 2:
                verify_one(rig, lba, blocks);
                break;
            case 3:
                write_same_one(rig, lba, blocks);
                break;
            case 4:
                compare_and_write_one(rig, lba, blocks % 6);
                break;
            default:
                unmap_one(rig);
                break;
        }
        rig.disk.operations.clear();
        if (i % 500 == 0)
            REQUIRE(std::memcmp(rig.disk.memory.data(), rig.model.bytes.data(), rig.model.bytes.size()) == 0);
    }
    CHECK(std::memcmp(rig.disk.memory.data(), rig.model.bytes.data(), rig.model.bytes.size()) == 0);
}

TEST_CASE("every opcode, cut everywhere, with all bits set or none: refused, and nothing changes") {
    ScsiDisk disk;
    std::fill(disk.memory.begin(), disk.memory.end(), std::byte{0x5a});
    const auto nexus = disk.attach("a");
    const auto before = disk.memory;
    const auto mode = disk.unit->mode();
    int refused = 0;
    for (int opcode = 0; opcode < 256; ++opcode) {
        for (const uint8_t fill : {0x00, 0x80, 0xff}) {
            for (size_t length = 0; length <= 16; ++length) {
                CAPTURE(opcode);
                CAPTURE(int{fill});
                CAPTURE(length);
                Bytes cdb(length, fill);
                if (length > 0) cdb[0] = static_cast<uint8_t>(opcode);
                const auto lookup = find_command(cdb, disk.unit->geometry());
                const bool whole = lookup.row != nullptr && length >= lookup.row->length;
                // whole commands are what other tests are about, unless no bit of theirs can be right
                if (whole && fill != 0xff) continue;
                const auto command = disk.run(*nexus, cdb, {}, 4096);
                if (whole && command->task.status == Status::good) continue;
                CHECK(command->task.status == Status::check_condition);
                CHECK(command->key() == SenseKey::illegal_request);
                CHECK(command->task.data_in_bytes == 0);
                if (lookup.row == nullptr && lookup.known == Known::no)
                    CHECK(command->code() == AdditionalSense::invalid_command_operation_code);
                ++refused;
            }
        }
    }
    CHECK(refused > 256 * 3 * 6);
    CHECK(disk.memory == before);
    CHECK(disk.unit->mode() == mode);
    CHECK(disk.unit->reservations() == ReservationState{});
    CHECK(std::all_of(disk.operations.begin(), disk.operations.end(), [](const Operation& operation) {
        return operation.kind == BlockOperation::flush || operation.kind == BlockOperation::read;
    }));
}

TEST_CASE("no CDB asks for more memory than the limits allow") {
    const auto seed = fresh_seed();
    MESSAGE("seed " << seed);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    auto configuration = scsi_configuration(disk_blocks);
    configuration.limits.transfer_bytes = 1 << 20;
    configuration.limits.scratch_bytes = 100000;
    ScsiDisk disk(configuration);
    const auto rows = all_commands();
    std::array<uint64_t, 3> most{};
    for (int i = 0; i < 200000; ++i) {
        Bytes cdb(16);
        for (auto& byte : cdb) byte = static_cast<uint8_t>(random() % 4 == 0 ? random() : random() % 2 * 0xff);
        const auto& row = rows[random() % rows.size()];
        cdb[0] = row.opcode;
        if (row.service_action) cdb[1] = *row.service_action;
        const auto shape = disk.unit->shape(cdb);
        auto& longest = most[static_cast<size_t>(shape.direction)];
        longest = std::max(longest, shape.bytes);
        REQUIRE(shape.scratch_bytes <= 100000);
        REQUIRE((shape.direction != Direction::none || shape.bytes == 0));
    }
    CHECK(most[static_cast<size_t>(Direction::in)] <= 1 << 20);
    CHECK(most[static_cast<size_t>(Direction::out)] <= 1 << 20);
    CHECK(most[static_cast<size_t>(Direction::in)] > 1 << 16);
}
