// The ioctls beside SG_IO, over memory that is reached directly and in legs.

#include <doctest/doctest.h>
#include <linux/fs.h>

#include "daemon/node/sg/controls.hpp"
#include "tests/unit/sg_caller.hpp"

using namespace storctl::node;
using namespace storctl::node::sg;
using namespace storctl::node::sg::testing;

namespace {

constexpr size_t place = 0x1000;
constexpr uint8_t untouched = 0xee;

struct Opened {
    Controls controls;
    UnitFacts facts = {.blocks = 2048,
                       .block_bytes = 512,
                       .physical_block_bytes = 4096,
                       .read_only = false,
                       .most_data_bytes = 1 << 20,
                       .host_number = 5,
                       .in_flight = 0};
    Layout layout = Layout::bits64;
    Way way = Way::direct;
    FakeProcess process;
    ControlAction action = ControlAction::none;

    uint64_t address() const { return place + (layout == Layout::bits64 ? FakeProcess::base : FakeProcess::base_32); }
    int call(uint64_t number, uint64_t argument) {
        const auto operation = [&](CallerMemory& memory) {
            return controls.control(static_cast<uint32_t>(number), argument, layout, facts, memory, action);
        };
        if (way == Way::legs) return in_legs(process, operation);
        DirectMemory memory(process);
        return operation(memory);
    }
    int ask(uint64_t number) {
        std::fill_n(process.memory.begin() + place, 512, std::byte{untouched});
        return call(number, address());
    }
    /// How many bytes it wrote, if it wrote what is not `untouched`.
    size_t written() const {
        size_t length = 512;
        while (length > 0 && process.memory[place + length - 1] == std::byte{untouched}) --length;
        return length;
    }
    int set(uint64_t number, int32_t value) {
        process.put(address(), value);
        return call(number, address());
    }
    int32_t told(uint64_t number) {
        REQUIRE(ask(number) == 0);
        CHECK(written() == 4);
        return process.get<int32_t>(address());
    }
    template <class T>
    T value() {
        return process.get<T>(address());
    }
};

/// Both layouts, both ways.
void everywhere(const std::function<void(Opened&)>& test) {
    for (const auto layout : {Layout::bits64, Layout::bits32}) {
        for (const auto way : {Way::direct, Way::legs}) {
            CAPTURE(static_cast<int>(layout));
            CAPTURE(static_cast<int>(way));
            Opened opened;
            opened.layout = layout;
            opened.way = way;
            test(opened);
        }
    }
}

}  // namespace

TEST_CASE("what programs ask is told as an int") {
    struct Row {
        uint64_t number;
        int32_t expected;
    };
    everywhere([](Opened& opened) {
        for (const auto& row :
             {Row{SG_GET_VERSION_NUM, 30536}, Row{SG_EMULATED_HOST, 0}, Row{SG_GET_COMMAND_Q, 1},
              Row{SG_GET_KEEP_ORPHAN, 0}, Row{SG_GET_LOW_DMA, 0}, Row{SG_GET_TRANSFORM, 0}, Row{0x2289, 1},
              Row{SG_GET_RESERVED_SIZE, 32768}, Row{SG_GET_PACK_ID, -1}, Row{SG_GET_NUM_WAITING, 0},
              Row{SG_GET_SG_TABLESIZE, 256}, Row{BLKSECTGET, 1 << 20}, Row{0x5386, 5}, Row{BLKSSZGET, 512},
              Row{BLKPBSZGET, 4096}, Row{BLKIOMIN, 4096}, Row{BLKALIGNOFF, 0}, Row{BLKROGET, 0}}) {
            CAPTURE(row.number);
            CHECK(opened.told(row.number) == row.expected);
            CHECK(opened.action == ControlAction::none);
        }
        opened.facts.read_only = true;
        CHECK(opened.told(BLKROGET) == 1);
        opened.facts.most_data_bytes = 126976;
        CHECK(opened.told(SG_GET_SG_TABLESIZE) == 31);
        CHECK(opened.told(BLKSECTGET) == 126976);
        opened.facts.most_data_bytes = uint64_t{1} << 40;
        CHECK(opened.told(BLKSECTGET) == INT32_MAX);
    });
}

TEST_CASE("what is set is told again, of this open") {
    struct Row {
        uint64_t set, get;
        int32_t value, expected;
    };
    everywhere([](Opened& opened) {
        for (const auto& row :
             {Row{SG_SET_COMMAND_Q, SG_GET_COMMAND_Q, 0, 0}, Row{SG_SET_COMMAND_Q, SG_GET_COMMAND_Q, 7, 1},
              Row{SG_SET_KEEP_ORPHAN, SG_GET_KEEP_ORPHAN, 1, 1},
              Row{SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, 65536, 65536},
              Row{SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, 65537, 66048},
              Row{SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, 0, 4096},
              Row{SG_SET_RESERVED_SIZE, SG_GET_RESERVED_SIZE, INT32_MAX, 1 << 20}}) {
            CAPTURE(row.set);
            CAPTURE(row.value);
            REQUIRE(opened.set(row.set, row.value) == 0);
            CHECK(opened.told(row.get) == row.expected);
        }
        // as much as this caller's commands may have now
        opened.facts.most_data_bytes = 8192;
        CHECK(opened.told(SG_GET_RESERVED_SIZE) == 8192);
        CHECK(Opened().told(SG_GET_KEEP_ORPHAN) == 0);

        CHECK_FALSE(opened.controls.force_pack_id());
        REQUIRE(opened.set(SG_SET_FORCE_PACK_ID, 1) == 0);
        CHECK(opened.controls.force_pack_id());
        REQUIRE(opened.set(SG_SET_FORCE_PACK_ID, 0) == 0);
        CHECK_FALSE(opened.controls.force_pack_id());
    });
}

TEST_CASE("a timeout is set through a pointer and told by the result") {
    everywhere([](Opened& opened) {
        CHECK(opened.call(SG_GET_TIMEOUT, 0) == 6000);
        CHECK(opened.controls.timeout_ms() == 60'000);
        REQUIRE(opened.set(SG_SET_TIMEOUT, 1234) == 0);
        CHECK(opened.call(SG_GET_TIMEOUT, 0) == 1234);
        CHECK(opened.controls.timeout_ms() == 12'340);
        CHECK(opened.set(SG_SET_TIMEOUT, -1) == -EIO);
        CHECK(opened.call(SG_GET_TIMEOUT, 0) == 1234);
        REQUIRE(opened.set(SG_SET_TIMEOUT, INT32_MAX) == 0);
        CHECK(opened.call(SG_GET_TIMEOUT, 0) == INT32_MAX / 10);
    });
}

TEST_CASE("sizes come in the width of the caller") {
    everywhere([](Opened& opened) {
        const bool wide = opened.layout == Layout::bits64;
        opened.facts.blocks = uint64_t{0xa1} << 24 | 0xa1a1a1;  // so that each byte is seen
        opened.facts.block_bytes = 4096;
        REQUIRE(opened.ask(wide ? BLKGETSIZE64 : 0x80041272) == 0);
        CHECK(opened.value<uint64_t>() == opened.facts.blocks * 4096);

        opened.facts.blocks >>= 4;
        REQUIRE(opened.ask(BLKGETSIZE) == 0);
        CHECK(opened.written() == 4 + (wide ? 4 : 0));
        CHECK(opened.value<uint32_t>() == opened.facts.blocks * 8);
        CHECK(opened.told(wide ? BLKBSZGET : 0x80041270) == 4096);

        opened.facts.blocks = uint64_t{1} << 32;
        CHECK(opened.ask(BLKGETSIZE) == (wide ? 0 : -EFBIG));
        if (wide) CHECK(opened.value<uint64_t>() == uint64_t{8} << 32);
    });
}

TEST_CASE("the place of the disk is host, target 0, LUN 0") {
    everywhere([](Opened& opened) {
        REQUIRE(opened.ask(SG_GET_SCSI_ID) == 0);
        static_assert(sizeof(sg_scsi_id) == 32);
        CHECK(opened.written() == sizeof(sg_scsi_id));
        const auto id = opened.value<sg_scsi_id>();
        CHECK(id.host_no == 5);
        CHECK(id.channel == 0);
        CHECK(id.scsi_id == 0);
        CHECK(id.lun == 0);
        CHECK(id.scsi_type == 0);
        CHECK(id.d_queue_depth > 0);
        CHECK(id.unused[1] == 0);

        REQUIRE(opened.ask(0x5382) == 0);
        CHECK(opened.written() == 8);
        CHECK(opened.value<uint64_t>() == (uint64_t{5} << 32 | 0x05000000));
        CHECK(opened.ask(0x5387) == -ENXIO);
    });
}

TEST_CASE("a host has a name, as long as there is room for it") {
    everywhere([](Opened& opened) {
        struct Row {
            uint32_t room;
            const char* expected;
        };
        for (const auto& row : {Row{64, "storctl"}, Row{8, "storctl"}, Row{4, "stor"}}) {
            std::fill_n(opened.process.memory.begin() + place, 512, std::byte{untouched});
            opened.process.put(opened.address(), row.room);
            CHECK(opened.call(0x5385, opened.address()) == 1);
            CHECK(std::memcmp(opened.process.memory.data() + place, row.expected, std::strlen(row.expected)) == 0);
            CHECK(opened.written() == std::min<size_t>(row.room, 8));
        }
    });
}

TEST_CASE("what the disk is to do") {
    everywhere([](Opened& opened) {
        CHECK(opened.call(BLKFLSBUF, 0) == 0);
        CHECK(opened.action == ControlAction::flush);
        for (const int32_t kind : {SG_SCSI_RESET_DEVICE, SG_SCSI_RESET_BUS, SG_SCSI_RESET_HOST, 4, 0x101, 0x104}) {
            CAPTURE(kind);
            CHECK(opened.set(SG_SCSI_RESET, kind) == 0);
            CHECK(opened.action == ControlAction::reset_unit);
        }
        for (const int32_t kind : {SG_SCSI_RESET_NOTHING, 0x100}) {
            CHECK(opened.set(SG_SCSI_RESET, kind) == 0);
            CHECK(opened.action == ControlAction::none);
        }
        CHECK(opened.set(SG_SCSI_RESET, 5) == -EIO);
        CHECK(opened.action == ControlAction::none);
    });
}

TEST_CASE("what is only taken note of, and what is refused") {
    everywhere([](Opened& opened) {
        CHECK(opened.call(SG_SET_FORCE_LOW_DMA, 0) == 0);
        CHECK(opened.set(SG_SET_DEBUG, 1) == 0);
        CHECK(opened.set(SG_NEXT_CMD_LEN, 16) == 0);
        CHECK(opened.set(SG_NEXT_CMD_LEN, 253) == -ENOMEM);
        CHECK(opened.call(SG_SET_TRANSFORM, 0) == 0);
        CHECK(opened.call(SG_SET_TRANSFORM, 1) == -EINVAL);
        CHECK(opened.set(SG_SET_RESERVED_SIZE, -1) == -EINVAL);
        // SCSI_IOCTL_SEND_COMMAND, SG_IO (not one of these), HDIO_GETGEO, CDROM_GET_CAPABILITY, TCGETS
        for (const uint64_t number : {0x1, 0x2285, 0x301, 0x5331, 0x5401}) {
            CAPTURE(number);
            CHECK(opened.ask(number) == -ENOTTY);
            CHECK(opened.written() == 0);
        }
    });
}

TEST_CASE("a bad pointer is a fault, and nothing has happened") {
    everywhere([](Opened& opened) {
        for (const uint64_t number :
             std::initializer_list<uint64_t>{SG_GET_VERSION_NUM, SG_GET_SCSI_ID, SG_SET_TIMEOUT, SG_SCSI_RESET, 0x5385,
                                             SG_GET_REQUEST_TABLE, BLKGETSIZE, SG_SET_FORCE_PACK_ID}) {
            CAPTURE(number);
            CHECK(opened.call(number, 0x40) == -EFAULT);
            CHECK(opened.action == ControlAction::none);
        }
        CHECK(opened.controls.timeout_ms() == default_timeout_ms);
        CHECK_FALSE(opened.controls.force_pack_id());
    });
}

TEST_CASE("answers are taken in order, or by their pack id") {
    Opened opened;
    auto& controls = opened.controls;
    CHECK_FALSE(controls.any());
    CHECK_FALSE(controls.take(-1));
    for (const int32_t id : {11, 22, 33, 22}) controls.keep({.pack_id = id, .header = {std::byte(id)}});
    CHECK(opened.told(SG_GET_NUM_WAITING) == 4);
    CHECK(opened.told(SG_GET_PACK_ID) == 11);
    CHECK(controls.take(22)->header == std::vector{std::byte{22}});
    CHECK_FALSE(controls.take(44));
    CHECK(controls.take(-1)->pack_id == 11);
    CHECK(controls.take(-1)->pack_id == 33);
    CHECK(controls.any());
    CHECK(controls.take(22)->pack_id == 22);
    CHECK_FALSE(controls.any());

    for (size_t i = 0; i < Controls::most_answers; ++i) {
        CHECK_FALSE(controls.full());
        controls.keep({});
    }
    CHECK(controls.full());
}

TEST_CASE("the table of requests shows what waits for read() and what is in flight") {
    for (const auto& form : all_forms()) {
        if (form.scattered) continue;
        CAPTURE(form.text());
        Opened opened;
        opened.layout = form.layout;
        opened.way = form.way;
        Caller caller(form);
        caller.place();
        DirectMemory memory(caller.process);
        Command command;
        REQUIRE(fetch_written(memory, caller.header(), form.layout, 1 << 20, command) == 0);
        opened.controls.keep(
            {.pack_id = command.pack_id, .header = answered_header(caller.header(), command, {.duration_ms = 90})});
        opened.controls.keep({.pack_id = 78, .header = {}});
        opened.facts.in_flight = 1;

        const bool wide = form.layout == Layout::bits64;
        const size_t row = wide ? sizeof(sg_req_info_t) : 20, duration = wide ? 16 : 12;
        REQUIRE(opened.ask(SG_GET_REQUEST_TABLE) == 0);
        CHECK(opened.written() == 16 * row);
        const auto at = [&](size_t index) { return opened.address() + index * row; };
        CHECK(opened.process.get<uint32_t>(at(0)) == 2);
        CHECK(opened.process.get<int32_t>(at(0) + 4) == 77);
        CHECK(opened.process.get<uint32_t>(at(0) + 8) == 0x12345678);
        CHECK(opened.process.get<uint32_t>(at(0) + duration) == 90);
        CHECK(opened.process.get<int32_t>(at(1) + 4) == 78);
        CHECK(opened.process.get<uint32_t>(at(2)) == 1);
        CHECK(opened.process.get<uint32_t>(at(3)) == 0);

        opened.facts.in_flight = 100;
        REQUIRE(opened.ask(SG_GET_REQUEST_TABLE) == 0);
        CHECK(opened.written() == 16 * row);
    }
}
