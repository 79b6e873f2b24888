// The node's SCSI disk for many threads: commands that wait, end in time or are given up, reads without a copy, what
// other paths to the disk are told, reservations on their way into the store.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cstring>
#include <deque>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <unistd.h>

#include "base/file.hpp"
#include "daemon/node/scsi_unit.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using namespace storctl::node;
using namespace std::chrono_literals;
using Bytes = std::vector<uint8_t>;
using End = ScsiUnit::End;

namespace {

constexpr size_t block = 512;
constexpr auto patience = 20s;

/// The layers: a thread that carries requests out on memory, as soon as it may.
class Layers {
 public:
    explicit Layers(size_t bytes) : memory(bytes), thread_([this] { work(); }) {}
    ~Layers() {
        {
            const std::scoped_lock lock(mutex_);
            ending_ = true;
            held_ = false;
        }
        changed_.notify_all();
        thread_.join();
    }
    bool submit(BlockRequest& request) {
        const std::scoped_lock lock(mutex_);
        waiting_.push_back(&request);
        changed_.notify_all();
        return true;
    }
    void hold(bool held) {
        const std::scoped_lock lock(mutex_);
        held_ = held;
        changed_.notify_all();
    }
    /// Until so many requests are held.
    void wait_for(size_t count) {
        std::unique_lock lock(mutex_);
        REQUIRE(changed_.wait_for(lock, patience, [&] { return waiting_.size() >= count; }));
    }

    std::vector<std::byte> memory;
    std::atomic<unsigned> done{0};

 private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return ending_ || (!held_ && !waiting_.empty()); });
            if (waiting_.empty()) return;
            BlockRequest& request = *waiting_.front();
            waiting_.pop_front();
            lock.unlock();
            carry_out(request);
            done.fetch_add(1);
            request.finish(static_cast<int64_t>(request.length));
            lock.lock();
        }
    }
    void carry_out(BlockRequest& request) {
        std::byte* const place = memory.data() + request.offset;
        if (request.op == BlockOp::read) std::memcpy(request.data, place, request.length);
        if (request.op == BlockOp::write) std::memcpy(place, request.data, request.length);
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<BlockRequest*> waiting_;
    bool held_ = false, ending_ = false;
    std::thread thread_;
};

Bytes ten(uint8_t opcode, uint32_t lba, uint16_t blocks) {
    return {opcode,       0, uint8_t(lba >> 24),   uint8_t(lba >> 16), uint8_t(lba >> 8),
            uint8_t(lba), 0, uint8_t(blocks >> 8), uint8_t(blocks),    0};
}
constexpr uint8_t read10 = 0x28, write10 = 0x2a;

struct Stand {
    explicit Stand(std::chrono::milliseconds store_patience = 10s) {
        auto made = ScsiUnit::make(
            {.identity = {.vendor = "V", .product = "P", .revision = "1", .serial = "S"},
             .geometry = {.blocks = 1024},
             .limits = {},
             .reservations = {}},
            [this] { proposals.fetch_add(1); }, store_patience);
        REQUIRE(made.has_value());
        unit = *std::move(made);
        unit->connect([this](BlockRequest& request) { return layers.submit(request); });
        a = *unit->attach("lab:vm:a");
        b = *unit->attach("lab:vm:b");
    }
    std::shared_ptr<ScsiCommand> command(const std::shared_ptr<scsi::Nexus>& nexus, const Bytes& cdb, Bytes data = {}) {
        auto out = std::make_shared<ScsiCommand>();
        auto memory = std::make_shared<Bytes>(std::move(data));
        out->opener = nexus;
        out->nexus = nexus.get();
        out->take_cdb(cdb);
        out->data = std::as_writable_bytes(std::span(*memory));
        out->memory = memory;
        return out;
    }
    End run(const std::shared_ptr<ScsiCommand>& task, std::chrono::milliseconds limit = patience) {
        return unit->run(task, std::chrono::steady_clock::now() + limit, running);
    }
    /// PERSISTENT RESERVE OUT: REGISTER, or RESERVE (write exclusive).
    std::shared_ptr<ScsiCommand> reserve_out(const std::shared_ptr<scsi::Nexus>& nexus, uint8_t action, uint8_t key,
                                             uint8_t service_key) {
        Bytes list(24);
        list[7] = key;
        list[15] = service_key;
        return command(nexus, {0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0}, list);
    }
    template <class Condition>
    void until(Condition condition) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (!condition()) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            std::this_thread::yield();
        }
    }
    /// Runs it on a thread of its own and plays the store for it.
    std::shared_ptr<ScsiCommand> stored(const std::shared_ptr<ScsiCommand>& task) {
        void* of_thread = nullptr;
        std::thread thread([&] { unit->run(task, std::chrono::steady_clock::now() + patience, of_thread); });
        until([&] { return unit->proposed().has_value(); });
        CHECK(unit->settle(*unit->proposed(), {}).has_value());
        thread.join();
        return task;
    }

    std::atomic<unsigned> proposals{0};
    std::shared_ptr<ScsiUnit> unit;
    Layers layers{1024 * block};  // ends first, with what it still has of commands that were given up
    std::shared_ptr<scsi::Nexus> a, b;
    void* running = nullptr;
};

}  // namespace

TEST_CASE("a command is carried out by the layers, many at a time") {
    Stand stand;
    std::vector<std::thread> threads;
    std::atomic<unsigned> wrong{0};
    for (uint8_t number = 0; number < 8; ++number) {
        threads.emplace_back([&, number] {
            void* running = nullptr;
            for (uint8_t round = 0; round < 50; ++round) {
                const Bytes pattern(4 * block, static_cast<uint8_t>(number * 31 + round));
                const auto deadline = std::chrono::steady_clock::now() + patience;
                const auto write = stand.command(stand.a, ten(write10, number * 8u, 4), pattern);
                const auto read = stand.command(stand.b, ten(read10, number * 8u, 4), Bytes(4 * block));
                const bool good = stand.unit->run(write, deadline, running) == End::done &&
                                  stand.unit->run(read, deadline, running) == End::done &&
                                  read->data_in_bytes == pattern.size() &&
                                  std::memcmp(read->data.data(), pattern.data(), pattern.size()) == 0;
                if (!good) wrong.fetch_add(1);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
}

TEST_CASE("whoever waits no longer than it wanted leaves a command that ends by itself") {
    Stand stand;
    stand.layers.hold(true);
    std::weak_ptr<ScsiCommand> left;
    {
        const auto slow = stand.command(stand.a, ten(write10, 0, 1), Bytes(block, 7));
        left = slow;
        CHECK(stand.run(slow, 20ms) == End::timed_out);
        CHECK(stand.running == nullptr);
    }
    CHECK_FALSE(left.expired());  // the layers have its memory
    stand.layers.hold(false);
    stand.until([&] { return left.expired(); });
    CHECK(stand.run(stand.command(stand.a, ten(read10, 0, 1), Bytes(block))) == End::done);
}

TEST_CASE("a command is given up from another thread") {
    Stand stand;
    stand.layers.hold(true);
    void* running = nullptr;
    stand.unit->give_up(running);  // nothing runs: nothing happens
    End end = End::done;
    const auto slow = stand.command(stand.a, ten(read10, 0, 1), Bytes(block));
    std::thread thread([&] { end = stand.unit->run(slow, std::chrono::steady_clock::now() + patience, running); });
    stand.layers.wait_for(1);
    stand.unit->give_up(running);
    thread.join();
    CHECK(end == End::given_up);
}

TEST_CASE("without layers a command fails, it does not wait") {
    Stand stand;
    stand.unit->connect([](BlockRequest&) { return false; });
    const auto read = stand.command(stand.a, ten(read10, 0, 1), Bytes(block));
    REQUIRE(stand.run(read) == End::done);
    CHECK(read->status == scsi::Status::check_condition);
}

TEST_CASE("a read of a mapped backing needs no layer, what is looked at does") {
    Stand stand;
    const test::TemporaryFolder folder;
    const std::string path = folder / "disk";
    REQUIRE(write_file_atomic(path, std::string(1024 * block, 'x')).has_value());
    auto backing = Backing::open(path, {});
    REQUIRE(backing.has_value());
    auto view = BackingView::map(*backing);
    REQUIRE(view.has_value());
    if (backing->direct()) {
        CHECK(*view == nullptr);  // what another host writes would not be seen
        return;
    }
    stand.unit->set_view(*view);
    const auto read = stand.command(stand.a, ten(read10, 3, 2), Bytes(2 * block));
    REQUIRE(stand.run(read) == End::done);
    CHECK(read->in_place.size() == 2 * block);
    CHECK(read->in_place[0] == std::byte{'x'});
    CHECK(stand.layers.done == 0);
    CHECK(stand.unit->reads_in_place().bytes.get() == 2 * block);
    const auto again = stand.command(stand.a, ten(read10, 3, 2), Bytes(2 * block));
    again->use_view = false;
    REQUIRE(stand.run(again) == End::done);
    CHECK(again->in_place.empty());
    CHECK(stand.layers.done == 1);
}

TEST_CASE("a reservation is stored before it counts, and then holds for other paths") {
    Stand stand;
    CHECK(stand.stored(stand.reserve_out(stand.a, 0, 0, 1))->status == scsi::Status::good);
    CHECK_FALSE(stand.unit->reserved());
    CHECK(stand.stored(stand.reserve_out(stand.a, 1, 1, 0))->status == scsi::Status::good);
    CHECK(stand.proposals == 2);
    CHECK(stand.unit->reservations().version == 2);
    CHECK(stand.unit->reserved());
    CHECK(stand.unit->refuses(nullptr, true));
    CHECK(stand.unit->refuses(stand.b.get(), true));
    CHECK_FALSE(stand.unit->refuses(stand.b.get(), false));  // write exclusive
    CHECK_FALSE(stand.unit->refuses(stand.a.get(), true));
    const auto write = stand.command(stand.b, ten(write10, 0, 1), Bytes(block));
    REQUIRE(stand.run(write) == End::done);
    CHECK(write->status == scsi::Status::reservation_conflict);
}

TEST_CASE("a store that fails, that nobody answers for, or that another host was faster at") {
    Stand stand(50ms);
    SUBCASE("nobody answers") {
        const auto task = stand.reserve_out(stand.a, 0, 0, 1);
        REQUIRE(stand.run(task) == End::done);
        CHECK(task->status == scsi::Status::busy);
        CHECK_FALSE(stand.unit->proposed().has_value());
        // the answer comes after all: that is how it is now
        scsi::ReservationState late{
            .version = 1, .generation = 1, .registrations = {{.nexus = {"lab:vm:a"}, .key = 1}}};
        CHECK(stand.unit->settle(late, {}).has_value());
        CHECK(stand.unit->reservations() == late);
    }
    SUBCASE("nobody waits any more") {
        const auto task = stand.reserve_out(stand.a, 0, 0, 1);
        CHECK(stand.run(task, 5ms) == End::timed_out);
        CHECK_FALSE(stand.unit->proposed().has_value());
    }
    SUBCASE("it fails") {
        Stand patient;
        const auto task = patient.reserve_out(patient.a, 0, 0, 1);
        std::thread thread([&] { patient.run(task); });
        patient.until([&] { return patient.unit->proposed().has_value(); });
        CHECK(patient.unit->settle({}, "no space").has_value());
        thread.join();
        CHECK(task->status == scsi::Status::check_condition);
        CHECK(patient.unit->reservations() == scsi::ReservationState{});
    }
    SUBCASE("another was faster") {
        Stand patient;
        const auto task = patient.reserve_out(patient.a, 0, 0, 1);
        std::thread thread([&] { patient.run(task); });
        patient.until([&] { return patient.unit->proposed().has_value(); });
        scsi::ReservationState theirs{
            .version = 1, .generation = 1, .registrations = {{.nexus = {"far:vm:z"}, .key = 9}}};
        CHECK(patient.unit->settle(theirs, {}).has_value());
        patient.until([&] {
            const auto proposed = patient.unit->proposed();
            return proposed && proposed->version == 2;
        });
        CHECK(patient.unit->proposed()->registrations.size() == 2);
        CHECK(patient.unit->settle(*patient.unit->proposed(), {}).has_value());
        thread.join();
        CHECK(task->status == scsi::Status::good);
    }
    SUBCASE("what does not hold together") {
        scsi::ReservationState bad{.version = 1, .type = scsi::ReservationType::write_exclusive};
        CHECK_FALSE(stand.unit->settle(bad, {}).has_value());
    }
}

TEST_CASE("I/O on another path and COMPARE AND WRITE keep out of each other's way") {
    Stand stand;
    stand.layers.hold(true);
    scsi::RangeLocks::Hold file;
    std::atomic<bool> granted{false};
    file.first = 0;
    file.end = 1;
    file.owner = &granted;
    file.granted = [](scsi::RangeLocks::Hold& hold) { *static_cast<std::atomic<bool>*>(hold.owner) = true; };
    const auto task = stand.command(stand.a, {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, Bytes(2 * block));
    std::vector<std::byte> scratch(block);
    task->scratch = scratch;
    std::thread thread([&] { stand.run(task); });
    stand.layers.wait_for(1);
    CHECK_FALSE(stand.unit->enter(file));
    stand.layers.hold(false);
    thread.join();
    CHECK(task->status == scsi::Status::good);
    CHECK(granted);
    stand.unit->leave(file);
}
