// USB discovery on mocked events: sockets by the peers of root ports, batches in the order in which events came, what
// comes and goes between two of them, and bursts of which nothing may be lost.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include <doctest/doctest.h>

#include "daemon/usb_discovery.hpp"
#include "tests/integration/devices/usb_hotplug.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

using Texts = std::vector<std::string>;

std::string event_text(const UsbEvent& event) {
    if (const auto* plug = std::get_if<UsbPlugged>(&event)) {
        return fmt::format("plug {} {}{}", to_text(plug->device.socket), to_text(plug->device.half),
                           plug->first ? " first" : "");
    }
    if (const auto* unplug = std::get_if<UsbUnplugged>(&event)) {
        return fmt::format("unplug {} {}", to_text(unplug->socket), to_text(unplug->half));
    }
    if (const auto* changed = std::get_if<ControllerChanged>(&event)) return "controller " + changed->controller.path;
    return "gone " + std::get<ControllerRemoved>(event).path;
}

/// Keeps what the batches say, as the arbiter would.
struct Follower {
    std::map<std::string, std::string> devices;  ///< socket and half → serial number
    std::map<std::string, usbarb::ControllerFacts> controllers;
    Texts events;
    Texts unreadable;
    size_t full_batches = 0;

    static std::string key(const usbarb::Socket& socket, usbarb::Half half) {
        return fmt::format("{} {}", to_text(socket), to_text(half));
    }
    void take(const UsbBatch& batch) {
        if (batch.full) {
            CHECK(batch.events.empty());
            ++full_batches;
            unreadable = batch.scan.unreadable;
            devices.clear();
            controllers.clear();
        }
        for (const auto& facts : batch.scan.controllers) controllers[facts.path] = facts;
        for (const auto& facts : batch.scan.devices) devices[key(facts.socket, facts.half)] = facts.identity.serial;
        for (const auto& event : batch.events) {
            events.push_back(event_text(event));
            if (const auto* plug = std::get_if<UsbPlugged>(&event)) {
                CHECK(plug->settled);
                devices[key(plug->device.socket, plug->device.half)] = plug->device.identity.serial;
            } else if (const auto* unplug = std::get_if<UsbUnplugged>(&event)) {
                devices.erase(key(unplug->socket, unplug->half));
            } else if (const auto* changed = std::get_if<ControllerChanged>(&event)) {
                controllers[changed->controller.path] = changed->controller;
            } else {
                controllers.erase(std::get<ControllerRemoved>(event).path);
            }
        }
    }
    size_t count(const std::string& text) const {
        return static_cast<size_t>(std::count(events.begin(), events.end(), text));
    }
};

struct Fixture {
    UsbTestbed testbed;
    EventLoop loop = EventLoop::create().value();
    Follower follower;
    std::unique_ptr<UsbDiscovery> discovery;

    explicit Fixture(UsbDiscoveryOptions options = {.step_devices = 16}) {
        auto opened =
            UsbDiscovery::open(loop, std::move(options), [this](const UsbBatch& batch) { follower.take(batch); });
        REQUIRE(opened.has_value());
        discovery = std::move(*opened);
    }
    void coldplug() { REQUIRE(discovery->coldplug().has_value()); }
    void wait(const std::string& what, const std::function<bool()>& done) { run_until(loop, what, done); }
    void wait_for_event(const std::string& text) {
        wait(text, [&] { return follower.count(text) > 0; });
    }
};

}  // namespace

TEST_CASE("what is there at start is found, with sockets by the USB 2 half") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    const auto hub2 = bed.add_usb(bed.usb2, "1-3", 1, 2, "480", "09", 4);
    const auto hub3 = bed.add_usb(bed.usb3, "2-1", 2, 2, "5000", "09", 4);
    bed.add_usb(hub3, "2-1.4", 2, 3, "5000");
    fixture.coldplug();
    CHECK(fixture.follower.full_batches == 1);
    CHECK(fixture.follower.devices == std::map<std::string, std::string>{{"0000:00:14.0/3 usb2", "S2"},
                                                                         {"0000:00:14.0/3 usb3", "S2"},
                                                                         {"0000:00:14.0/3.4 usb3", "S3"}});
    REQUIRE(fixture.follower.controllers.count("0000:00:14.0") == 1);
    const auto& controller = fixture.follower.controllers["0000:00:14.0"];
    CHECK(controller.buses == std::array<uint16_t, 2>{1, 2});
    CHECK(controller.vendor == "Intel Corporation");
    CHECK(controller.model == "Cannon Lake xHCI");
    CHECK(fixture.discovery->monitoring());
}

TEST_CASE("devices come, get drivers and go, in order; a hub goes after what was in it") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    auto& follower = fixture.follower;
    fixture.coldplug();
    const auto hub = bed.add_usb(bed.usb3, "2-1", 2, 2, "5000", "09", 4);
    const auto disk = bed.add_usb(hub, "2-1.2", 2, 3, "5000");
    fixture.wait_for_event("plug 0000:00:14.0/3.2 usb3 first");
    CHECK(follower.events == Texts{"plug 0000:00:14.0/3 usb3 first", "plug 0000:00:14.0/3.2 usb3 first"});

    const auto interface = bed.add_interface(disk);
    bed.event(interface, "bind");
    fixture.wait_for_event("plug 0000:00:14.0/3.2 usb3");
    bed.event(disk, "bind");
    fixture.wait("the device's own bind", [&] { return follower.count("plug 0000:00:14.0/3.2 usb3 first") == 2; });

    follower.events.clear();
    bed.remove(interface);
    bed.remove(disk);
    bed.remove(hub);
    fixture.wait_for_event("unplug 0000:00:14.0/3 usb3");
    CHECK(follower.events == Texts{"unplug 0000:00:14.0/3.2 usb3", "unplug 0000:00:14.0/3 usb3"});
    CHECK(follower.devices.empty());
    CHECK(follower.full_batches == 1);
}

TEST_CASE("between two batches: gone and back is told as both, come and gone as gone") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    const auto keyboard = bed.add_usb(bed.usb2, "1-1", 1, 5);
    fixture.coldplug();
    bed.remove(keyboard);
    bed.add_usb(bed.usb2, "1-1", 1, 6);
    const auto brief = bed.add_usb(bed.usb2, "1-2", 1, 7);
    bed.remove(brief);
    fixture.wait_for_event("unplug 0000:00:14.0/2 usb2");
    CHECK(fixture.follower.events ==
          Texts{"unplug 0000:00:14.0/1 usb2", "plug 0000:00:14.0/1 usb2 first", "unplug 0000:00:14.0/2 usb2"});
    CHECK(fixture.follower.devices == std::map<std::string, std::string>{{"0000:00:14.0/1 usb2", "S6"}});
}

TEST_CASE("functions and root hubs: a change of one is told of those in its group, too") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    auto& follower = fixture.follower;
    const auto audio = bed.add_function("0000:00:1f.3", "0x040300");
    for (const auto& path : {bed.controller, audio}) {
        bed.set_link(path, "iommu_group", "../../kernel/iommu_groups/5");
    }
    bed.set(bed.controller, "../../kernel/iommu_groups/5/name", "");
    bed.set_link("/sys/kernel/iommu_groups/5/devices", "0000:00:14.0", "../../../../devices/0000:00:14.0");
    bed.set_link("/sys/kernel/iommu_groups/5/devices", "0000:00:1f.3", "../../../../devices/0000:00:1f.3");
    fixture.coldplug();
    REQUIRE(follower.controllers["0000:00:14.0"].group.size() == 1);

    bed.set_link(audio, "driver", "../../bus/pci/drivers/snd_hda_intel");
    bed.event(audio, "bind");
    fixture.wait_for_event("controller 0000:00:14.0");
    CHECK(follower.events == Texts{"controller 0000:00:1f.3", "controller 0000:00:14.0"});
    CHECK(follower.controllers["0000:00:14.0"].group.front().driver == "snd_hda_intel");
    CHECK(follower.controllers["0000:00:1f.3"].driver == "snd_hda_intel");

    bed.remove(bed.usb3);
    fixture.wait("the bus to go", [&] { return follower.controllers["0000:00:14.0"].buses[1] == 0; });
    bed.remove(audio);
    fixture.wait_for_event("gone 0000:00:1f.3");
    CHECK(follower.controllers.count("0000:00:1f.3") == 0);
}

TEST_CASE("a controller off PCI is there while it has a bus") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    fixture.coldplug();
    const auto dummy = bed.add("platform", "dummy_hcd.0", "", {}, {});
    const auto hub = bed.add_root_hub(dummy, 7, "480", 1);
    const auto device = bed.add_usb(hub, "7-1", 7, 2);
    fixture.wait_for_event("plug platform/dummy_hcd.0/1 usb2 first");
    CHECK(fixture.follower.controllers["platform/dummy_hcd.0"].buses[0] == 7);
    bed.remove(device);
    bed.remove(hub);
    fixture.wait_for_event("gone platform/dummy_hcd.0");
    CHECK(fixture.follower.devices.empty());
}

TEST_CASE("10,000 plugs and unplugs in bursts leave what is there, with each socket's comings and goings told") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    auto& follower = fixture.follower;
    fixture.coldplug();
    const unsigned seed = 20240607;
    INFO("seed ", seed);
    std::mt19937 random(seed);
    std::vector<std::string> hubs;
    for (int port = 1; port <= 4; ++port) {
        hubs.push_back(bed.add_usb(bed.usb2, fmt::format("1-{}", port), 1, port + 1, "480", "09", 25));
    }
    constexpr size_t sockets = 100, events = 10000;
    std::vector<std::string> paths, texts;
    for (size_t i = 0; i < sockets; ++i) {
        const size_t hub = i % 4, port = i / 4 + 1;
        texts.push_back(fmt::format("0000:00:14.0/{}.{} usb2", hub + 1, port));
        paths.push_back(bed.add_usb(hubs[hub], fmt::format("1-{}.{}", hub + 1, port), 1, static_cast<int>(10 + i)));
        REQUIRE(fixture.loop.run_once(std::chrono::milliseconds(0)));
    }
    fixture.wait("all devices", [&] { return follower.devices.size() == sockets + hubs.size(); });
    // The events alone: making folders takes libumockdev a hundred times as long. What the last event of a device says
    // is what must come out.
    std::vector<bool> there(sockets, true), went(sockets, false);
    int left = 1;
    for (size_t i = 0; i < events; ++i) {
        const size_t which = random() % sockets;
        bed.event(paths[which], there[which] ? "remove" : "add");
        if (there[which]) went[which] = true;
        there[which] = !there[which];
        // libumockdev's own queue is short
        // (one turn may be the timer's, the other is the socket's)
        if (--left > 0) continue;
        left = 1 + static_cast<int>(random() % 4);
        for (int turn = 0; turn < 2; ++turn) REQUIRE(fixture.loop.run_once(std::chrono::milliseconds(0)));
    }
    const std::string end = "plug 0000:00:14.0/usb3-2 usb3 first";
    bed.add_usb(bed.usb3, "2-2", 2, 77, "5000");
    fixture.wait_for_event(end);
    CHECK(fixture.discovery->overflows() == 0);
    CHECK(follower.full_batches == 1);
    for (size_t i = 0; i < sockets; ++i) {
        CAPTURE(texts[i]);
        CHECK((follower.devices.count(texts[i]) == 1) == there[i]);
        CHECK((follower.count("unplug " + texts[i]) > 0) == went[i]);
    }
}

TEST_CASE("an enumeration finds what no event told, in steps and at once, and comes after the events before it") {
    Fixture fixture({.step_devices = 1});
    auto& bed = fixture.testbed;
    auto& follower = fixture.follower;
    const auto keyboard = bed.add_usb(bed.usb2, "1-1", 1, 5);
    fixture.coldplug();
    bed.set(keyboard, "serial", "changed");
    REQUIRE(fixture.discovery->rescan());
    REQUIRE(fixture.discovery->rescan());
    const auto later = bed.add_usb(bed.usb2, "1-2", 1, 6);
    fixture.wait("the enumeration in steps", [&] { return follower.full_batches == 2; });
    CHECK(follower.devices["0000:00:14.0/1 usb2"] == "changed");
    fixture.wait_for_event("plug 0000:00:14.0/2 usb2 first");

    follower.events.clear();
    bed.set(keyboard, "serial", "again");
    bed.remove(later);
    REQUIRE(fixture.discovery->refresh());
    CHECK(follower.full_batches == 3);
    CHECK(follower.devices == std::map<std::string, std::string>{{"0000:00:14.0/1 usb2", "again"}});
    CHECK(follower.events == Texts{"unplug 0000:00:14.0/2 usb2"});
}

TEST_CASE("a device whose removal was heard and whose return was lost is there after the enumeration") {
    Fixture fixture;
    auto& bed = fixture.testbed;
    const auto keyboard = bed.add_usb(bed.usb2, "1-1", 1, 5);
    fixture.coldplug();
    bed.event(keyboard, "remove");
    REQUIRE(fixture.loop.run_once(std::chrono::milliseconds(10)));
    CHECK(fixture.follower.events.empty());
    REQUIRE(fixture.discovery->rescan());
    bed.add_usb(bed.usb2, "1-2", 1, 6);
    fixture.wait_for_event("plug 0000:00:14.0/2 usb2 first");
    CHECK(fixture.follower.full_batches == 2);
    CHECK(fixture.follower.count("unplug 0000:00:14.0/1 usb2") == 1);
    CHECK(fixture.follower.devices.count("0000:00:14.0/1 usb2") == 1);
}

TEST_CASE("an enumeration in steps that another took the place of is made up for") {
    Fixture fixture({.step_devices = 1});
    auto& bed = fixture.testbed;
    bed.add_usb(bed.usb2, "1-1", 1, 5);
    fixture.coldplug();
    REQUIRE(fixture.discovery->rescan());
    REQUIRE(fixture.discovery->refresh());
    CHECK(fixture.follower.full_batches == 2);
    fixture.wait("the enumeration that is owed", [&] { return fixture.follower.full_batches == 3; });
}

TEST_CASE("what cannot be read is told as such, and an enumeration that failed is tried again") {
    Fixture fixture({.retry = std::chrono::milliseconds(1)});
    auto& bed = fixture.testbed;
    auto& follower = fixture.follower;
    const auto keyboard = bed.add_usb(bed.usb2, "1-1", 1, 5);
    fixture.coldplug();
    CHECK(follower.unreadable.empty());
    bed.set(keyboard, "idVendor", "rubbish");
    REQUIRE(fixture.discovery->refresh());
    CHECK(follower.full_batches == 2);
    CHECK(follower.unreadable == Texts{keyboard});
    bed.set(keyboard, "idVendor", "046d");

    const std::string folder = bed.sys_folder() + "/bus/pci/devices";
    std::filesystem::rename(folder, folder + ".away");
    std::ofstream(folder) << "no folder";
    CHECK_FALSE(fixture.discovery->refresh());
    CHECK_FALSE(fixture.discovery->rescan());
    CHECK(follower.full_batches == 2);
    std::filesystem::remove(folder);
    std::filesystem::rename(folder + ".away", folder);
    fixture.wait("the enumeration tried again", [&] { return follower.full_batches == 3; });
    CHECK(follower.unreadable.empty());
    CHECK(follower.devices.size() == 1);
    CHECK(follower.controllers.count("0000:00:14.0") == 1);
}

TEST_CASE("a device without words is asked once per plug, and only with leave") {
    std::map<std::string, int> asked;
    bool leave = false;
    Fixture fixture({.may_ask = [&](const usbarb::Socket& socket) {
        ++asked[to_text(socket)];
        return leave;
    }});
    auto& bed = fixture.testbed;
    const auto mute = bed.add_usb(bed.usb2, "1-1", 1, 5);
    const auto named = bed.add_usb(bed.usb2, "1-2", 1, 6);
    bed.add_usb(bed.usb2, "1-3", 1, 7, "480", "09", 4);
    for (const char* attribute : {"manufacturer", "product"}) bed.set(named, attribute, "words");
    fixture.coldplug();
    CHECK(asked == std::map<std::string, int>{{"0000:00:14.0/1", 1}});
    leave = true;
    REQUIRE(fixture.discovery->refresh());
    REQUIRE(fixture.discovery->refresh());
    CHECK(asked["0000:00:14.0/1"] == 2);  // there is no node to ask: not again
    bed.remove(mute);
    bed.add_usb(bed.usb2, "1-1", 1, 8);
    fixture.wait_for_event("plug 0000:00:14.0/1 usb2 first");
    CHECK(asked["0000:00:14.0/1"] == 3);
    CHECK(asked.size() == 1);
}
