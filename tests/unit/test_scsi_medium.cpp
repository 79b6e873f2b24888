// Commands that touch the medium: what reaches the backend, in which order, and how its results are told.

#include <algorithm>
#include <cstring>
#include <numeric>

#include <doctest/doctest.h>

#include "tests/unit/scsi_disk.hpp"

using namespace storctl::node::scsi;
using storctl::test::scsi_configuration;
using storctl::test::ScsiCommand;
using storctl::test::ScsiDisk;

namespace {

using S = AdditionalSense;
using Op = BlockOperation;

Bytes ten(uint8_t opcode, uint32_t lba, uint16_t blocks, uint8_t flags = 0) {
    Bytes out = {opcode, flags};
    append_be(out, lba, 4);
    out.push_back(0);
    append_be(out, blocks, 2);
    out.push_back(0);
    return out;
}
Bytes sixteen(uint8_t opcode, uint64_t lba, uint32_t blocks, uint8_t flags = 0) {
    Bytes out = {opcode, flags};
    append_be(out, lba, 8);
    append_be(out, blocks, 4);
    append_be(out, 0, 2);
    return out;
}
Bytes compare_and_write(uint64_t lba, uint8_t blocks, uint8_t flags = 0) {
    auto out = sixteen(0x89, lba, blocks, flags);
    return out;
}

Bytes pattern(size_t bytes, uint8_t seed) {
    Bytes out(bytes);
    for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(seed + i * 7 + i / 512);
    return out;
}

Bytes unmap_list(std::initializer_list<BlockRange> ranges) {
    Bytes out;
    append_be(out, 6 + 16 * ranges.size(), 2);
    append_be(out, 16 * ranges.size(), 2);
    append_be(out, 0, 4);
    for (const auto& [lba, blocks] : ranges) {
        append_be(out, lba, 8);
        append_be(out, blocks, 4);
        append_be(out, 0, 4);
    }
    return out;
}
Bytes unmap_cdb(size_t bytes, uint8_t flags = 0) {
    Bytes out = {0x42, flags, 0, 0, 0, 0, 0};
    append_be(out, bytes, 2);
    out.push_back(0);
    return out;
}

struct Stand {
    ScsiDisk disk;
    std::shared_ptr<Nexus> nexus;

    explicit Stand(UnitConfiguration configuration = scsi_configuration())
        : disk(std::move(configuration)), nexus(disk.attach("a")) {
        for (size_t i = 0; i < disk.memory.size(); ++i) disk.memory[i] = static_cast<std::byte>(i / 512 + i * 3);
    }
    auto run(Bytes cdb, const Bytes& data = {}, size_t room = 1 << 20) {
        disk.operations.clear();
        return disk.run(*nexus, std::move(cdb), data, room);
    }
    void good(Bytes cdb, const Bytes& data = {}) { CHECK(run(std::move(cdb), data)->task.status == Status::good); }
    void refused(Bytes cdb, S code, const Bytes& data = {}, SenseKey key = SenseKey::illegal_request) {
        const auto before = disk.memory;
        const auto command = run(std::move(cdb), data);
        REQUIRE(command->task.status == Status::check_condition);
        CHECK(command->key() == key);
        CHECK(command->code() == code);
        CHECK(disk.memory == before);
    }
    Bytes content(uint64_t lba, uint64_t blocks) {
        const auto* begin = reinterpret_cast<const uint8_t*>(disk.memory.data()) + lba * 512;
        return {begin, begin + blocks * 512};
    }
    std::vector<Op> kinds() {
        std::vector<Op> out;
        for (const auto& operation : disk.operations) out.push_back(operation.kind);
        return out;
    }
};

uint64_t information(const ScsiCommand& command) {
    REQUIRE((command.task.sense[0] & 0x80) != 0);
    return get_be32(command.task.sense, 3);
}

}  // namespace

TEST_CASE("reads and writes of every length go straight to and from the caller's memory") {
    Stand stand;
    struct Row {
        const char* name;
        Bytes read, write;
        uint64_t lba, blocks;
    };
    const Row rows[] = {
        {"6", {0x08, 0, 0, 9, 3, 0}, {0x0a, 0, 0, 9, 3, 0}, 9, 3},
        {"6, 256 blocks", {0x08, 0, 1, 0, 0, 0}, {0x0a, 0, 1, 0, 0, 0}, 256, 256},
        {"10", ten(0x28, 17, 5), ten(0x2a, 17, 5), 17, 5},
        {"12", {0xa8, 0, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0}, {0xaa, 0, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0}, 40, 2},
        {"16", sixteen(0x88, 2047, 1), sixteen(0x8a, 2047, 1), 2047, 1},
        {"16, DPO", sixteen(0x88, 100, 256, 0x10), sixteen(0x8a, 100, 256, 0x10), 100, 256},
    };
    uint8_t seed = 1;
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto data = pattern(row.blocks * 512, ++seed);
        const auto write = stand.run(row.write, data);
        CHECK(write->task.status == Status::good);
        REQUIRE(stand.disk.operations.size() == 1);
        CHECK(stand.disk.operations[0].data == write->data.data());
        CHECK_FALSE(stand.disk.operations[0].fua);
        CHECK(stand.content(row.lba, row.blocks) == data);
        const auto read = stand.run(row.read);
        CHECK(read->answer() == data);
        REQUIRE(stand.disk.operations.size() == 1);
        CHECK(stand.disk.operations[0].data == read->data.data());
    }
}

TEST_CASE("FUA") {
    Stand stand;
    stand.good(ten(0x2a, 3, 1, 0x08), pattern(512, 1));
    CHECK(stand.disk.operations[0].fua);
    stand.good(ten(0x28, 3, 1, 0x08));
    CHECK(stand.kinds() == std::vector{Op::flush, Op::read});
    stand.disk.fault = [](const Operation& operation) -> std::optional<int64_t> {
        if (operation.kind == Op::flush) return -EIO;
        return std::nullopt;
    };
    stand.refused(ten(0x28, 3, 1, 0x08), S::write_error, {}, SenseKey::medium_error);
    CHECK(stand.kinds() == std::vector{Op::flush});
}

TEST_CASE("the ends of the disk") {
    Stand stand;
    const auto out_of_range = S::logical_block_address_out_of_range;
    const uint8_t opcodes[] = {0x28, 0x2f, 0x34, 0x35};
    for (const uint8_t opcode : opcodes) {
        CAPTURE(int{opcode});
        stand.good(ten(opcode, 2047, 1));
        stand.good(ten(opcode, 2047, 0));
        stand.refused(ten(opcode, 2048, 0), out_of_range);
        stand.refused(ten(opcode, 2047, 2), out_of_range);
        stand.refused(ten(opcode, 0xffffffff, 2), out_of_range);
    }
    const uint8_t longs[] = {0x88, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x89};
    for (const uint8_t opcode : longs) {
        CAPTURE(int{opcode});
        stand.refused(sixteen(opcode, 2048, 1), out_of_range, Bytes(1024));
        stand.refused(sixteen(opcode, UINT64_MAX, 1), out_of_range, Bytes(1024));
        stand.refused(sixteen(opcode, 1ull << 63, 1), out_of_range, Bytes(1024));
    }
    CHECK(information(*stand.run(ten(0x28, 2040, 20))) == 2048);
    CHECK(information(*stand.run(ten(0x28, 3000, 20))) == 3000);
}

TEST_CASE("limits, protection information and data that are not there") {
    Stand stand;
    stand.good(ten(0x28, 0, 256));
    for (const uint8_t opcode : {0x28, 0x2a, 0x2e})
        stand.refused(ten(opcode, 0, 257), S::invalid_field_in_cdb, Bytes(257 * 512));
    stand.refused(ten(0x2f, 0, 257, 0x02), S::invalid_field_in_cdb, Bytes(257 * 512));
    stand.good(ten(0x2f, 0, 2000));  // verification without data is not bound by the limit of transfers
    for (const uint8_t opcode : {0x28, 0x2a, 0x2e, 0x2f, 0x41})
        stand.refused(ten(opcode, 0, 1, 0x20), S::invalid_field_in_cdb, Bytes(512));
    stand.refused(compare_and_write(0, 1, 0x20), S::invalid_field_in_cdb, Bytes(1024));
    stand.refused(compare_and_write(0, 65), S::invalid_field_in_cdb, Bytes(65 * 1024));
    stand.refused(ten(0x2a, 0, 2), S::invalid_field_in_cdb, Bytes(1023));
    stand.refused(compare_and_write(0, 1), S::invalid_field_in_cdb, Bytes(1023));
    stand.refused(ten(0x41, 0, 2), S::invalid_field_in_cdb, Bytes(511));
    for (const uint8_t check : {0x04, 0x06}) stand.refused(ten(0x2e, 0, 1, check), S::invalid_field_in_cdb, Bytes(512));
    stand.refused(ten(0x2f, 0, 1, 0x04), S::invalid_field_in_cdb, Bytes(512));
    SUBCASE("a read with less room reads that much") {
        const auto read = stand.run(ten(0x28, 4, 4), {}, 700);
        CHECK(read->task.status == Status::good);
        CHECK(read->task.data_in_bytes == 700);
        CHECK(stand.disk.operations[0].length == 700);
    }
}

TEST_CASE("VERIFY") {
    Stand stand;
    stand.good(ten(0x2f, 10, 11));
    CHECK(stand.disk.operations.size() == 3);  // scratch takes 4 blocks
    CHECK(stand.disk.operations[2].length == 3 * 512);
    stand.good(ten(0x2f, 10, 11, 0x02), stand.content(10, 11));
    auto data = stand.content(10, 11);
    data[6 * 512 + 5] ^= 1;
    const auto different = stand.run(ten(0x2f, 10, 11, 0x02), data);
    CHECK(different->key() == SenseKey::miscompare);
    CHECK(different->code() == S::miscompare_during_verify_operation);
    CHECK(information(*different) == 16);
    stand.good(ten(0x41, 10, 11), pattern(512, 9));
    stand.good(ten(0x2f, 10, 11, 0x06), pattern(512, 9));
    CHECK(information(*stand.run(ten(0x2f, 10, 12, 0x06), pattern(512, 9))) == 21);
    stand.refused(ten(0x2f, 10, 1, 0x06), S::invalid_field_in_cdb, Bytes(511));
    stand.good(ten(0x2f, 10, 0, 0x02));
}

TEST_CASE("WRITE AND VERIFY") {
    Stand stand;
    for (const uint8_t check : {0x00, 0x02}) {
        stand.good(ten(0x2e, 20, 5, check), pattern(5 * 512, check));
        CHECK(stand.kinds() == std::vector{Op::write, Op::read, Op::read});
        CHECK(stand.disk.operations[0].fua);
        CHECK(stand.content(20, 5) == pattern(5 * 512, check));
    }
    stand.disk.fault = [&](const Operation& operation) -> std::optional<int64_t> {
        if (operation.kind != Op::write) return std::nullopt;
        return static_cast<int64_t>(operation.length);  // a disk that lies
    };
    stand.good(ten(0x2e, 20, 5), pattern(5 * 512, 77));
    stand.refused(ten(0x2e, 20, 5, 0x02), S::miscompare_during_verify_operation, pattern(5 * 512, 77),
                  SenseKey::miscompare);
}

TEST_CASE("COMPARE AND WRITE") {
    Stand stand;
    auto data = stand.content(30, 3);
    const auto fresh = pattern(3 * 512, 3);
    data.insert(data.end(), fresh.begin(), fresh.end());
    stand.good(compare_and_write(30, 3, 0x08), data);
    CHECK(stand.kinds() == std::vector{Op::read, Op::write});
    CHECK(stand.disk.operations[1].fua);
    CHECK(stand.content(30, 3) == fresh);
    const auto command = stand.run(compare_and_write(30, 3), data);
    CHECK(command->key() == SenseKey::miscompare);
    CHECK(information(*command) ==
          static_cast<uint64_t>(std::mismatch(data.begin(), data.begin() + 1536, fresh.begin()).first - data.begin()));
    CHECK(stand.kinds() == std::vector{Op::read});
    stand.good(compare_and_write(30, 0));
    CHECK(stand.disk.operations.empty());
}

TEST_CASE("WRITE SAME") {
    Stand stand;
    const auto block = pattern(512, 5);
    stand.good(ten(0x41, 50, 9), block);
    CHECK(stand.kinds() == std::vector{Op::write, Op::write, Op::write});
    for (uint64_t i = 50; i < 59; ++i) CHECK(stand.content(i, 1) == block);
    CHECK(stand.content(59, 1) != block);

    SUBCASE("zeroes") {
        stand.good(sixteen(0x93, 50, 100), Bytes(512));
        CHECK(stand.kinds() == std::vector{Op::write_zeroes});
        CHECK(stand.content(50, 100) == Bytes(51200));
    }
    SUBCASE("NDOB") {
        const auto command = stand.run(sixteen(0x93, 50, 100, 0x01));
        CHECK(command->task.status == Status::good);
        CHECK(stand.kinds() == std::vector{Op::write_zeroes});
    }
    SUBCASE("UNMAP") {
        stand.good(sixteen(0x93, 50, 100, 0x08), Bytes(512));
        CHECK(stand.kinds() == std::vector{Op::discard});
        stand.good(sixteen(0x93, 50, 100, 0x09));
        CHECK(stand.kinds() == std::vector{Op::discard});
    }
    SUBCASE("UNMAP of what is not zeroes is a write") {
        stand.good(sixteen(0x93, 50, 1, 0x08), block);
        CHECK(stand.kinds() == std::vector{Op::write});
    }
    SUBCASE("a backend that cannot discard writes zeroes") {
        stand.disk.fault = [](const Operation& operation) -> std::optional<int64_t> {
            if (operation.kind == Op::discard) return -EOPNOTSUPP;
            return std::nullopt;
        };
        stand.good(sixteen(0x93, 50, 100, 0x09));
        CHECK(stand.kinds() == std::vector{Op::discard, Op::write_zeroes});
        CHECK(stand.content(50, 100) == Bytes(51200));
    }
    SUBCASE("refused") {
        stand.refused(ten(0x41, 50, 0), S::invalid_field_in_cdb, block);  // WSNZ
        stand.refused(ten(0x41, 50, 1, 0x18), S::invalid_field_in_cdb, block);
        stand.refused(ten(0x41, 50, 1, 0x02), S::invalid_field_in_cdb, block);
        stand.refused(ten(0x41, 50, 1, 0x04), S::invalid_field_in_cdb, block);
    }
    SUBCASE("without a cache zeroes are flushed") {
        auto configuration = scsi_configuration();
        configuration.geometry.write_cache = false;
        configuration.limits.write_same_blocks = 10;
        Stand through(configuration);
        through.good(sixteen(0x93, 0, 10, 0x01));
        CHECK(through.kinds() == std::vector{Op::write_zeroes, Op::flush});
        through.refused(sixteen(0x93, 0, 11, 0x01), S::invalid_field_in_cdb);
        through.good(ten(0x41, 0, 1), block);
        CHECK(through.disk.operations[0].fua);
    }
}

TEST_CASE("UNMAP") {
    auto configuration = scsi_configuration();
    configuration.limits.unmap_descriptors = 3;
    configuration.limits.unmap_blocks = 100;
    Stand stand(configuration);
    auto list = unmap_list({{3, 4}, {9, 0}, {2040, 8}});
    stand.good(unmap_cdb(list.size()), list);
    CHECK(stand.kinds() == std::vector{Op::discard, Op::discard});
    CHECK(stand.content(3, 4) == Bytes(2048));
    CHECK(stand.content(2040, 8) == Bytes(4096));

    stand.good(unmap_cdb(0));
    stand.good(unmap_cdb(8), unmap_list({}));
    stand.good(unmap_cdb(list.size() - 1), list);  // the last descriptor is not whole
    CHECK(stand.disk.operations.size() == 1);
    stand.refused(unmap_cdb(7), S::parameter_list_length_error, list);
    stand.refused(unmap_cdb(list.size() + 1), S::parameter_list_length_error, list);
    stand.refused(unmap_cdb(list.size(), 1), S::invalid_field_in_cdb, list);
    list = unmap_list({{0, 1}, {1, 1}, {2, 1}, {3, 1}});
    stand.refused(unmap_cdb(list.size()), S::invalid_field_in_parameter_list, list);
    list = unmap_list({{0, 60}, {100, 41}});
    stand.refused(unmap_cdb(list.size()), S::invalid_field_in_parameter_list, list);
    list = unmap_list({{0, 60}, {2047, 2}});
    stand.refused(unmap_cdb(list.size()), S::logical_block_address_out_of_range, list);
    list = unmap_list({{0, 60}, {UINT64_MAX, 2}});
    stand.refused(unmap_cdb(list.size()), S::logical_block_address_out_of_range, list);
    stand.disk.fault = [](const Operation&) { return -EOPNOTSUPP; };
    list = unmap_list({{0, 6}, {20, 2}});
    stand.good(unmap_cdb(list.size()), list);
    CHECK(stand.disk.operations.size() == 2);
}

TEST_CASE("a disk that becomes smaller under a command") {
    Stand stand;
    stand.disk.fault = [&](const Operation&) {
        stand.disk.unit->resize(6);
        return std::nullopt;
    };
    const auto verify = stand.run(ten(0x2f, 0, 16));
    CHECK(verify->code() == S::logical_block_address_out_of_range);
    CHECK(information(*verify) == 6);
    CHECK(stand.disk.operations.size() == 1);
}

TEST_CASE("SYNCHRONIZE CACHE and PRE-FETCH") {
    Stand stand;
    for (const uint8_t flags : {0, 2}) {
        stand.good(ten(0x35, 1, 5, flags));
        CHECK(stand.kinds() == std::vector{Op::flush});
        stand.good(sixteen(0x91, 1, 0, flags));
        CHECK(stand.kinds() == std::vector{Op::flush});
    }
    stand.good(ten(0x34, 1, 5));
    stand.good(sixteen(0x90, 1, 5));
    CHECK(stand.disk.operations.empty());
}

TEST_CASE("what fails below is told") {
    Stand stand;
    struct Row {
        int64_t result;
        Bytes cdb;
        Status status;
        SenseKey key;
        S code;
    };
    const auto read = ten(0x28, 6, 2), write = ten(0x2a, 6, 2), flush = ten(0x35, 0, 0);
    const Row rows[] = {
        {-EIO, read, Status::check_condition, SenseKey::medium_error, S::unrecovered_read_error},
        {-EIO, write, Status::check_condition, SenseKey::medium_error, S::write_error},
        {-EIO, flush, Status::check_condition, SenseKey::medium_error, S::write_error},
        {-ENOSPC, write, Status::check_condition, SenseKey::data_protect, S::space_allocation_failed_write_protect},
        {-EROFS, write, Status::check_condition, SenseKey::data_protect, S::write_protected},
        {-ENODEV, read, Status::check_condition, SenseKey::not_ready, S::logical_unit_not_ready_cause_not_reportable},
        {-ETIMEDOUT, read, Status::check_condition, SenseKey::aborted_command, S::no_additional_sense_information},
        {-EINVAL, read, Status::check_condition, SenseKey::hardware_error, S::internal_target_failure},
        {1023, read, Status::check_condition, SenseKey::hardware_error, S::internal_target_failure},
        {0, write, Status::check_condition, SenseKey::hardware_error, S::internal_target_failure},
        {-EBADE, write, Status::reservation_conflict, {}, {}},
        {-ENOMEM, read, Status::busy, {}, {}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.result);
        CAPTURE(int{row.cdb[0]});
        stand.disk.fault = [&](const Operation&) { return row.result; };
        const auto command = stand.run(row.cdb, Bytes(1024));
        CHECK(command->task.status == row.status);
        CHECK(command->task.data_in_bytes == 0);
        CHECK(command->task.sense.empty() == (row.status != Status::check_condition));
        if (row.status != Status::check_condition) continue;
        CHECK(command->key() == row.key);
        CHECK(command->code() == row.code);
        if (row.result == -EIO && row.cdb != flush) CHECK(information(*command) == 6);
    }
}

TEST_CASE("read-only disks and openers write nothing") {
    const auto list = unmap_list({{0, 1}});
    const std::vector<Bytes> writes = {ten(0x2a, 0, 1),        ten(0x2e, 0, 1),         ten(0x41, 0, 1),
                                       unmap_cdb(list.size()), compare_and_write(0, 1), {0x0a, 0, 0, 0, 1, 0}};
    auto configuration = scsi_configuration();
    configuration.geometry.read_only = true;
    Stand disk(configuration), opener;
    opener.disk.writable = false;
    for (auto* stand : {&disk, &opener}) {
        for (const auto& cdb : writes) stand->refused(cdb, S::write_protected, Bytes(4096, 1), SenseKey::data_protect);
        stand->good(ten(0x28, 0, 1));
        stand->good(ten(0x35, 0, 0));
        CHECK((stand->run({0x1a, 0, 0x3f, 0, 255, 0})->answer()[2] & 0x80) != 0);
    }
    // An opener who only reads does not change the disk for others either; on a read-only disk that is nobody's loss.
    const std::vector<Bytes> others = {
        {0x15, 0x10, 0, 0, 0, 0}, {0x1b, 0, 0, 0, 4, 0}, {0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0}};
    Bytes registration(24);
    registration[15] = 1;
    for (const auto& cdb : others) {
        opener.refused(cdb, S::write_protected, registration, SenseKey::data_protect);
        disk.good(cdb, registration);
    }
    CHECK(opener.disk.unit->reservations() == ReservationState{});
    opener.good({0x1b, 0, 0, 0, 1, 0});
    opener.good({0x1d, 4, 0, 0, 0, 0});
}
