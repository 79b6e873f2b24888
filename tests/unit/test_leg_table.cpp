// Calls between their legs: who goes on with what, and who waits.

#include <thread>

#include <doctest/doctest.h>

#include "daemon/node/caller/leg_table.hpp"

using namespace storctl::node;
using Key = LegTable::Key;

namespace {

std::shared_ptr<RetryMemory> take(LegTable& table, const Key& key, bool first) {
    std::shared_ptr<void> lost;
    return table.take(key, first, lost);
}

}  // namespace

TEST_CASE("a later leg goes on with what the earlier ones brought") {
    LegTable table(4096, 16);
    const Key mine{7, 1, 100}, other{8, 1, 100};
    const auto memory = take(table, mine, true);
    REQUIRE(memory != nullptr);
    CHECK(take(table, mine, false) == nullptr);  // it is being worked on
    table.put(mine, memory);
    const auto others = take(table, other, true);
    CHECK(others != memory);
    CHECK(take(table, mine, false) == memory);
    table.put(mine, nullptr);
    CHECK(take(table, mine, false) == nullptr);
}

TEST_CASE("a thread that begins anew has left its former call behind") {
    LegTable table(4096, 16);
    const Key key{7, 1, 100};
    const auto memory = take(table, key, true);
    memory->kept = std::make_shared<int>(5);
    table.put(key, memory);
    std::shared_ptr<void> lost;
    const auto again = table.take(key, true, lost);
    CHECK(again != memory);
    REQUIRE(lost != nullptr);
    CHECK(*std::static_pointer_cast<int>(lost) == 5);
}

TEST_CASE("callers that cannot be told apart wait for each other, and not for one that does not come back") {
    LegTable table(4096, 16);
    const Key key{0, 1, 100};
    const auto first = take(table, key, true);
    table.put(key, first);
    std::shared_ptr<RetryMemory> second;
    std::thread thread;
    SUBCASE("it ends") {
        thread = std::thread([&] { second = take(table, key, true); });
        CHECK(take(table, key, false) == first);
        table.put(key, nullptr);
    }
    SUBCASE("it does not come back") {
        thread = std::thread([&] { second = take(table, key, true); });
    }
    thread.join();
    CHECK(second != nullptr);
    CHECK(second != first);
}
