// Descriptors as devices have them, and as they should not: what is understood, and what is shown of some interfaces.

#include <random>

#include <doctest/doctest.h>

#include "daemon/node/usbfs/descriptors.hpp"
#include "tests/unit/usbfs_devices.hpp"

using namespace storctl::node::usbfs;
using namespace storctl::test;

namespace {

using Set = std::set<uint8_t>;

Bytes shown(const Bytes& body, uint8_t interfaces, const Set& allowed) {
    return show_only(usb_device() + usb_configuration(1, interfaces, body), allowed);
}
Bytes expected(const Bytes& body, uint8_t interfaces) { return usb_device() + usb_configuration(1, interfaces, body); }

}  // namespace

TEST_CASE("a composite device is described") {
    const auto device = describe(headset());
    REQUIRE(device.has_value());
    CHECK(device->vendor_id == 0x1234);
    CHECK(device->product_id == 0x5678);
    CHECK(device->device_class == 0xef);
    REQUIRE(device->configurations.size() == 1);
    const auto& configuration = device->configurations[0];
    CHECK(configuration.value == 1);
    CHECK(configuration.offset == 18);
    CHECK(configuration.length == headset().size() - 18);
    REQUIRE(configuration.interfaces.size() == 4);
    const auto& streaming = configuration.interfaces.at(1);
    CHECK(streaming.number == 1);
    CHECK(streaming.interface_class == 1);
    CHECK(streaming.subclass == 2);
    CHECK(streaming.endpoints == Set{0x01});
    CHECK(configuration.interfaces.at(0).endpoints.empty());
    CHECK(configuration.interfaces.at(2).endpoints == Set{0x83});
    CHECK(configuration.interfaces.at(2).classes_with_firmware.empty());
    const auto& dfu = configuration.interfaces.at(3);
    CHECK(dfu.interface_class == 0xfe);
    CHECK(dfu.subclass == 1);
    CHECK(dfu.protocol == 1);
    CHECK(dfu.classes_with_firmware == Set{0});
}

TEST_CASE("settings of one interface are put together") {
    const auto body = usb_interface(5, 0, 1, 8, 6, 0x50) + usb_endpoint(0x81) + usb_interface(5, 2, 0, 0xfe, 1) +
                      usb_interface(5, 3, 0, 0xfe, 2) + usb_interface(5, 4, 0, 7, 1, 2) + usb_interface(6, 0, 1) +
                      usb_endpoint(0x02) + usb_interface(5, 1, 1) + usb_endpoint(0x84);
    const auto device = describe(usb_device() + usb_configuration(1, 2, body));
    REQUIRE(device.has_value());
    const auto& interface = device->configurations.at(0).interfaces.at(5);
    CHECK(interface.interface_class == 8);
    CHECK(interface.protocol == 0x50);
    CHECK(interface.endpoints == Set{0x81, 0x84});
    CHECK(interface.classes_with_firmware == Set{2});
    CHECK(interface.printer_settings == Set{4});
    CHECK(device->configurations.at(0).interfaces.at(6).endpoints == Set{0x02});
}

TEST_CASE("configurations by index and by value") {
    const auto first = usb_configuration(7, 1, usb_interface(0, 0, 0));
    const auto second = usb_configuration(3, 1, usb_interface(0, 0, 1) + usb_endpoint(0x82));
    const auto bytes = usb_device(2) + first + second;
    const auto device = describe(bytes);
    REQUIRE(device.has_value());
    REQUIRE(device->configurations.size() == 2);
    REQUIRE(device->configuration(3));
    CHECK(device->configuration(3)->interfaces.at(0).endpoints == Set{0x82});
    CHECK(device->configuration(7)->offset == 18);
    CHECK(device->configuration(1) == nullptr);
    const auto one = configuration_bytes(bytes, 0), two = configuration_bytes(bytes, 1);
    CHECK(Bytes(one.begin(), one.end()) == first);
    CHECK(Bytes(two.begin(), two.end()) == second);
    CHECK(configuration_bytes(bytes, 2).empty());
    CHECK(configuration_bytes(bytes, 255).empty());
}

TEST_CASE("an endpoint's reserved bits are no part of its address, and endpoint 0 is no interface's") {
    const auto body = usb_interface(0, 0, 3) + usb_endpoint(0xf1) + usb_endpoint(0x80) + usb_endpoint(0x00);
    const auto device = describe(usb_device() + usb_configuration(1, 1, body));
    REQUIRE(device.has_value());
    CHECK(device->configurations.at(0).interfaces.at(0).endpoints == Set{0x81});
}

TEST_CASE("bytes that are no descriptors") {
    struct Row {
        const char* name;
        Bytes bytes;
        size_t configurations;
        std::vector<Set> interfaces;  // numbers, of each configuration
    };
    const auto disk = usb_configuration(1, 1, usb_interface(0, 0, 1) + usb_endpoint(0x81));
    auto lying = disk;
    lying[2] = static_cast<uint8_t>(disk.size() + 1);
    auto tiny = disk;
    tiny[2] = 8;
    auto headless = disk;
    headless[0] = 8;
    auto long_headed = disk;
    long_headed[0] = static_cast<uint8_t>(disk.size() + 1);
    auto mistyped = disk;
    mistyped[1] = 7;
    const Row rows[] = {
        {"a device descriptor alone", usb_device(), 0, {}},
        {"a configuration without interfaces", usb_device() + usb_configuration(1, 0, {}), 1, {{}}},
        {"cut in the configuration's head", usb_device() + Bytes{9, 2, 25}, 0, {}},
        {"cut in an endpoint", usb_device() + Bytes(disk.begin(), disk.end() - 1), 0, {}},
        {"the second cut off", usb_device(2) + disk + Bytes(disk.begin(), disk.end() - 1), 1, {{0}}},
        {"a total length that is more than there is", usb_device() + lying, 0, {}},
        {"a total length below its head's", usb_device() + tiny, 0, {}},
        {"a total length that takes a byte of the next", usb_device(2) + lying + disk, 1, {{0}}},
        {"a head that is too short", usb_device() + headless, 0, {}},
        {"a head that is longer than the whole", usb_device() + long_headed, 0, {}},
        {"something else where a configuration should be", usb_device(2) + mistyped + disk, 0, {}},
        {"a zero length ends the interfaces",
         usb_device() + usb_configuration(1, 2, usb_interface(0, 0, 0) + Bytes{0, 0} + usb_interface(1, 0, 0)),
         1,
         {{0}}},
        {"a length of one too",
         usb_device() + usb_configuration(1, 2, usb_interface(0, 0, 0) + Bytes{1, 4} + usb_interface(1, 0, 0)),
         1,
         {{0}}},
        {"a length beyond the configuration too",
         usb_device(2) + usb_configuration(1, 2, usb_interface(0, 0, 0) + Bytes{9, 4, 1, 0}) + disk,
         2,
         {{0}, {0}}},
        {"a last byte alone", usb_device() + usb_configuration(1, 1, usb_interface(4, 0, 0) + Bytes{9}), 1, {{4}}},
        {"an interface that is too short is none",
         usb_device() + usb_configuration(1, 2, Bytes{8, 4, 1, 0, 0, 0, 0, 0} + usb_interface(0, 0, 0)),
         1,
         {{0}}},
        {"twice the same",
         usb_device() + usb_configuration(1, 2, usb_interface(2, 0, 0) + usb_interface(2, 0, 0)),
         1,
         {{2}}},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto device = describe(row.bytes);
        REQUIRE(device.has_value());
        REQUIRE(device->configurations.size() == row.configurations);
        for (size_t i = 0; i < row.configurations; ++i) {
            Set numbers;
            for (const auto& [number, interface] : device->configurations[i].interfaces) numbers.insert(number);
            CHECK(numbers == row.interfaces[i]);
        }
    }
    const auto whole = headset();
    for (size_t size = 0; size < 18; ++size) CHECK_FALSE(describe(std::span(whole).first(size)).has_value());
}

TEST_CASE("endpoints after an interface that is too short belong to nobody") {
    const auto body = usb_interface(0, 0, 0) + Bytes{4, 4, 1, 0} + usb_endpoint(0x81);
    const auto device = describe(usb_device() + usb_configuration(1, 2, body));
    REQUIRE(device.has_value());
    CHECK(device->configurations.at(0).interfaces.at(0).endpoints.empty());
}

TEST_CASE("what is shown of some interfaces") {
    const auto association = usb_association(0, 2);
    const auto configuration_own = usb_class_specific(99, 9);
    struct Row {
        const char* name;
        Bytes body;
        uint8_t interfaces;
        Set allowed;
        Bytes shown;
        uint8_t interfaces_shown;
    };
    const auto all = association + headset_control() + headset_streaming() + headset_hid() + headset_dfu();
    const auto short_interface = Bytes{8, 4, 2, 0, 0, 0, 0, 0} + usb_endpoint(0x85);
    const Row rows[] = {
        {"all of them", all, 4, {0, 1, 2, 3}, all, 4},
        {"all of them and more", all, 4, {0, 1, 2, 3, 200}, all, 4},
        {"a count that is wrong stays when all is shown", all, 9, {0, 1, 2, 3}, all, 9},
        {"none", all, 4, {}, {}, 0},
        {"none of its own", all, 4, {8}, {}, 0},
        {"one, without association", all, 4, {2}, headset_hid(), 1},
        {"the last", all, 4, {3}, headset_dfu(), 1},
        {"a whole function", all, 4, {0, 1}, association + headset_control() + headset_streaming(), 2},
        {"half of a function keeps the association", all, 4, {1}, association + headset_streaming(), 1},
        {"from the middle", all, 4, {0, 2}, association + headset_control() + headset_hid(), 2},
        {"what the configuration has itself stays",
         configuration_own + all,
         4,
         {2},
         configuration_own + headset_hid(),
         1},
        {"an association between interfaces belongs to what follows",
         headset_hid() + association + headset_control(),
         2,
         {2},
         headset_hid(),
         1},
        {"what stands between an association and its first interface goes with it",
         headset_hid() + association + usb_class_specific(50) + headset_control(),
         2,
         {2},
         headset_hid(),
         1},
        {"an association that is too short is nobody's", Bytes{4, 11, 2, 1} + headset_hid(), 1, {2}, headset_hid(), 1},
        {"an association of no interfaces", usb_association(2, 0) + headset_hid(), 1, {2}, headset_hid(), 1},
        {"an association up to the last number there can be",
         usb_association(250, 255) + usb_interface(255, 0, 0),
         1,
         {255},
         usb_association(250, 255) + usb_interface(255, 0, 0),
         1},
        {"settings in disorder",
         usb_interface(0, 0, 0) + usb_interface(1, 0, 0) + usb_interface(0, 1, 1) + usb_endpoint(0x81) +
             usb_interface(1, 1, 1) + usb_endpoint(0x82),
         2,
         {0},
         usb_interface(0, 0, 0) + usb_interface(0, 1, 1) + usb_endpoint(0x81),
         1},
        {"an interface twice", headset_hid() + headset_hid() + headset_dfu(), 3, {2}, headset_hid() + headset_hid(), 1},
        {"an interface too short to be one is nobody's", headset_hid() + short_interface, 2, {2}, headset_hid(), 1},
        {"nothing after a zero length", headset_hid() + Bytes{0, 4} + headset_dfu(), 2, {2, 3}, headset_hid(), 1},
        {"nothing of a last one that is too long", headset_hid() + Bytes{7, 5, 0x81}, 1, {2}, headset_hid(), 1},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        CHECK(shown(row.body, row.interfaces, row.allowed) == expected(row.shown, row.interfaces_shown));
    }
}

TEST_CASE("each configuration is shown for itself") {
    const auto first = usb_configuration(1, 2, headset_hid() + headset_dfu());
    const auto second = usb_configuration(2, 1, headset_dfu());
    const auto third = usb_configuration(3, 1, headset_hid());
    CHECK(show_only(usb_device(3) + first + second + third, {2}) ==
          usb_device(3) + usb_configuration(1, 1, headset_hid()) + usb_configuration(2, 0, {}) + third);
    const auto cut = Bytes(third.begin(), third.end() - 1);
    CHECK(show_only(usb_device(2) + second + cut, {2, 3}) == usb_device(2) + second);
    CHECK(show_only(Bytes{18, 1, 0}, {0}) == Bytes{18, 1, 0});
    CHECK(show_only({}, {0}).empty());
}

TEST_CASE("a configuration of more than 255 bytes") {
    Bytes body = headset_dfu();
    for (uint8_t i = 0; i < 100; ++i) body = body + usb_interface(2, i, 1, 3) + usb_endpoint(0x83);
    const auto out = shown(body, 2, {2});
    CHECK(out == expected(Bytes(body.begin() + static_cast<long>(headset_dfu().size()), body.end()), 1));
    const auto device = describe(out);
    REQUIRE(device.has_value());
    CHECK(device->configurations.at(0).length == 9 + 100 * 16);
}

TEST_CASE("damaged descriptors never show what is hidden") {
    const unsigned seed = std::random_device{}();
    INFO("seed ", seed);
    std::mt19937 random(seed);
    const auto whole = headset() + usb_configuration(2, 2, headset_hid() + headset_control());
    for (int round = 0; round < 20000; ++round) {
        auto bytes = whole;
        for (auto left = random() % 4; left > 0; --left)
            bytes[random() % bytes.size()] = static_cast<uint8_t>(random() % 2 ? random() : random() % 10);
        if (random() % 4 == 0) bytes.resize(random() % bytes.size());
        const Set allowed = {static_cast<uint8_t>(random() % 4)};
        const auto out = show_only(bytes, allowed);
        REQUIRE(out.size() <= bytes.size());
        REQUIRE(show_only(out, allowed) == out);
        const auto device = describe(out);
        if (!device) continue;
        for (const auto& configuration : device->configurations) {
            for (const auto& [number, interface] : configuration.interfaces) REQUIRE(allowed.contains(number));
        }
    }
}

TEST_CASE("the same device") {
    const auto before = headset();
    auto after = before;
    CHECK(same_device(before, after));
    after.back() ^= 1;
    CHECK_FALSE(same_device(before, after));
    CHECK_FALSE(same_device(before, before + Bytes{0}));
    CHECK_FALSE(same_device(before, std::span(before).first(before.size() - 1)));
}
