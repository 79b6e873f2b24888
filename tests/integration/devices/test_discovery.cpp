// Discovery on mocked events: nothing between monitor and enumeration is lost, bursts become few batches, a full
// enumeration finds what events did not tell.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <algorithm>
#include <map>

#include <doctest/doctest.h>

#include "daemon/discovery.hpp"
#include "tests/integration/devices/hotplug.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

/// Keeps what the batches say, as a user of discovery would.
struct Follower {
    std::map<std::string, locality::BlockFacts> devices;
    size_t batches = 0;
    size_t full_batches = 0;

    void take(const DiscoveryBatch& batch) {
        ++batches;
        if (batch.full) {
            ++full_batches;
            devices.clear();
        }
        for (const auto& facts : batch.present) devices[facts.name] = facts;
        for (const auto& name : batch.gone) devices.erase(name);
    }
};

struct Fixture {
    Testbed testbed;
    EventLoop loop = EventLoop::create().value();
    Follower follower;
    std::unique_ptr<Discovery> discovery;

    Fixture() {
        auto opened =
            Discovery::open(loop, {.step_devices = 16}, [this](DiscoveryBatch batch) { follower.take(batch); });
        REQUIRE(opened.has_value());
        discovery = std::move(*opened);
    }
    void coldplug() { REQUIRE(discovery->coldplug().has_value()); }
    void wait(const std::string& what, const std::function<bool()>& done) { run_until(loop, what, done); }
};

std::string naa(int number) { return "5000c5000000" + std::to_string(1000 + number); }

}  // namespace

TEST_CASE("devices are found at start and followed as they come, change and go") {
    Fixture fixture;
    const auto first = fixture.testbed.add_disk(1, naa(1));
    fixture.coldplug();
    CHECK(fixture.follower.full_batches == 1);
    REQUIRE(fixture.follower.devices.count("sd1") == 1);
    CHECK(fixture.follower.devices["sd1"].size_bytes == 2048 * 512);

    fixture.testbed.add_disk(2, naa(2));
    fixture.wait("sd2 to appear", [&] { return fixture.follower.devices.count("sd2") == 1; });
    CHECK(fixture.follower.devices["sd2"].wwid == "naa." + naa(2));

    fixture.testbed.set(first, "size", "4096");
    fixture.testbed.event(first, "change");
    fixture.wait("sd1 to grow", [&] { return fixture.follower.devices["sd1"].size_bytes == 4096 * 512; });

    fixture.testbed.remove(first);
    fixture.wait("sd1 to go", [&] { return fixture.follower.devices.count("sd1") == 0; });
    CHECK(fixture.follower.devices.count("sd2") == 1);
    CHECK(fixture.follower.full_batches == 1);
}

TEST_CASE("a device that comes and goes within one batch is gone, and the other way round") {
    Fixture fixture;
    fixture.coldplug();
    const auto fleeting = fixture.testbed.add_disk(1, naa(1));
    fixture.testbed.remove(fleeting);
    const auto replugged = fixture.testbed.add_disk(2, naa(2));
    fixture.testbed.remove(replugged);
    fixture.testbed.add("block", "sd2", "", {{"size", "512"}}, {{"DEVNAME", "/dev/sd2"}, {"DEVTYPE", "disk"}});
    fixture.wait("a batch", [&] { return fixture.follower.batches == 2; });
    CHECK(fixture.follower.devices.count("sd1") == 0);
    REQUIRE(fixture.follower.devices.count("sd2") == 1);
    CHECK(fixture.follower.devices["sd2"].size_bytes == 512 * 512);
}

TEST_CASE("a burst of events becomes few batches, and none is lost") {
    constexpr int count = 60;
    Fixture fixture;
    fixture.coldplug();
    for (int i = 0; i < count; ++i) {
        fixture.testbed.add_disk(i, naa(i));
        // libumockdev's own queue is short
        REQUIRE(fixture.loop.run_once(std::chrono::microseconds(0)).has_value());
    }
    fixture.wait("all of the burst", [&] { return fixture.follower.devices.size() == count; });
    CHECK(fixture.follower.batches <= 1 + count / 10);
    CHECK(fixture.follower.full_batches == 1);
}

TEST_CASE("a steady stream of events is handed on all the same") {
    Fixture fixture;
    const auto path = fixture.testbed.add_disk(1, naa(1));
    fixture.coldplug();
    // an event in every turn leaves no quiet moment
    const auto before = fixture.follower.batches;
    fixture.wait("a batch although events never pause", [&] {
        fixture.testbed.event(path, "change");
        return fixture.follower.batches > before;
    });
}

TEST_CASE("a full enumeration finds what no event told, and events meanwhile are not lost") {
    Fixture fixture;
    std::vector<std::string> paths;
    for (int i = 0; i < 40; ++i) paths.push_back(fixture.testbed.add_disk(i, naa(i)));
    fixture.coldplug();
    fixture.testbed.set(paths[7], "size", "9999");  // without an event
    REQUIRE(fixture.discovery->rescan().has_value());
    fixture.testbed.add_disk(200, naa(200));
    fixture.testbed.remove(paths[3]);
    REQUIRE(fixture.discovery->rescan().has_value());  // while one runs: starts over
    fixture.wait("the enumeration and what came after", [&] {
        return fixture.follower.full_batches == 2 && fixture.follower.devices.count("sd200") == 1 &&
               fixture.follower.devices.count("sd3") == 0;
    });
    CHECK(fixture.follower.devices["sd7"].size_bytes == 9999 * 512);
    CHECK(fixture.follower.devices.size() == 40);
}

TEST_CASE("a device whose removal was heard and whose return was lost is there after the enumeration") {
    Fixture fixture;
    const auto path = fixture.testbed.add_disk(1, naa(1));
    fixture.coldplug();
    fixture.testbed.event(path, "remove");
    REQUIRE(fixture.loop.run_once(std::chrono::milliseconds(10)).has_value());
    CHECK(fixture.follower.batches == 1);
    REQUIRE(fixture.discovery->rescan().has_value());
    fixture.testbed.add_disk(2, naa(2));
    fixture.wait("what came after", [&] { return fixture.follower.devices.count("sd2") == 1; });
    CHECK(fixture.follower.full_batches == 2);
    CHECK(fixture.follower.devices.count("sd1") == 1);
}
