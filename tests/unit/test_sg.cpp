// Commands of the SCSI generic protocol: their way from the caller's memory and back.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "tests/unit/sg_caller.hpp"

using namespace storctl::node;
using namespace storctl::node::sg;
using namespace storctl::node::sg::testing;

namespace {

const Bytes not_ready_sense = [] {
    Bytes out(18);
    out[0] = std::byte{0x70};
    out[2] = std::byte{0x02};
    out[7] = std::byte{10};
    return out;
}();

Outcome with(const Bytes& data, uint64_t moved) { return {.data = data, .moved = moved, .duration_ms = 12}; }

}  // namespace

TEST_CASE("a read brings its data, and says how many there were") {
    for (const auto& form : all_forms()) {
        CAPTURE(form.text());
        for (const size_t size : {size_t{4096}, size_t{3000}, size_t{1}, size_t{0}, size_t{5000}}) {
            CAPTURE(size);
            Caller caller(form);
            caller.place();
            const auto before = caller.process.memory;
            const auto sent = pattern(size);
            int acted = 0;
            REQUIRE(send(caller, [&](const Command& command, auto) {
                        ++acted;
                        CHECK(command.direction == Direction::from_device);
                        CHECK(command.data_bytes == 4096);
                        CHECK(command.cdb().size() == 10);
                        CHECK(std::to_integer<int>(command.cdb()[5]) == 9);
                        CHECK(command.pack_id == 77);
                        CHECK(command.user_pointer == 0x12345678);
                        CHECK(command.timeout_ms == default_timeout_ms);
                        return with(sent, size);
                    }) == 0);
            CHECK(acted == 1);

            // all that has changed is the answer and the data
            auto expected = before;
            size_t taken = 0;
            for (const auto& [offset, length] : caller.data_places()) {
                const size_t part = std::min(length, sent.size() - std::min(taken, sent.size()));
                std::copy_n(sent.begin() + static_cast<ptrdiff_t>(taken), part,
                            expected.begin() + static_cast<ptrdiff_t>(offset));
                taken += part;
            }
            const size_t answer = Caller::header_at +
                                  (form.interface == Interface::v3 ? header_v3(form.layout).answer : header_v4.answer);
            const size_t answer_bytes = form.interface == Interface::v3 ? answer_v3.bytes : answer_v4.bytes;
            std::copy_n(caller.process.memory.begin() + static_cast<ptrdiff_t>(answer), answer_bytes,
                        expected.begin() + static_cast<ptrdiff_t>(answer));
            CHECK(caller.process.memory == expected);

            const auto told = caller.told();
            CHECK(told.status == 0);
            CHECK(told.info == 0);
            CHECK(told.duration == 12);
            CHECK(told.sense_bytes == 0);
            CHECK(told.residual == static_cast<int32_t>(4096 - std::min<size_t>(size, 4096)));
        }
    }
}

TEST_CASE("a write brings its data to the device, in order") {
    for (const auto& form : all_forms()) {
        CAPTURE(form.text());
        Caller caller(form);
        caller.direction = SG_DXFER_TO_DEV;
        caller.place();
        Bytes arrived;
        REQUIRE(send(caller, [&](const Command& command, std::span<const std::byte> data) {
                    CHECK(command.direction == Direction::to_device);
                    arrived.assign(data.begin(), data.end());
                    return Outcome{.moved = 4000};
                }) == 0);
        CHECK(arrived.size() == 4096);
        CHECK(arrived == caller.data());
        CHECK(caller.told().residual == 96);
    }
}

TEST_CASE("a command that fails brings its sense data, as much as there is room for") {
    struct Row {
        const char* name;
        uint32_t room, expected;
    };
    for (const auto& row : {Row{"more room than sense", 64, 18}, Row{"less room", 4, 4}, Row{"none", 0, 0}}) {
        for (const auto& form : all_forms()) {
            CAPTURE(row.name);
            CAPTURE(form.text());
            for (const size_t data : {size_t{0}, size_t{512}}) {
                Caller caller(form);
                caller.sense_room = row.room;
                caller.place();
                const auto before = caller.process.memory;
                const auto some = pattern(data);
                REQUIRE(send(caller, [&](auto&, auto) {
                            return Outcome{.status = 2, .sense = not_ready_sense, .data = some, .moved = data};
                        }) == 0);
                const auto told = caller.told();
                CHECK(told.status == 2);
                CHECK(told.driver_status == 8);
                CHECK(told.info == SG_INFO_CHECK);
                CHECK(told.sense_bytes == row.expected);
                auto expected = not_ready_sense;
                expected.resize(row.expected);
                expected.insert(expected.end(), before.begin() + Caller::sense_at + row.expected,
                                before.begin() + Caller::sense_at + 256);
                const Bytes found(caller.process.memory.begin() + Caller::sense_at,
                                  caller.process.memory.begin() + Caller::sense_at + 256);
                CHECK(found == expected);
            }
        }
    }
}

TEST_CASE("a status says itself in every field that repeats it") {
    for (const auto& form : all_forms()) {
        CAPTURE(form.text());
        struct Row {
            uint8_t status;
            uint16_t host_status;
            uint32_t driver_status, info;
        };
        for (const auto& row : {Row{0, 0, 0, 0}, Row{2, 0, 8, 1}, Row{0x18, 0, 0, 1}, Row{0x08, 0, 0, 1},
                                Row{0, host_timed_out, 0, 1}, Row{0x40, host_reset, 0, 1}}) {
            Caller caller(form);
            caller.direction = SG_DXFER_NONE;
            caller.place();
            REQUIRE(send(caller, [&](const Command& command, auto) {
                        CHECK(command.direction == Direction::none);
                        CHECK(command.data_bytes == 0);
                        return Outcome{.status = row.status, .host_status = row.host_status};
                    }) == 0);
            const auto told = caller.told();
            CHECK(told.status == row.status);
            CHECK(told.host_status == row.host_status);
            CHECK(told.driver_status == row.driver_status);
            CHECK(told.info == row.info);
            CHECK(told.residual == 0);
            if (form.interface == Interface::v3 && form.layout == Layout::bits64) {
                const auto header = caller.process.get<sg_io_hdr>(caller.address(Caller::header_at));
                CHECK(header.masked_status == (row.status >> 1 & 0x1f));
                CHECK(header.msg_status == 0);
            }
        }
    }
}

TEST_CASE("a command takes no more legs than its pointers need") {
    for (const auto direction : {SG_DXFER_NONE, SG_DXFER_TO_DEV, SG_DXFER_FROM_DEV}) {
        for (const auto& form : all_forms()) {
            if (form.way == Way::direct || (form.scattered && direction == SG_DXFER_NONE)) continue;
            CAPTURE(form.text());
            CAPTURE(direction);
            Caller caller(form);
            caller.direction = direction;
            caller.place();
            int legs = 0;
            REQUIRE(send(
                        caller, [](auto&, auto) { return Outcome{}; }, 1 << 20, &legs) == 0);
            // the first has nothing, the next the header; a longer header and a list one more each
            CHECK(legs == 3 + (form.interface == Interface::v4 ? 1 : 0) + (form.scattered ? 1 : 0));
        }
    }
}

TEST_CASE("what the caller changes between the legs changes nothing") {
    Caller caller({.way = Way::legs, .scattered = true});
    caller.direction = SG_DXFER_TO_DEV;
    caller.place();
    const auto wanted = caller.data();
    bool header_is_here = false;
    caller.process.between_legs = [&] {
        if (header_is_here) std::fill_n(caller.process.memory.begin() + Caller::header_at, 64, std::byte{0xff});
        header_is_here = true;
    };
    Bytes arrived;
    REQUIRE(send(caller, [&](auto&, std::span<const std::byte> data) {
                arrived.assign(data.begin(), data.end());
                return Outcome{.moved = 4096};
            }) == 0);
    CHECK(arrived == wanted);
}

TEST_CASE("the longest CDBs arrive whole") {
    for (const auto interface : {Interface::v3, Interface::v4}) {
        Caller caller({.interface = interface});
        caller.direction = SG_DXFER_NONE;
        caller.cdb.assign(interface == Interface::v3 ? 252 : 260, 0x7f);
        caller.place();
        size_t arrived = 0;
        REQUIRE(send(caller, [&](const Command& command, auto) {
                    arrived = command.cdb().size();
                    CHECK(command.cdb().back() == std::byte{0x7f});
                    return Outcome{};
                }) == 0);
        CHECK(arrived == caller.cdb.size());
    }
}

TEST_CASE("a read without a buffer, or one that is not to be moved, goes nowhere") {
    for (const uint32_t flags : {0U, uint32_t{SG_FLAG_NO_DXFER}}) {
        for (const auto way : {Way::direct, Way::legs}) {
            Caller caller({.way = way});
            caller.flags = flags;
            caller.place();
            if (flags == 0) put_pointer(caller, header_v3_64.data, 0);
            const auto before = caller.process.memory;
            const auto sent = pattern(4096);
            REQUIRE(send(caller, [&](const Command& command, auto) {
                        CHECK(command.data_bytes == 0);
                        return with(sent, 0);
                    }) == 0);
            CHECK(std::equal(before.begin() + Caller::cdb_at, before.end(),
                             caller.process.memory.begin() + Caller::cdb_at));
        }
    }
}

TEST_CASE("a bad place for data or sense is a fault, and nothing beside it is touched") {
    const auto sent = pattern(4096);
    for (const auto pointer : {header_v3_64.data, header_v3_64.sense}) {
        for (const auto way : {Way::direct, Way::legs}) {
            CAPTURE(pointer);
            CAPTURE(static_cast<int>(way));
            Caller caller({.way = way});
            caller.place();
            put_pointer(caller, pointer, 0x10);
            const auto before = caller.process.memory;
            CHECK(send(caller, [&](auto&, auto) {
                      return Outcome{.status = 2, .sense = not_ready_sense, .data = sent, .moved = 4096};
                  }) == -EFAULT);
            CHECK(std::equal(before.begin() + Caller::data_at + 4096, before.end(),
                             caller.process.memory.begin() + Caller::data_at + 4096));
        }
    }
}

TEST_CASE("segments behind each other are moved as one") {
    Caller caller({.scattered = true});
    caller.place();
    const size_t width = 8;
    uint64_t at = caller.address(Caller::data_at);
    for (size_t i = 0; i < caller.pieces.size(); ++i) {
        caller.process.put(caller.address(Caller::list_at + i * 2 * width), at);
        at += caller.pieces[i];
    }
    REQUIRE(send(caller, [](const Command& command, auto) {
                CHECK(command.data.size() == 1);
                CHECK(command.data.front().length == 4096);
                return Outcome{};
            }) == 0);
}

TEST_CASE("timeouts come as they are, and 0 is the driver's own") {
    for (const auto interface : {Interface::v3, Interface::v4}) {
        for (const uint32_t timeout : {0U, 1U, 30000U, UINT32_MAX}) {
            Caller caller({.interface = interface});
            caller.timeout_ms = timeout;
            caller.place();
            REQUIRE(send(caller, [&](const Command& command, auto) {
                        CHECK(command.timeout_ms == (timeout == 0 ? default_timeout_ms : timeout));
                        return Outcome{};
                    }) == 0);
        }
    }
}

TEST_CASE("both further directions are from the device") {
    for (const int direction : {SG_DXFER_TO_FROM_DEV, -5}) {
        Caller caller({});
        caller.direction = direction;
        caller.place();
        REQUIRE(send(caller, [](const Command& command, auto) {
                    CHECK(command.direction == Direction::from_device);
                    return Outcome{};
                }) == 0);
    }
}

TEST_CASE("a written header is answered as it came, its data and sense at once") {
    for (const auto& form : all_forms()) {
        if (form.way == Way::legs) continue;
        CAPTURE(form.text());
        Caller caller(form);
        caller.place();
        const Bytes header(caller.header().begin(), caller.header().end());
        // read() is the one who gets it
        std::fill_n(caller.process.memory.begin() + Caller::header_at, header.size(), std::byte{});
        const auto sent = pattern(100);
        DirectMemory memory(caller.process);
        Command command;
        REQUIRE(fetch_written(memory, header, form.layout, 1 << 20, command) == 0);
        const Outcome outcome{.status = 2, .sense = not_ready_sense, .data = sent, .moved = 100, .duration_ms = 5};
        REQUIRE(give_written(memory, command, outcome) == 0);
        CHECK(std::equal(not_ready_sense.begin(), not_ready_sense.end(),
                         caller.process.memory.begin() + Caller::sense_at));
        CHECK(std::equal(sent.begin(), sent.begin() + 1, caller.process.memory.begin() + Caller::data_at));
        auto arrived = caller.data();
        arrived.resize(100);
        CHECK(arrived == sent);
        CHECK(
            std::all_of(caller.header().begin(), caller.header().end(), [](auto byte) { return byte == std::byte{}; }));

        const auto answer = answered_header(header, command, outcome);
        REQUIRE(answer.size() == header.size());
        const auto told = caller.told(answer);
        CHECK(told.status == 2);
        CHECK(told.sense_bytes == 18);
        CHECK(told.residual == 3996);
        CHECK(told.duration == 5);
        const size_t before_answer = form.interface == Interface::v3 ? header_v3(form.layout).answer : header_v4.answer;
        CHECK(std::equal(header.begin(), header.begin() + static_cast<ptrdiff_t>(before_answer), answer.begin()));
    }
}
