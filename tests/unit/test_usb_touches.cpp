// Events folded per device, against a shadow that keeps them all.

#include <map>
#include <random>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "daemon/usb_touches.hpp"

using namespace storctl;

namespace {

constexpr auto device = UsbTouch::What::device;

std::optional<std::pair<usbarb::Socket, usbarb::Half>> place(uint8_t port) {
    return std::pair(usbarb::Socket{.controller = "0000:00:14.0", .ports = {port}}, usbarb::Half::usb2);
}

std::vector<std::string> take(UsbTouches& touches) {
    std::vector<std::string> out;
    for (const auto& touch : touches.take()) {
        out.push_back(fmt::format("{}{}{}", touch.removed ? "-" : "+", touch.syspath, touch.first ? "!" : ""));
    }
    return out;
}

}  // namespace

TEST_CASE("what events leave of a device") {
    using Texts = std::vector<std::string>;
    UsbTouches touches;
    CHECK(touches.empty());
    touches.present(device, "a", true);
    touches.present(device, "a", false);
    touches.present(device, "b", false);
    touches.present(device, "b", true);
    CHECK_FALSE(touches.empty());
    CHECK(take(touches) == Texts{"+a!", "+b!"});
    CHECK(touches.empty());

    touches.present(device, "came and went", true);
    touches.removed(device, "went and came", place(1));
    touches.removed(device, "came and went", place(2));
    touches.present(device, "went and came", true);
    CHECK(take(touches) == Texts{"-went and came", "-came and went", "+went and came!"});
    CHECK(take(touches).empty());
}

TEST_CASE("any order of events: the last one of each device, its absence in between, and the order between devices") {
    const unsigned seed = std::random_device{}();
    INFO("seed ", seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
        struct Shadow {
            bool went = false, present = false, first = false;
            size_t came_at = 0;  ///< of what is there at the end
        };
        std::map<std::string, Shadow> shadows;
        UsbTouches touches;
        const size_t events = random() % 60 + 1;
        for (size_t i = 0; i < events; ++i) {
            const std::string name = fmt::format("{}", random() % 6);
            auto& shadow = shadows[name];
            if (random() % 3 == 0) {
                touches.removed(device, name, place(1));
                shadow = {.went = true};
            } else {
                const bool first = random() % 2 == 0;
                touches.present(device, name, first);
                if (!shadow.present) shadow.came_at = i;
                shadow.present = true;
                shadow.first = shadow.first || first;
            }
        }
        size_t last_came = 0;
        for (const auto& touch : touches.take()) {
            REQUIRE(shadows.count(touch.syspath) == 1);
            auto& shadow = shadows[touch.syspath];
            if (touch.removed) {
                CHECK(touch.place.has_value());
                CHECK(shadow.went);  // once, and before what came after it
                shadow.went = false;
            } else {
                CHECK_FALSE(shadow.went);
                CHECK(shadow.present);
                CHECK(touch.first == shadow.first);
                CHECK(shadow.came_at >= last_came);
                last_came = shadow.came_at;
                shadow.present = false;
            }
        }
        for (const auto& [name, shadow] : shadows) {
            CAPTURE(name);
            CHECK_FALSE(shadow.went);
            CHECK_FALSE(shadow.present);
        }
    }
}
