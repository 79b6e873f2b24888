#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/claim_view.hpp"
#include "cli/next_steps.hpp"
#include "cli/usb_class.hpp"
#include "cli/usb_view.hpp"
#include "usbarb/facts.hpp"

using namespace storctl;
using namespace storctl::cli;
using Json = nlohmann::json;
using Steps = std::vector<std::string>;

namespace {

Json blocker(const char* target, const char* holder, const char* reason, bool since = true) {
    return {{"target", target},
            {"description", "0781:5581 SanDisk Ultra"},
            {"holder", holder},
            {"since", since ? Json("2026-11-22T12:00:00Z") : Json()},
            {"reason", reason}};
}

Json refusal(Json blockers) {
    return {{"granted", false}, {"blockers", std::move(blockers)}, {"claims", Json::array()}};
}

Json use(const char* kind, const char* text, Json pid = nullptr) {
    return {{"kind", kind}, {"text", text}, {"pid", std::move(pid)}};
}

const Question question{.bus = "usb", .what = "1-2", .holder = "vm:b"};

}  // namespace

TEST_CASE("a class is a name or a number in hexadecimal") {
    struct Row {
        const char* text;
        int code;  ///< -1: refused
    };
    const Row rows[] = {{"storage", 8}, {"HID", 3},   {"audio-video", 0x10}, {"vendor", 0xff}, {"08", 8},
                        {"8", 8},       {"0x0E", 14}, {"ff", 255},           {"0", 0},         {"", -1},
                        {"storag", -1}, {"0x", -1},   {"100", -1},           {"g1", -1},       {"-1", -1},
                        {"0x008", -1}};
    for (const Row& row : rows) {
        CAPTURE(row.text);
        const auto parsed = parse_usb_class(row.text);
        CHECK((parsed ? *parsed : -1) == row.code);
        if (!parsed) CHECK(parsed.error().context.find("storage") != std::string::npos);
    }
    CHECK(class_text(8) == "storage (08)");
    CHECK(class_text(0x42) == "42");
    CHECK(class_name(0x142) == "class 142");
}

TEST_CASE("ids, names and speeds as people know them") {
    CHECK(usb_ids({{"vendor_id", "0781"}, {"product_id", "5581"}}) == "0781:5581");
    CHECK(usb_ids({{"vendor_id", "8086"}, {"device_id", "a36d"}}) == "8086:a36d");
    CHECK(usb_ids({{"vendor_id", "0781"}, {"product_id", nullptr}}) == "0781");
    CHECK(usb_ids(Json::object()) == "");
    CHECK(usb_names({{"vendor", "SanDisk "}, {"product", "Ultra"}}) == "SanDisk Ultra");
    CHECK(usb_names({{"vendor", "SanDisk"}, {"product", "SanDisk Ultra"}}) == "SanDisk Ultra");
    CHECK(usb_names({{"vendor", "SanDisk"}, {"product", ""}}) == "SanDisk");
    CHECK(format_speed("480") == "480M");
    CHECK(format_speed("1.5") == "1.5M");
    CHECK(format_speed("20000") == "20G");
    CHECK(format_speed("2500") == "2500M");
    CHECK(format_speed("") == "");
}

TEST_CASE("a blocker is one sentence: what, who, since when, why") {
    CHECK(describe_blocker(blocker("0000:00:14.0/2", "vm:a", "dongle")) ==
          "0000:00:14.0/2 (0781:5581 SanDisk Ultra) is held by vm:a since 2026-11-22T12:00:00Z (dongle)");
    CHECK(describe_blocker({{"target", "0000:00:14.2"}, {"holder", nullptr}, {"reason", "in the same IOMMU group"}}) ==
          "0000:00:14.2: in the same IOMMU group");
    CHECK(describe_blocker({{"target", "x"}}) == "x is in the way");
    CHECK(describe_blockers({{"blockers", {5, nullptr}}}).size() == 2);
}

TEST_CASE("claims in the way are released, by the bus that they are of, and then it is claimed") {
    const Json inventory{
        {"claims",
         {{{"id", 1}, {"kind", "device"}, {"target", "0000:00:14.0/2.1"}, {"holder", "vm:a b"}, {"state", "active"}},
          {{"id", 2}, {"kind", "controller"}, {"target", "0000:00:14.0"}, {"holder", "vm:c"}, {"state", "active"}},
          {{"id", 3}, {"kind", "device"}, {"target", "0000:00:14.0/3"}, {"holder", "vm:d"}, {"state", "releasing"}},
          {{"id", nullptr},
           {"kind", "device"},
           {"target", "0000:00:14.0/4"},
           {"holder", "host"},
           {"state", "active"}}}}};
    CHECK(next_steps(question,
                     refusal({blocker("0000:00:14.0/2.1", "vm:a b", ""), blocker("0000:00:14.0", "vm:c", ""),
                              blocker("0000:00:14.0", "vm:c", ""), blocker("0000:00:14.0/3", "vm:d", "")}),
                     inventory) == Steps{"storctl usb release 0000:00:14.0/2.1 --for 'vm:a b'",
                                         "storctl pci release 0000:00:14.0 --for vm:c",
                                         "wait: 0000:00:14.0/3 is being released", "storctl usb claim 1-2 --for vm:b"});
}

TEST_CASE("nothing is released from under a machine that runs") {
    const auto entry = [](const char* target, const char* holder, const char* origin, const char* kind = "device") {
        return Json{{"id", 1},          {"kind", kind},      {"target", target},
                    {"holder", holder}, {"state", "active"}, {"origin", origin}};
    };
    const auto opened = [](const char* socket) {
        return Json{{"socket", socket}, {"uses", {use("usbfs", "qemu", 9)}}};
    };
    const auto steps_for = [](const char* target, const char* holder, const Json& inventory) {
        return next_steps(question, refusal({blocker(target, holder, "")}), inventory).front();
    };
    const std::string first = "shut the machine down or detach it there first (virsh shutdown db)";
    const Json of_libvirt{{"claims", {entry("0000:00:14.0/2.1", "vm:db", "libvirt")}}};
    CHECK(next_steps(question, refusal({blocker("0000:00:14.0/2.1", "vm:db", "")}), of_libvirt) ==
          Steps{first, "storctl usb release 0000:00:14.0/2.1 --for vm:db", "storctl usb claim 1-2 --for vm:b"});
    const Json by_hand{{"claims", {entry("0000:00:14.0/2", "vm:db", "admin", "hub")}},
                       {"devices", {opened("0000:00:14.0/2.1")}}};
    CHECK(steps_for("0000:00:14.0/2", "vm:db", by_hand) == first);
    const Json of_process{{"claims", {entry("0000:00:14.0/2", "proc:9", "admin")}},
                          {"devices", {opened("0000:00:14.0/2")}}};
    CHECK(steps_for("0000:00:14.0/2", "proc:9", of_process) == "end what proc:9 does with it first");
    const Json beside{{"claims", {entry("0000:00:14.0/2", "vm:db", "admin")}},
                      {"devices", {opened("0000:00:14.0/22")}}};
    CHECK(steps_for("0000:00:14.0/2", "vm:db", beside) == "storctl usb release 0000:00:14.0/2 --for vm:db");
}

TEST_CASE("every kind of use has its end") {
    struct Row {
        const char* kind;
        const char* text;
        Json pid;
        const char* step;
    };
    const Row rows[] = {
        {"mount", "mounted on /srv (sda1)", nullptr, "umount /srv"},
        {"mount", "mounted on /mnt/a b", nullptr, "umount '/mnt/a b'"},
        {"mount", "mounted on /a (b)/c (sda1)", nullptr, "umount '/a (b)/c'"},
        {"mount", "mounted on 3 more places (sda1)", nullptr, "unmount it: umount(8)"},
        {"swap", "swap (sda2)", nullptr, "switch the swap area off: swapoff(8)"},
        {"node", "behind node 'web1' (sda)", nullptr, "storctl node remove web1"},
        {"network", "network interface eth1 is up", nullptr, "ip link set eth1 down"},
        {"network", "network interface eth1 is up, as part of br0", nullptr, "ip link set eth1 down"},
        {"open", "opened by lsusb (pid 812)", 812, "end process 812: ps -fp 812"},
        {"usbfs", "claimed by a program that cannot be seen from here", nullptr,
         "find the program with fuser(1), and end it"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        for (const char* list : {"devices", "controllers"}) {
            const Json inventory{{list, {{{"uses", {use("x", "other"), use(row.kind, row.text, row.pid)}}}}}};
            const auto steps = next_steps(question, refusal({blocker("0000:00:14.0/2", "host", row.text)}), inventory);
            CHECK(steps == Steps{row.step, "storctl usb claim 1-2 --for vm:b"});
        }
    }
    for (const auto& row : EnumNames<usbarb::UseKind>::table) {
        CAPTURE(row.name);
        const Json inventory{{"devices", {{{"uses", {use(std::string(row.name).c_str(), "t")}}}}}};
        CHECK(next_steps(question, refusal({blocker("x", "host", "t")}), inventory).size() == 2);
    }
}

TEST_CASE("functions that must go along lead to --group") {
    const Question pci{.bus = "pci", .what = "00:14.0", .holder = ""};
    CHECK(next_steps(pci, refusal({blocker("0000:00:14.2", "host", "in the same IOMMU group", false)}), {}) ==
          Steps{"storctl pci claim 00:14.0 --group --for vm:NAME"});
}

TEST_CASE("what is granted is to be claimed, or is held already") {
    CHECK(next_steps(question, {{"granted", true}, {"claims", Json::array()}}, {}) ==
          Steps{"storctl usb claim 1-2 --for vm:b"});
    CHECK(next_steps(question, {{"granted", true}, {"claims", {{{"id", 12}, {"holder", "vm:b"}}}}}, {}) ==
          Steps{"nothing: vm:b has it already (#12)"});
}

TEST_CASE("without blockers, or with garbage, there is nothing to advise") {
    CHECK(next_steps(question, refusal(Json::array()), {}).empty());
    CHECK(next_steps(question, Json::array(), 5).empty());
    CHECK(next_steps(question, refusal({blocker("x", "vm:z", "gone meanwhile")}), {}) ==
          Steps{"storctl usb claims -o ID,TARGET,HOLDER | grep -F vm:z", "storctl usb claim 1-2 --for vm:b"});
}
