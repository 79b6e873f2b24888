// Several commands in flight: COMPARE AND WRITE against what overlaps it, reservations that are being stored, aborts.

#include <deque>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/scsi_reserve.hpp"

using namespace storctl::node::scsi;
using namespace storctl::test;

namespace {

Bytes block_command(uint8_t opcode, uint64_t lba, uint32_t blocks) {
    Bytes out = {opcode, 0};
    append_be(out, lba, 8);
    append_be(out, blocks, 4);
    append_be(out, 0, 2);
    return out;
}
constexpr uint8_t read16 = 0x88, write16 = 0x8a, compare16 = 0x89;

struct Stand {
    ScsiDisk disk;
    std::shared_ptr<Nexus> a = disk.attach("a"), b = disk.attach("b"), c = disk.attach("c");

    auto start(Nexus& nexus, uint8_t opcode, uint64_t lba, uint32_t blocks, const Bytes& data = {}) {
        return disk.start(nexus, block_command(opcode, lba, blocks), data);
    }
    auto reserve(Nexus& nexus, Reserve action, const ReserveParameters& parameters, uint8_t type = 0) {
        const auto list = reserve_list(parameters);
        return disk.start(nexus, reserve_cdb(action, list.size(), type), list);
    }
    void good(Nexus& nexus, Reserve action, const ReserveParameters& parameters, uint8_t type = 0) {
        auto command = reserve(nexus, action, parameters, type);
        disk.drive(*command);
        REQUIRE(command->next == Next::done);
        REQUIRE(command->task.status == Status::good);
    }
    /// The waiting command that may go on, as it goes on.
    ScsiCommand* resume_ready(std::initializer_list<ScsiCommand*> waiting) {
        Task* task = disk.unit->take_ready();
        for (auto* command : waiting) {
            if (&command->task != task) continue;
            command->next = disk.unit->resume(*task, 0);
            return command;
        }
        CHECK(task == nullptr);
        return nullptr;
    }
};

}  // namespace

TEST_CASE("COMPARE AND WRITE waits for what overlaps it, and what overlaps it waits") {
    Stand stand;
    auto read = stand.start(*stand.a, read16, 10, 4);
    auto elsewhere = stand.start(*stand.a, write16, 20, 4, Bytes(2048, 1));
    CHECK(read->next == Next::block);
    auto compare = stand.start(*stand.b, compare16, 13, 1, Bytes(1024));
    CHECK(compare->next == Next::wait);
    auto other = stand.start(*stand.c, compare16, 20, 1, Bytes(1024));
    CHECK(other->next == Next::wait);
    auto write = stand.start(*stand.a, write16, 12, 4, Bytes(2048, 2));
    CHECK(write->next == Next::wait);  // behind the one that asked before
    auto apart = stand.start(*stand.a, write16, 14, 1, Bytes(512, 3));
    CHECK(apart->next == Next::block);

    stand.disk.drive(*apart);
    CHECK(stand.disk.unit->take_ready() == nullptr);
    stand.disk.drive(*read);
    CHECK(read->next == Next::done);
    REQUIRE(stand.resume_ready({compare.get(), write.get(), other.get()}) == compare.get());
    CHECK(stand.disk.unit->take_ready() == nullptr);
    stand.disk.step(*compare);
    CHECK(compare->next == Next::block);  // its write
    CHECK(stand.disk.unit->take_ready() == nullptr);
    stand.disk.step(*compare);
    CHECK(compare->task.status == Status::good);
    REQUIRE(stand.resume_ready({compare.get(), write.get(), other.get()}) == write.get());
    stand.disk.drive(*write);
    CHECK(write->task.status == Status::good);
    stand.disk.drive(*elsewhere);
    REQUIRE(stand.resume_ready({other.get()}) == other.get());
    stand.disk.drive(*other);
    CHECK(other->key() == SenseKey::miscompare);
}

TEST_CASE("counting by COMPARE AND WRITE from many sides loses nothing") {
    const uint64_t seed = std::random_device{}();
    MESSAGE("seed " << seed);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Stand stand;
    Nexus* const nexuses[] = {stand.a.get(), stand.b.get(), stand.c.get()};
    // Block 5 counts; each round reads it as it is now and asks for one more, several at a time.
    uint64_t succeeded = 0;
    for (int round = 0; round < 300; ++round) {
        std::deque<std::unique_ptr<ScsiCommand>> commands;
        const auto now = static_cast<uint64_t>(stand.disk.memory[5 * 512 + 1]) |
                         static_cast<uint64_t>(stand.disk.memory[5 * 512]) << 8;
        REQUIRE(now == succeeded);
        for (int i = 0; i < 6; ++i) {
            Bytes data(1024);
            put_be(data, 0, now, 2);
            put_be(data, 512, now + 1, 2);
            commands.push_back(stand.start(*nexuses[i % 3], compare16, 5, 1, data));
            if (i % 2 == 0) commands.push_back(stand.start(*nexuses[i % 3], read16, random() % 8, 3));
        }
        size_t open = commands.size();
        while (open > 0) {
            auto& command = *commands[random() % commands.size()];
            if (command.next == Next::block) {
                stand.disk.step(command);
                if (command.next == Next::done) --open;
            }
            while (Task* task = stand.disk.unit->take_ready()) {
                for (auto& other : commands) {
                    if (&other->task == task) other->next = stand.disk.unit->resume(*task, 0);
                }
            }
        }
        uint64_t won = 0;
        for (const auto& command : commands)
            won += command->cdb[0] == compare16 && command->task.status == Status::good;
        CHECK(won == 1);
        succeeded += won;
        stand.disk.operations.clear();
    }
}

TEST_CASE("a reservation counts from when it is stored") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    auto reserve = stand.reserve(*stand.a, Reserve::reserve, {.key = 1}, 3);
    REQUIRE(reserve->next == Next::store);
    CHECK(reserve->task.proposed->type == ReservationType::exclusive_access);
    CHECK_FALSE(stand.disk.unit->reservations().type);
    auto write = stand.disk.run(*stand.b, block_command(write16, 0, 1), Bytes(512));
    CHECK(write->task.status == Status::good);
    auto second = stand.reserve(*stand.b, Reserve::register_key, {.service_key = 2});
    CHECK(second->next == Next::wait);
    stand.disk.drive(*reserve);
    CHECK(reserve->task.status == Status::good);
    write = stand.disk.run(*stand.b, block_command(write16, 0, 1), Bytes(512));
    CHECK(write->task.status == Status::reservation_conflict);
    REQUIRE(stand.resume_ready({second.get()}) == second.get());
    REQUIRE(second->next == Next::store);
    CHECK(second->task.proposed->version == 3);
    stand.disk.drive(*second);
    CHECK(stand.b->standing() == Standing::registered);
}

TEST_CASE("what could not be stored has not happened") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    const auto before = stand.disk.unit->reservations();
    stand.disk.store_fault = -EIO;
    auto command = stand.reserve(*stand.a, Reserve::reserve, {.key = 1}, 3);
    auto waiting = stand.reserve(*stand.b, Reserve::register_key, {.service_key = 2});
    stand.disk.drive(*command);
    CHECK(command->key() == SenseKey::hardware_error);
    CHECK(stand.disk.unit->reservations() == before);
    stand.disk.store_fault.reset();
    REQUIRE(stand.resume_ready({waiting.get()}) == waiting.get());
    stand.disk.drive(*waiting);
    CHECK(waiting->task.status == Status::good);
}

TEST_CASE("a store that nobody answers for makes the disk busy, not broken") {
    Stand stand;
    stand.disk.store_fault = -EBUSY;
    auto command = stand.reserve(*stand.a, Reserve::register_key, {.service_key = 1});
    stand.disk.drive(*command);
    CHECK(command->task.status == Status::busy);
    CHECK(stand.disk.unit->reservations() == ReservationState{});
}

TEST_CASE("COMPARE AND WRITE is atomic against I/O past the logical unit") {
    Stand stand;
    static int granted;
    granted = 0;
    RangeLocks::Hold file;
    file.first = 4;
    file.end = 8;
    file.granted = [](RangeLocks::Hold&) { ++granted; };
    SUBCASE("it waits for what came before it") {
        REQUIRE(stand.disk.unit->enter(file));
        auto command = stand.start(*stand.a, compare16, 6, 1, Bytes(1024));
        CHECK(command->next == Next::wait);
        stand.disk.unit->leave(file);
        REQUIRE(stand.resume_ready({command.get()}) == command.get());
        stand.disk.drive(*command);
        CHECK(command->task.status == Status::good);
        CHECK(granted == 0);
    }
    SUBCASE("what comes after waits for it") {
        auto command = stand.start(*stand.a, compare16, 6, 1, Bytes(1024));
        REQUIRE(command->next == Next::block);
        CHECK_FALSE(stand.disk.unit->enter(file));
        RangeLocks::Hold elsewhere;
        elsewhere.first = 8;
        elsewhere.end = 9;
        CHECK(stand.disk.unit->enter(elsewhere));
        stand.disk.drive(*command);
        CHECK(granted == 1);
        stand.disk.unit->leave(elsewhere);
        stand.disk.unit->leave(file);
    }
}

TEST_CASE("a command that nobody waits for any more ends with what it has in flight") {
    Stand stand;
    Bytes change(1024);
    change[512] = 1;
    auto command = stand.start(*stand.a, compare16, 6, 1, change);
    REQUIRE(command->next == Next::block);
    stand.disk.unit->abort(command->task);
    stand.disk.step(*command);
    CHECK(command->next == Next::done);
    CHECK(command->task.status == Status::task_aborted);
    CHECK(stand.disk.memory[6 * 512] == std::byte{0});
}

TEST_CASE("what comes again does not overtake what was aborted") {
    Stand stand;
    auto first = stand.start(*stand.a, write16, 6, 1, Bytes(512, 1));
    REQUIRE(first->next == Next::block);
    stand.disk.unit->abort(first->task);
    auto again = stand.start(*stand.a, write16, 6, 1, Bytes(512, 2));
    CHECK(again->next == Next::wait);
    auto elsewhere = stand.start(*stand.a, write16, 7, 1, Bytes(512, 3));
    CHECK(elsewhere->next == Next::block);
    stand.disk.step(*first);
    REQUIRE(stand.resume_ready({again.get()}) == again.get());
    stand.disk.drive(*again);
    stand.disk.drive(*elsewhere);
    CHECK(stand.disk.memory[6 * 512] == std::byte{2});
}

TEST_CASE("PREEMPT AND ABORT waits for what is under way on other paths") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    stand.good(*stand.b, Reserve::register_key, {.service_key = 2});
    RangeLocks::Hold file;
    file.first = 4;
    file.end = 8;
    file.granted = [](RangeLocks::Hold&) {};
    REQUIRE(stand.disk.unit->enter(file));
    auto preempt = stand.reserve(*stand.a, Reserve::preempt_and_abort, {.key = 1, .service_key = 2}, 1);
    stand.disk.drive(*preempt);
    CHECK(preempt->next == Next::wait);
    stand.disk.unit->leave(file);
    REQUIRE(stand.resume_ready({preempt.get()}) == preempt.get());
    CHECK(preempt->task.status == Status::good);
    CHECK(stand.disk.unit->enter(file));
    stand.disk.unit->leave(file);
}

TEST_CASE("a change that another host was faster with is decided again") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    auto reserve = stand.reserve(*stand.a, Reserve::reserve, {.key = 1}, 1);
    REQUIRE(reserve->next == Next::store);
    auto theirs = stand.disk.unit->reservations();
    const NexusName far{"iqn.far", 1};
    SUBCASE("who reserved") {
        theirs.version = 2;
        theirs.registrations.push_back({.nexus = far, .key = 9});
        std::swap(theirs.registrations[0], theirs.registrations[1]);
        std::sort(theirs.registrations.begin(), theirs.registrations.end(),
                  [](const auto& x, const auto& y) { return x.nexus < y.nexus; });
        theirs.type = ReservationType::exclusive_access;
        theirs.holder = far;
        REQUIRE(stand.disk.unit->adopt(theirs));
        reserve->next = stand.disk.unit->resume(reserve->task, -ESTALE);
        CHECK(reserve->next == Next::done);
        CHECK(reserve->task.status == Status::reservation_conflict);
        CHECK(stand.disk.run(*stand.a, block_command(read16, 0, 1))->task.status == Status::reservation_conflict);
    }
    SUBCASE("who only registered") {
        theirs.version = 2;
        theirs.registrations.push_back({.nexus = far, .key = 9});
        REQUIRE(stand.disk.unit->adopt(theirs));
        reserve->next = stand.disk.unit->resume(reserve->task, -ESTALE);
        REQUIRE(reserve->next == Next::store);
        CHECK(reserve->task.proposed->version == 3);
        CHECK(reserve->task.proposed->registrations.size() == 2);
        stand.disk.drive(*reserve);
        CHECK(reserve->task.status == Status::good);
    }
    SUBCASE("who preempted") {
        theirs.version = 2;
        theirs.registrations = {{.nexus = far, .key = 9}};
        REQUIRE(stand.disk.unit->adopt(theirs));
        reserve->next = stand.disk.unit->resume(reserve->task, -ESTALE);
        CHECK(reserve->task.status == Status::reservation_conflict);
        CHECK(stand.disk.run(*stand.a, Bytes(6))->code() == AdditionalSense::registrations_preempted);
    }
    SUBCASE("who cleared") {
        theirs = {.version = 2, .generation = 2};
        REQUIRE(stand.disk.unit->adopt(theirs));
        reserve->next = stand.disk.unit->resume(reserve->task, -ESTALE);
        CHECK(reserve->task.status == Status::reservation_conflict);
        CHECK(stand.disk.run(*stand.a, Bytes(6))->code() == AdditionalSense::reservations_preempted);
    }
}

TEST_CASE("a release elsewhere is told to those who shared the reservation") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    stand.good(*stand.b, Reserve::register_key, {.service_key = 2});
    stand.good(*stand.a, Reserve::reserve, {.key = 1}, 5);
    auto theirs = stand.disk.unit->reservations();
    ++theirs.version;
    theirs.type.reset();
    theirs.holder.reset();
    REQUIRE(stand.disk.unit->adopt(theirs));
    CHECK(stand.disk.run(*stand.b, Bytes(6))->code() == AdditionalSense::reservations_released);
    CHECK(stand.disk.run(*stand.c, Bytes(6))->task.status == Status::good);
    theirs.registrations[0].key = 0;
    CHECK_FALSE(stand.disk.unit->adopt(theirs));
}

TEST_CASE("PREEMPT AND ABORT is answered when what it aborted has ended") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    stand.good(*stand.b, Reserve::register_key, {.service_key = 2});
    stand.good(*stand.b, Reserve::reserve, {.key = 2}, 1);
    auto write = stand.start(*stand.b, write16, 0, 4, Bytes(2048, 1));
    auto compare = stand.start(*stand.b, compare16, 0, 1, Bytes(1024));
    auto innocent = stand.start(*stand.c, read16, 40, 1);
    REQUIRE(compare->next == Next::wait);
    auto preempt = stand.reserve(*stand.a, Reserve::preempt_and_abort, {.key = 1, .service_key = 2}, 1);
    REQUIRE(preempt->next == Next::store);
    stand.disk.step(*preempt);
    CHECK(preempt->next == Next::wait);
    CHECK(stand.disk.unit->reservations().holds(stand.a->name()));
    REQUIRE(stand.resume_ready({compare.get()}) == compare.get());
    CHECK(compare->next == Next::done);
    CHECK(compare->task.status == Status::task_aborted);
    CHECK(stand.disk.unit->take_ready() == nullptr);
    stand.disk.step(*write);
    CHECK(write->next == Next::done);
    CHECK(write->task.status == Status::task_aborted);
    REQUIRE(stand.resume_ready({preempt.get()}) == preempt.get());
    CHECK(preempt->next == Next::done);
    CHECK(preempt->task.status == Status::good);
    stand.disk.drive(*innocent);
    CHECK(innocent->task.status == Status::good);
    CHECK(stand.disk.run(*stand.b, Bytes(6))->code() == AdditionalSense::registrations_preempted);
    CHECK(stand.disk.run(*stand.b, block_command(write16, 0, 1), Bytes(512))->task.status ==
          Status::reservation_conflict);
}

TEST_CASE("PREEMPT leaves commands in flight alone") {
    Stand stand;
    stand.good(*stand.a, Reserve::register_key, {.service_key = 1});
    stand.good(*stand.b, Reserve::register_key, {.service_key = 2});
    auto write = stand.start(*stand.b, write16, 0, 4, Bytes(2048, 1));
    stand.good(*stand.a, Reserve::preempt, {.key = 1, .service_key = 2});
    stand.disk.drive(*write);
    CHECK(write->task.status == Status::good);
}

TEST_CASE("a reset ends everything, but what was stored has happened") {
    Stand stand;
    auto write = stand.start(*stand.a, write16, 0, 4, Bytes(2048, 1));
    auto waiting = stand.start(*stand.b, compare16, 0, 1, Bytes(1024));
    auto storing = stand.reserve(*stand.a, Reserve::register_key, {.service_key = 1});
    auto queued = stand.reserve(*stand.b, Reserve::register_key, {.service_key = 2});
    REQUIRE(queued->next == Next::wait);
    stand.disk.unit->reset();
    CHECK(stand.resume_ready({waiting.get(), queued.get()}) == waiting.get());
    CHECK(stand.resume_ready({waiting.get(), queued.get()}) == queued.get());
    stand.disk.drive(*write);
    stand.disk.drive(*storing);
    for (const auto* command : {write.get(), waiting.get(), storing.get(), queued.get()}) {
        CHECK(command->next == Next::done);
        CHECK(command->task.status == Status::task_aborted);
    }
    CHECK(stand.a->standing() == Standing::registered);
    CHECK(stand.disk.stored == stand.disk.unit->reservations());
    CHECK(stand.disk.unit->take_ready() == nullptr);
    CHECK(stand.disk.run(*stand.b, Bytes(6))->code() == AdditionalSense::bus_device_reset_function_occurred);
    CHECK(stand.disk.run(*stand.b, block_command(read16, 0, 4))->answer() == Bytes(2048, 1));
}
