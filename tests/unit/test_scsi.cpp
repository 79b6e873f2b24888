// What the SCSI disk says of itself: sense data, INQUIRY, capacity, mode and log pages, reports; and what it refuses.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "daemon/node/scsi/inquiry.hpp"
#include "tests/unit/scsi_disk.hpp"

using namespace storctl::node::scsi;
using storctl::test::scsi_configuration;
using storctl::test::ScsiCommand;
using storctl::test::ScsiDisk;

namespace {

using S = AdditionalSense;

std::string text(const Bytes& bytes, size_t at, size_t count) {
    return {bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + count)};
}

struct Stand {
    ScsiDisk disk;
    std::shared_ptr<Nexus> a, b;

    explicit Stand(UnitConfiguration configuration = scsi_configuration())
        : disk(std::move(configuration)), a(disk.attach("a")), b(disk.attach("b")) {}
    auto run(Bytes cdb, const Bytes& data = {}) { return disk.run(*a, std::move(cdb), data); }
    Bytes good(Bytes cdb, const Bytes& data = {}) {
        const auto command = run(std::move(cdb), data);
        CHECK(command->task.status == Status::good);
        return command->answer();
    }
    void refused(Bytes cdb, S code, const Bytes& data = {}, SenseKey key = SenseKey::illegal_request) {
        const auto command = run(std::move(cdb), data);
        REQUIRE(command->task.status == Status::check_condition);
        CHECK(command->key() == key);
        CHECK(command->code() == code);
    }
    FieldPointer pointer(Bytes cdb, const Bytes& data = {}) {
        const auto command = run(std::move(cdb), data);
        REQUIRE(command->task.sense.size() == 18);
        const auto& sense = command->task.sense;
        REQUIRE((sense[15] & 0x80) != 0);
        FieldPointer out{.in_cdb = (sense[15] & 0x40) != 0, .byte = get_be16(sense, 16)};
        if ((sense[15] & 0x08) != 0) out.bit = sense[15] & 7;
        return out;
    }
};

}  // namespace

TEST_CASE("sense data in the fixed format") {
    const Sense sense{
        .key = SenseKey::miscompare, .code = S::miscompare_during_verify_operation, .information = 0x12345678};
    CHECK(encode_sense(sense, SenseFormat::fixed) ==
          Bytes{0xf0, 0, 0x0e, 0x12, 0x34, 0x56, 0x78, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0});
    // no room for 64 bits: not valid
    CHECK(encode_sense({.information = 1ull << 32}, SenseFormat::fixed) ==
          Bytes{0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(encode_sense(invalid_field_in_cdb(0x0102, 7), SenseFormat::fixed) ==
          Bytes{0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 1, 2});
    CHECK(encode_sense(invalid_field_in_parameter_list(9), SenseFormat::fixed) ==
          Bytes{0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x26, 0, 0, 0x80, 0, 9});
}

TEST_CASE("sense data in descriptors") {
    CHECK(encode_sense(lba_out_of_range(0x1122334455), SenseFormat::descriptor) ==
          Bytes{0x72, 5, 0x21, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55});
    CHECK(encode_sense(invalid_field_in_cdb(2, 5), SenseFormat::descriptor) ==
          Bytes{0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcd, 0, 2, 0});
    CHECK(encode_sense({}, SenseFormat::descriptor) == Bytes{0x72, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("a disk that cannot be is not made") {
    struct Row {
        const char* name;
        void (*spoil)(UnitConfiguration&);
    };
    const Row rows[] = {
        {"no blocks", [](UnitConfiguration& c) { c.geometry.blocks = 0; }},
        {"blocks of 520 bytes", [](UnitConfiguration& c) { c.geometry.block_bytes = 520; }},
        {"physical blocks smaller than logical ones",
         [](UnitConfiguration& c) { c.geometry.physical_block_bytes = 256; }},
        {"more than 2^64 bytes", [](UnitConfiguration& c) { c.geometry.blocks = UINT64_MAX; }},
        {"an NAA identifier of 7 bytes", [](UnitConfiguration& c) { c.identity.naa.resize(7); }},
        {"an EUI-64 of 9 bytes", [](UnitConfiguration& c) { c.identity.eui64.resize(9); }},
        {"no target port", [](UnitConfiguration& c) { c.identity.target_ports = 0; }},
        {"scratch of less than a block", [](UnitConfiguration& c) { c.limits.scratch_bytes = 100; }},
        {"reservations with a key of 0",
         [](UnitConfiguration& c) {
             c.reservations.registrations = {{{"x", 1}, 0}};
         }},
    };
    CHECK(LogicalUnit::make(scsi_configuration()));
    for (const auto& row : rows) {
        CAPTURE(row.name);
        auto configuration = scsi_configuration();
        row.spoil(configuration);
        CHECK_FALSE(LogicalUnit::make(configuration));
    }
}

TEST_CASE("INQUIRY, standard data") {
    Stand stand;
    const auto data = stand.good({0x12, 0, 0, 0, 255, 0});
    REQUIRE(data.size() == 96);
    CHECK(data[0] == 0);
    CHECK(data[2] == 7);
    CHECK((data[3] & 0x0f) == 2);
    CHECK(data[4] == 91);
    CHECK((data[7] & 2) == 2);
    CHECK(text(data, 8, 8) == "STORCTL ");
    CHECK(text(data, 16, 16) == "block node      ");
    CHECK(text(data, 32, 4) == "0001");
    CHECK(get_be64(data, 58) == 0x00a005c006000460);  // SAM-5, SPC-5, SBC-4, SPC-4
    SUBCASE("cut to the allocation length") {
        CHECK(stand.good({0x12, 0, 0, 0, 36, 0}) == Bytes(data.begin(), data.begin() + 36));
    }
    SUBCASE("cut to the room that there is") {
        const auto command = stand.disk.run(*stand.a, {0x12, 0, 0, 0, 255, 0}, {}, 7);
        CHECK(command->answer() == Bytes(data.begin(), data.begin() + 7));
    }
    SUBCASE("nothing for nothing") { CHECK(stand.good({0x12, 0, 0, 0, 0, 0}).empty()); }
    SUBCASE("a page code without EVPD") {
        CHECK(stand.pointer({0x12, 0, 0x80, 0, 255, 0}) == FieldPointer{true, 2, {}});
    }
    SUBCASE("a page that is not there") {
        CHECK(stand.pointer({0x12, 1, 0x84, 0, 255, 0}) == FieldPointer{true, 2, {}});
    }
    SUBCASE("CMDDT") { CHECK(stand.pointer({0x12, 2, 0, 0, 255, 0}) == FieldPointer{true, 1, uint8_t{1}}); }
}

TEST_CASE("INQUIRY, vital product data") {
    Stand stand;
    const auto page = [&](uint8_t code) { return stand.good({0x12, 1, code, 0, 255, 0}); };
    CHECK(page(0x00) == Bytes{0, 0, 0, 6, 0, 0x80, 0x83, 0xb0, 0xb1, 0xb2});
    CHECK(text(page(0x80), 4, 9) == "web1-0042");
    const auto id = page(0x83);
    CHECK(get_be16(id, 2) == id.size() - 4);
    CHECK(Bytes(id.begin() + 4, id.begin() + 16) == Bytes{1, 3, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4});
    CHECK(Bytes(id.begin() + 16, id.begin() + 28) == Bytes{1, 2, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8});
    CHECK(Bytes(id.begin() + 28, id.begin() + 32) == Bytes{2, 1, 0, 33});
    CHECK(text(id, 32, 33) == "STORCTL block node      web1-0042");
    CHECK(Bytes(id.end() - 8, id.end()) == Bytes{1, 0x14, 0, 4, 0, 0, 0, 1});

    const auto limits = page(0xb0);
    CHECK(limits.size() == 64);
    CHECK(limits[4] == 1);
    CHECK(limits[5] == 64);
    CHECK(get_be16(limits, 6) == 8);
    CHECK(get_be32(limits, 8) == 256);
    CHECK(get_be32(limits, 20) == 0xffffffff);
    CHECK(get_be32(limits, 24) == 256);
    CHECK(get_be32(limits, 32) == 0x80000000);
    CHECK(get_be64(limits, 36) == 1 << 22);
    CHECK(get_be16(page(0xb1), 4) == 1);
    CHECK(page(0xb2) == Bytes{0, 0xb2, 0, 4, 0, 0xe4, 2, 0});
}

TEST_CASE("what is not known or not there is not shown") {
    auto configuration = scsi_configuration();
    configuration.identity.naa.clear();
    configuration.identity.eui64.clear();
    configuration.identity.serial.clear();
    configuration.geometry.thin = false;
    configuration.geometry.rotation = 7200;
    Stand stand(configuration);
    const auto page = [&](uint8_t code) { return stand.good({0x12, 1, code, 0, 255, 0}); };
    CHECK(page(0x80) == Bytes{0, 0x80, 0, 0});
    const auto id = page(0x83);
    CHECK(id[5] == 0x01);
    CHECK(get_be(page(0xb0), 20, 8) == 0);
    CHECK(get_be(page(0xb0), 28, 8) == 0);
    CHECK(get_be16(page(0xb1), 4) == 7200);
    CHECK(page(0xb2) == Bytes{0, 0xb2, 0, 4, 0, 0, 0, 0});
    CHECK(stand.good({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0})[14] == 0);
    stand.refused({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, S::invalid_command_operation_code);
    CHECK(stand.pointer({0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, Bytes(512)) ==
          FieldPointer{true, 1, uint8_t{3}});
}

TEST_CASE("capacity") {
    Stand stand;
    CHECK(stand.good({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}) == Bytes{0, 0, 7, 0xff, 0, 0, 2, 0});
    const auto data = stand.good({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0});
    CHECK(data.size() == 32);
    CHECK(Bytes(data.begin(), data.begin() + 16) == Bytes{0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0});
    CHECK(read_capacity_10({.blocks = 1ull << 40}) == Bytes{0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0});
}

TEST_CASE("MODE SENSE") {
    Stand stand;
    SUBCASE("all pages, 6 bytes") {
        const auto data = stand.good({0x1a, 0, 0x3f, 0, 255, 0});
        CHECK(data.size() == 4 + 8 + 20 + 12 + 12);
        CHECK(data[0] == data.size() - 1);
        CHECK(data[2] == 0x10);
        CHECK(data[3] == 8);
        CHECK(get_be32(data, 4) == 2048);
        CHECK(get_be32(data, 8) == 512);
        CHECK(data[12] == 0x08);
        CHECK(data[14] == 0x04);
        CHECK(data[32] == 0x0a);
        CHECK(data[44] == 0x1c);
    }
    SUBCASE("10 bytes, long LBA") {
        const auto data = stand.good({0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255, 0});
        CHECK(get_be16(data, 0) == data.size() - 2);
        CHECK(data[4] == 1);
        CHECK(get_be16(data, 6) == 16);
        CHECK(get_be64(data, 8) == 2048);
        CHECK(get_be32(data, 20) == 512);
    }
    SUBCASE("DBD") { CHECK(stand.good({0x5a, 0x08, 0x0a, 0, 0, 0, 0, 0, 255, 0}).size() == 8 + 12); }
    SUBCASE("changeable") {
        CHECK(stand.good({0x1a, 0x08, 0x48, 0, 255, 0})[6] == 0x04);
        const auto control = stand.good({0x1a, 0x08, 0x4a, 0, 255, 0});
        CHECK(Bytes(control.begin() + 4, control.end()) == Bytes{0x0a, 10, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0});
    }
    SUBCASE("saved") { stand.refused({0x1a, 0, 0xff, 0, 255, 0}, S::saving_parameters_not_supported); }
    SUBCASE("a page that is not there") {
        CHECK(stand.pointer({0x1a, 0, 0x02, 0, 255, 0}) == FieldPointer{true, 2, uint8_t{5}});
    }
    SUBCASE("a subpage that is not there") {
        CHECK(stand.pointer({0x1a, 0, 0x0a, 5, 255, 0}) == FieldPointer{true, 3, {}});
    }
    SUBCASE("all subpages") { CHECK(stand.good({0x1a, 0, 0x3f, 0xff, 255, 0}).size() == 56); }
}

TEST_CASE("MODE SELECT changes what can be changed, and tells others") {
    Stand stand;
    Bytes list = {0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0};
    const Bytes select = {0x15, 0x10, 0, 0, static_cast<uint8_t>(list.size()), 0};
    CHECK(stand.good(select, list).empty());
    CHECK_FALSE(stand.disk.unit->mode().write_cache);
    // what the cache held is flushed first
    REQUIRE(stand.disk.operations.size() == 1);
    CHECK(stand.disk.operations[0].kind == BlockOperation::flush);
    const auto told = stand.disk.run(*stand.b, {0, 0, 0, 0, 0, 0});
    CHECK(told->key() == SenseKey::unit_attention);
    CHECK(told->code() == S::mode_parameters_changed);
    CHECK(stand.disk.run(*stand.b, {0, 0, 0, 0, 0, 0})->task.status == Status::good);
    CHECK(stand.good({0, 0, 0, 0, 0, 0}).empty());
    CHECK((stand.good({0x1a, 0x08, 0x08, 0, 255, 0})[6] & 4) == 0);
    CHECK((stand.good({0x1a, 0x08, 0x88, 0, 255, 0})[6] & 4) == 4);  // default

    SUBCASE("nothing new: nobody is told") {
        stand.good(select, list);
        CHECK(stand.disk.run(*stand.b, {0, 0, 0, 0, 0, 0})->task.status == Status::good);
    }
    SUBCASE("without a cache every write is durable") {
        stand.good({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, Bytes(512, 7));
        CHECK(stand.disk.operations.back().fua);
    }
    SUBCASE("a flush that fails leaves the cache on") {
        list[6] = 0x04;
        stand.good(select, list);
        list[6] = 0;
        stand.disk.fault = [](const Operation&) { return -EIO; };
        stand.refused(select, S::write_error, list, SenseKey::medium_error);
        CHECK(stand.disk.unit->mode().write_cache);
    }
    SUBCASE("sense data as D_SENSE says") {
        const Bytes control = {0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 10, 0x06, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0};
        stand.good({0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0}, control);
        CHECK(stand.run({0xff, 0, 0, 0, 0, 0})->task.sense == Bytes{0x72, 5, 0x20, 0, 0, 0, 0, 0});
        stand.disk.unit->reset();
        CHECK(stand.run({0, 0, 0, 0, 0, 0})->task.sense[0] == 0x70);
    }
    SUBCASE("software write protection") {
        const Bytes control = {0, 0, 0, 0, 0x0a, 10, 0x02, 0x10, 0x08, 0x40, 0, 0, 0xff, 0xff, 0, 0};
        stand.good({0x15, 0x10, 0, 0, 16, 0}, control);
        stand.refused({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, S::logical_unit_software_write_protected, Bytes(512),
                      SenseKey::data_protect);
        CHECK(stand.good({0x1a, 0, 0x3f, 0, 255, 0})[2] == 0x90);
    }
}

TEST_CASE("MODE SELECT refuses as a whole") {
    Stand stand;
    const Bytes caching = {0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0};
    const auto with = [&](size_t at, uint8_t value) {
        Bytes out = caching;
        out[at] = value;
        return out;
    };
    const auto select = [](size_t length, uint8_t flags = 0x10) {
        return Bytes{0x15, flags, 0, 0, static_cast<uint8_t>(length), 0};
    };
    const auto before = stand.disk.unit->mode();
    CHECK(stand.pointer(select(24, 0x11), caching) == FieldPointer{true, 1, uint8_t{0}});
    CHECK(stand.pointer(select(24, 0x00), caching) == FieldPointer{true, 1, uint8_t{4}});
    CHECK(stand.pointer(select(24), with(6, 0x05)) == FieldPointer{false, 6, uint8_t{0}});
    CHECK(stand.pointer(select(24), with(16, 0)) == FieldPointer{false, 16, uint8_t{5}});
    CHECK(stand.pointer(select(24), with(5, 10)) == FieldPointer{false, 5, {}});
    CHECK(stand.pointer(select(24), with(4, 0x09)) == FieldPointer{false, 4, {}});
    CHECK(stand.pointer(select(24), with(4, 0x48)) == FieldPointer{false, 4, {}});
    CHECK(stand.pointer(select(24), with(3, 4)) == FieldPointer{false, 3, {}});
    CHECK(stand.pointer(select(24), with(1, 1)) == FieldPointer{false, 1, {}});
    stand.refused(select(23), S::parameter_list_length_error, Bytes(caching.begin(), caching.end() - 1));
    stand.refused(select(3), S::parameter_list_length_error, Bytes(3));
    stand.refused(select(5), S::parameter_list_length_error, Bytes(caching.begin(), caching.begin() + 5));
    stand.refused(select(24), S::parameter_list_length_error, Bytes(10));  // less came than the CDB says
    // a good page before a bad one
    Bytes two = caching;
    two.insert(two.end(), {0x0a, 10, 0x02, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0});
    CHECK(stand.pointer(select(two.size()), two) == FieldPointer{false, 29, uint8_t{6}});
    // other blocks than there are
    const Bytes descriptor = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 4, 0};
    CHECK(stand.pointer(select(12), descriptor) == FieldPointer{false, 9, {}});
    CHECK(stand.disk.unit->mode() == before);
    CHECK(stand.good(select(0)).empty());
    CHECK(stand.good(select(12), {0, 0, 0, 8, 0, 0, 8, 0, 0, 0, 2, 0}).empty());
}

TEST_CASE("REPORT LUNS") {
    Stand stand;
    const auto report = [&](uint8_t select, uint8_t length) {
        return Bytes{0xa0, 0, select, 0, 0, 0, 0, 0, 0, length, 0, 0};
    };
    CHECK(stand.good(report(0, 255)) == Bytes{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(stand.good(report(2, 16)).size() == 16);
    CHECK(stand.good(report(1, 16)) == Bytes(8));
    CHECK(stand.pointer(report(0, 15)) == FieldPointer{true, 6, {}});
    CHECK(stand.pointer(report(3, 16)) == FieldPointer{true, 2, {}});
}

TEST_CASE("REPORT SUPPORTED OPERATION CODES") {
    Stand stand;
    const auto report = [&](uint8_t option, uint8_t opcode, uint8_t action) {
        return Bytes{0xa3, 0x0c, option, opcode, 0, action, 0, 0, 0xff, 0xff, 0, 0};
    };
    const auto all = stand.good(report(0, 0, 0));
    CHECK(get_be32(all, 0) == all.size() - 4);
    CHECK((all.size() - 4) / 8 == all_commands().size());
    const auto timed = stand.good(report(0x80, 0, 0));
    CHECK((timed.size() - 4) / 20 == all_commands().size());
    CHECK(timed[4 + 5] == 0x02);
    CHECK(get_be16(timed, 12) == 10);

    const Bytes read16 = {0, 3, 0, 16, 0x88, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0};
    CHECK(stand.good(report(1, 0x88, 0)) == read16);
    CHECK(stand.good(report(3, 0x88, 0)) == read16);
    CHECK(stand.good(report(3, 0x88, 1)) == Bytes{0, 1, 0, 0});
    CHECK(stand.pointer(report(2, 0x88, 0)) == FieldPointer{true, 2, uint8_t{2}});
    CHECK(stand.pointer(report(1, 0x9e, 0x10)) == FieldPointer{true, 2, uint8_t{2}});
    CHECK(stand.good(report(2, 0x9e, 0x10))[5] == 0x10);
    CHECK(stand.good(report(3, 0x9e, 0x11)) == Bytes{0, 1, 0, 0});
    CHECK(stand.good(report(1, 0x99, 0)) == Bytes{0, 1, 0, 0});
    const auto one = stand.good(report(0x81, 0x88, 0));
    CHECK(one[1] == 0x83);
    CHECK(get_be32(one, one.size() - 4) == 30);
    CHECK(stand.pointer(report(4, 0, 0)) == FieldPointer{true, 2, uint8_t{2}});
}

TEST_CASE("each command that is reported is one that is known, and the other way round") {
    Stand stand;
    for (const auto& row : all_commands()) {
        CAPTURE(int{row.opcode});
        CHECK(row.usage[0] == row.opcode);
        for (size_t i = row.length; i < 16; ++i) CHECK(row.usage[i] == 0);
        Bytes cdb(row.length);
        cdb[0] = row.opcode;
        cdb[1] = row.service_action.value_or(0);
        CHECK(find_command(cdb, stand.disk.unit->geometry()).row == &row);
    }
}

TEST_CASE("the other reports") {
    Stand stand;
    CHECK(stand.good({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}) == Bytes{8, 0, 0, 0});
    CHECK(stand.good({0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0}).size() == 16);
    CHECK(stand.pointer({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0}) == FieldPointer{true, 6, {}});
    const auto status = stand.good({0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 255, 0, 0});
    CHECK(status.size() == 24);
    CHECK(get_be32(status, 0) == 20);
    CHECK(get_be64(status, 8) == 5);
    CHECK(get_be32(status, 16) == 2043);
    stand.refused({0x9e, 0x12, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 255, 0, 0}, S::logical_block_address_out_of_range);
}

TEST_CASE("LOG SENSE") {
    Stand stand;
    const auto sense = [](uint8_t page, uint8_t subpage, uint8_t parameter = 0) {
        return Bytes{0x4d, 0, static_cast<uint8_t>(0x40 | page), subpage, 0, 0, parameter, 0, 255, 0};
    };
    CHECK(stand.good(sense(0, 0)) == Bytes{0, 0, 0, 2, 0, 0x2f});
    CHECK(stand.good(sense(0, 0xff)) == Bytes{0x40, 0xff, 0, 6, 0, 0, 0, 0xff, 0x2f, 0});
    CHECK(stand.good(sense(0x2f, 0)) == Bytes{0x2f, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0xff, 0xff});
    stand.disk.unit->set_exception(static_cast<S>(0x5d10));
    CHECK(stand.good(sense(0x2f, 0))[8] == 0x5d);
    CHECK(stand.good({0x03, 0, 0, 0, 18, 0})[12] == 0x5d);
    CHECK(stand.pointer(sense(0x0d, 0)) == FieldPointer{true, 2, uint8_t{5}});
    CHECK(stand.pointer(sense(0x2f, 1)) == FieldPointer{true, 3, {}});
    CHECK(stand.pointer(sense(0x2f, 0, 1)) == FieldPointer{true, 5, {}});
    CHECK(stand.pointer({0x4d, 1, 0x40, 0, 0, 0, 0, 0, 255, 0}) == FieldPointer{true, 1, uint8_t{0}});
    CHECK(stand.pointer({0x4d, 0, 0x2f, 0, 0, 0, 0, 0, 255, 0}) == FieldPointer{true, 2, uint8_t{7}});
}

TEST_CASE("unit attentions: once, to each, the most important first") {
    Stand stand;
    const auto late = stand.disk.attach("late", {.power_on = true});
    stand.disk.unit->resize(1024);
    stand.disk.unit->change_identity({.vendor = "OTHER"});
    const auto next = [&](Nexus& nexus) {
        const auto command = stand.disk.run(nexus, {0, 0, 0, 0, 0, 0});
        return command->task.status == Status::good ? S::no_additional_sense_information : command->code();
    };
    // neither reported to nor taken by these
    CHECK(stand.disk.run(*late, {0x12, 0, 0, 0, 36, 0})->task.status == Status::good);
    CHECK(stand.disk.run(*late, {0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0})->task.status == Status::good);
    CHECK(next(*late) == S::power_on_reset_or_bus_device_reset_occurred);
    CHECK(next(*late) == S::inquiry_data_has_changed);
    CHECK(next(*late) == S::capacity_data_has_changed);
    CHECK(next(*late) == S::no_additional_sense_information);
    // REQUEST SENSE takes it in its data
    const auto sense = stand.good({0x03, 0, 0, 0, 18, 0});
    CHECK(sense[2] == 6);
    CHECK(get_be16(sense, 12) == 0x3f03);
    CHECK(stand.good({0x03, 1, 0, 0, 18, 0}) == Bytes{0x72, 6, 0x2a, 9, 0, 0, 0, 0});
    CHECK(stand.good({0x03, 0, 0, 0, 18, 0})[2] == 0);
    // before a wrong opcode and before anything is changed
    stand.disk.unit->resize(512);
    stand.refused({0xff, 0, 0, 0, 0, 0}, S::capacity_data_has_changed, {}, SenseKey::unit_attention);
    stand.refused({0xff, 0, 0, 0, 0, 0}, S::invalid_command_operation_code);
    stand.disk.unit->resize(512);
    stand.disk.unit->resize(0);
    CHECK(next(*stand.a) == S::no_additional_sense_information);
    stand.disk.unit->reset();
    CHECK(next(*stand.a) == S::bus_device_reset_function_occurred);
}

TEST_CASE("the same name is the same nexus, until it is gone") {
    Stand stand;
    CHECK(stand.disk.attach("a").get() == stand.a.get());
    CHECK_FALSE(stand.disk.unit->attach({"iqn.x", 2}));
    CHECK_FALSE(stand.disk.unit->attach({"", 1}));
    CHECK_FALSE(stand.disk.unit->attach({"has blank", 1}));
    stand.a.reset();
    const auto again = stand.disk.attach("a", {.power_on = true});
    CHECK(stand.disk.run(*again, {0, 0, 0, 0, 0, 0})->code() == S::power_on_reset_or_bus_device_reset_occurred);
}

TEST_CASE("START STOP UNIT") {
    Stand stand;
    CHECK(stand.good({0x1b, 0, 0, 0, 0, 0}).empty());
    CHECK(stand.disk.operations.back().kind == BlockOperation::flush);
    const auto not_ready = S::logical_unit_not_ready_initializing_command_required;
    stand.refused({0, 0, 0, 0, 0, 0}, not_ready, {}, SenseKey::not_ready);
    stand.refused({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, not_ready, {}, SenseKey::not_ready);
    CHECK(stand.good({0x03, 0, 0, 0, 18, 0})[2] == 2);
    CHECK(stand.good({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}).size() == 8);
    CHECK(stand.good({0x1b, 0, 0, 0, 1, 0}).empty());
    CHECK(stand.good({0, 0, 0, 0, 0, 0}).empty());
    CHECK(stand.pointer({0x1b, 0, 0, 0, 0x30, 0}) == FieldPointer{true, 4, uint8_t{7}});
    CHECK(stand.pointer({0x1b, 0, 0, 0, 2, 0}) == FieldPointer{true, 4, uint8_t{1}});
    const auto before = stand.disk.operations.size();
    CHECK(stand.good({0x1b, 0, 0, 0, 4, 0}).empty());  // NO_FLUSH
    CHECK(stand.disk.operations.size() == before);
}

TEST_CASE("what is refused whatever the command") {
    Stand stand;
    CHECK(stand.pointer({0x12, 0, 0, 0, 36, 4}) == FieldPointer{true, 5, uint8_t{2}});  // NACA
    CHECK(stand.pointer({0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) == FieldPointer{true, 1, uint8_t{4}});
    CHECK(stand.pointer({0x28, 0, 0, 0, 0, 0, 0, 0, 1}) == FieldPointer{true, 9, {}});
    CHECK(stand.good({0x1d, 0x04, 0, 0, 0, 0}).empty());
    CHECK(stand.pointer({0x1d, 0x20, 0, 0, 0, 0}) == FieldPointer{true, 1, uint8_t{7}});
    CHECK(stand.pointer({0x1d, 0, 0, 0, 8, 0}) == FieldPointer{true, 3, {}});
}
