#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/usb_tree.hpp"

using namespace storctl::cli;
using Json = nlohmann::json;

namespace {

Json controller(const char* path, const char* driver, int in_use, Json more = Json::object()) {
    Json out{{"path", path},
             {"pci", true},
             {"kind", "usb"},
             {"description", "USB controller 8086:a36d Intel Cannon Lake PCH xHCI"},
             {"driver", driver},
             {"in_use", in_use},
             {"companions", Json::array()},
             {"buses", {{{"half", "usb2"}, {"number", 1}, {"in_use", in_use}}}},
             {"holder", nullptr},
             {"claim", nullptr},
             {"state", nullptr},
             {"uses", Json::array()}};
    out.update(more);
    return out;
}

Json device(const char* socket, const char* kernel_name, const char* ids, const char* vendor, const char* product,
            Json more = Json::object()) {
    const std::string both = ids;
    Json out{{"socket", socket},
             {"half", "usb2"},
             {"kernel_name", kernel_name},
             {"vendor_id", both.substr(0, 4)},
             {"product_id", both.substr(5)},
             {"vendor", vendor},
             {"product", product},
             {"hub", false},
             {"in_use", 0},
             {"present", true},
             {"interfaces", {{{"class", 8}}}},
             {"holder", nullptr},
             {"claim", nullptr},
             {"uses", Json::array()}};
    out.update(more);
    return out;
}

Json hub(int in_use) { return {{"hub", true}, {"in_use", in_use}, {"ports", 4}}; }
Json held(const char* holder, int claim) { return {{"holder", holder}, {"claim", claim}}; }
Json host_use(const char* text) {
    return {{"holder", "host"}, {"uses", {{{"kind", "mount"}, {"text", text}, {"pid", nullptr}}}}};
}

Json claim(int id, const char* kind, const char* target, const char* holder, Json more = Json::object()) {
    Json out{{"id", id},         {"kind", kind},      {"target", target},    {"description", "0781:5581 SanDisk Ultra"},
             {"holder", holder}, {"state", "active"}, {"deadline", nullptr}, {"reason", ""},
             {"phase", "done"},  {"message", ""},     {"origin", "admin"}};
    out.update(more);
    return out;
}

std::string tree(Json controllers, Json devices, Json claims, Screen screen = {.utf8 = true}) {
    const Json inventory{
        {"controllers", std::move(controllers)}, {"devices", std::move(devices)}, {"claims", std::move(claims)}};
    return "\n" + format_usb_tree(inventory, screen);
}

const Json xhci = controller("0000:00:14.0", "xhci_hcd", 3,
                             {{"buses", {{{"half", "usb2"}, {"number", 1}}, {{"half", "usb3"}, {"number", 2}}}}});

/// One xHCI: a USB 3 hub in root port 2 (port 6 of the USB 3 bus) with two devices in use, one free, one beside it.
const Json desk = Json::array(
    {device("0000:00:14.0/10", "1-10", "8087:0aaa", "Intel", "Bluetooth"),
     device("0000:00:14.0/2", "1-2", "05e3:0610", "GenesysLogic", "USB2.1 Hub", hub(2)),
     device("0000:00:14.0/2", "2-6", "05e3:0626", "GenesysLogic", "USB3.1 Hub", hub(2)),
     device("0000:00:14.0/2.1", "2-6.1", "0781:5581", "SanDisk", "Ultra", held("vm:web1", 12)),
     device("0000:00:14.0/2.3", "1-2.3", "046d:c31c", "Logitech", "USB Keyboard", host_use("console keyboard")),
     device("0000:00:14.0/2.4", "1-2.4", "1a86:7523", "", "")});
const Json desk_claims =
    Json::array({claim(12, "device", "0000:00:14.0/2.1", "vm:web1", {{"reason", "licence dongle"}}),
                 claim(13, "device", "0000:00:14.0/2.3", "host", {{"id", nullptr}, {"origin", "observed"}})});

}  // namespace

TEST_CASE("a host without USB says so") {
    CHECK(tree(Json::array(), Json::array(), Json::array()) == "\nno USB controllers here\n");
    CHECK(tree(nullptr, 5, "x") == "\nno USB controllers here\n");
}

TEST_CASE("a controller with a hub of two halves and what is below it") {
    CHECK(tree({xhci}, desk, desk_claims) == R"(
DEVICE                                                                    IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake PCH xHCI       3
├─ 1-2, 2-6  05e3:0610  GenesysLogic USB2.1 Hub                                2
│  ├─ 2-6.1 at /2.1  0781:5581  SanDisk Ultra                                     vm:web1 #12  licence dongle
│  ├─ 1-2.3          046d:c31c  Logitech USB Keyboard                             host  console keyboard
│  └─ 1-2.4          1a86:7523  (storage)                                         free
└─ 1-10      8087:0aaa  Intel Bluetooth                                           free
)");
    CHECK(tree({xhci}, desk, desk_claims, {.columns = 80, .utf8 = false}) == R"(
DEVICE                                                       IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon…       3
|- 1-2, 2-6  05e3:0610  GenesysLogic USB2.1 Hub                   2
|  |- 2-6.1 at /2.1  0781:5581  SanDisk Ultra                        vm:web1 #12
|  |       licence dongle
|  |- 1-2.3          046d:c31c  Logitech USB Keyboard                host
|  |       console keyboard
|  `- 1-2.4          1a86:7523  (storage)                            free
`- 1-10      8087:0aaa  Intel Bluetooth                              free
)");
}

TEST_CASE("a controller that is passed through, with what was last seen below it") {
    const Json gone{{"present", false}, {"holder", "vm:desktop"}, {"claim", 4}};
    const Json passed =
        controller("0000:03:00.0", "vfio-pci", 0, {{"holder", "vm:desktop"}, {"claim", 4}, {"buses", Json::array()}});
    Json lost_hub = hub(0);
    lost_hub.update(gone);
    const Json devices = Json::array({device("0000:03:00.0/1", "3-1", "05e3:0610", "GenesysLogic", "Hub", lost_hub),
                                      device("0000:03:00.0/1.2", "3-1.2", "0781:5581", "SanDisk", "Ultra", gone)});
    CHECK(tree({passed, controller("0000:00:14.0", "", 0)}, devices,
               {claim(4, "controller", "0000:03:00.0", "vm:desktop", {{"reason", "gaming"}})}) == R"(
DEVICE                                                               IN USE  HOLDER
0000:00:14.0  usb1  no driver  8086:a36d Intel Cannon Lake PCH xHCI       0
0000:03:00.0        vfio-pci   8086:a36d Intel Cannon Lake PCH xHCI       0  → vm:desktop #4  gaming
└─ /1  05e3:0610  GenesysLogic Hub                                        0  absent
   └─ /1.2  0781:5581  SanDisk Ultra                                         absent
)");
}

TEST_CASE("a controller that is not on PCI") {
    CHECK(tree({controller("platform/xhci-hcd.0", "xhci-hcd", 1, {{"pci", false}, {"description", "USB controller"}})},
               {device("platform/xhci-hcd.0/1", "1-1", "0781:5581", "SanDisk", "Ultra",
                       host_use("mounted on /media/usb (sda1)"))},
               Json::array()) == R"(
DEVICE                                               IN USE  HOLDER
platform/xhci-hcd.0  usb1  xhci-hcd  USB controller       1
└─ 1-1  0781:5581  SanDisk Ultra                             host  mounted on /media/usb (sda1)
)");
}

TEST_CASE("uses that do not fit stand on lines below, and nothing that one types is cut") {
    Json disk = host_use("mounted on /srv/backup/weekly (sda1)");
    disk["uses"].push_back({{"kind", "holder"}, {"text", "vg-backup (LVM, sda2)"}});
    const Json devices =
        Json::array({device("0000:00:14.0/2", "1-2", "05e3:0610", "GenesysLogic", "USB2.1 Hub", hub(1)),
                     device("0000:00:14.0/2.1", "1-2.1", "0781:5581", "SanDisk", "Extreme Portable SSD", disk),
                     device("0000:00:14.0/3", "1-3", "046d:c31c", "Logitech", "USB Keyboard")});
    CHECK(tree({xhci}, devices, Json::array(), {.columns = 80, .utf8 = true}) == R"(
DEVICE                                                            IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake…       3
├─ 1-2  05e3:0610  GenesysLogic USB2.1 Hub                             1
│  └─ 1-2.1  0781:5581  SanDisk Extreme Portable SSD                      host
│          mounted on /srv/backup/weekly (sda1)
│          vg-backup (LVM, sda2)
└─ 1-3  046d:c31c  Logitech USB Keyboard                                  free
)");
    CHECK(tree({xhci}, devices, Json::array(), {.columns = 20, .utf8 = true}) == R"(
DEVICE                              IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd       3
├─ 1-2  05e3:0610  GenesysLogic U…       1
│  └─ 1-2.1  0781:5581  SanDisk E…          host
│          mounted on
│          /srv/backup/weekly
│          (sda1)
│          vg-backup (LVM,
│          sda2)
└─ 1-3  046d:c31c  Logitech USB K…          free
)");
}

TEST_CASE("a lost claim keeps its place, also where the hub has gone with it") {
    const Json lost{{"state", "lost"}, {"deadline", "2026-11-22T12:00:30Z"}};
    CHECK(tree({xhci}, {device("0000:00:14.0/3", "1-3", "046d:c31c", "Logitech", "USB Keyboard")},
               {claim(12, "device", "0000:00:14.0/2.1", "vm:web1", lost),
                claim(14, "device", "0000:00:14.0/3", "vm:db", lost)}) ==
          R"(
DEVICE                                                                    IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake PCH xHCI       3
├─ /2.1  0781:5581  SanDisk Ultra                                                 vm:web1 #12 lost  until 2026-11-22T12:00:30Z
├─ 1-3   046d:c31c  Logitech USB Keyboard                                         free
└─ /3    0781:5581  SanDisk Ultra                                                 vm:db #14 lost  until 2026-11-22T12:00:30Z
)");
}

TEST_CASE("a lost claim of a USB controller keeps its line, that of another function has none") {
    const Json lost{{"state", "lost"},
                    {"deadline", "2026-11-22T12:00:30Z"},
                    {"description", "USB controller 1912:0014 Renesas uPD720201"}};
    Json lost_disk = lost;
    lost_disk["description"] = "Non-Volatile memory controller 144d:a808 Samsung";
    CHECK(tree({xhci}, Json::array(),
               {claim(11, "controller", "0000:01:00.0", "vm:db", lost_disk),
                claim(12, "controller", "0000:03:00.0", "vm:web1", lost),
                claim(13, "controller", "0000:00:14.0", "vm:web1", lost)}) ==
          R"(
DEVICE                                                                    IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake PCH xHCI       3
0000:03:00.0              gone      1912:0014 Renesas uPD720201                0  → vm:web1 #12 lost  until 2026-11-22T12:00:30Z
)");
}

TEST_CASE("claims of hubs, covered devices, claims under way and drivers that failed") {
    Json claimed_hub = hub(0);
    claimed_hub.update(held("vm:lab", 9));
    CHECK(tree({xhci},
               {device("0000:00:14.0/2", "1-2", "05e3:0610", "GenesysLogic", "USB2.1 Hub", claimed_hub),
                device("0000:00:14.0/2.1", "1-2.1", "0781:5581", "SanDisk", "Ultra", held("vm:lab", 9)),
                device("0000:00:14.0/3", "1-3", "0781:5581", "SanDisk", "Ultra", held("vm:db", 10)),
                device("0000:00:14.0/4", "1-4", "0781:5581", "SanDisk", "Ultra", held("vm:db", 11)),
                device("0000:00:14.0/usb3-5", "2-5", "0781:5581", "SanDisk", "Ultra", held("proc:812", 99))},
               {claim(9, "hub", "0000:00:14.0/2", "vm:lab", {{"reason", "bench"}}),
                claim(10, "device", "0000:00:14.0/3", "vm:db",
                      {{"state", "provisional"}, {"deadline", "2026-11-22T12:02:00Z"}}),
                claim(11, "device", "0000:00:14.0/4", "vm:db",
                      {{"phase", "failed"}, {"message", "usb-storage is busy"}})}) ==
          R"(
DEVICE                                                                    IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake PCH xHCI       3
├─ 1-2             05e3:0610  GenesysLogic USB2.1 Hub                          0  vm:lab #9  bench
│  └─ 1-2.1  0781:5581  SanDisk Ultra                                             vm:lab #9
├─ 1-3             0781:5581  SanDisk Ultra                                       vm:db #10 provisional  until 2026-11-22T12:02:00Z
├─ 1-4             0781:5581  SanDisk Ultra                                       vm:db #11  drivers failed: usb-storage is busy
└─ 2-5 at /usb3-5  0781:5581  SanDisk Ultra                                       proc:812
)");
    // stord names the holder of a root hub as the controller's; it is passed through to nobody
    for (const Json& said : {Json::object(), held("vm:lab", 7)}) {
        Json ehci = controller("0000:00:1d.0", "ehci-pci", 0, {{"companions", {"0000:00:1d.1"}}});
        ehci.update(said);
        CHECK(tree({ehci}, Json::array(), {claim(7, "hub", "0000:00:1d.0", "vm:lab")}) == R"(
DEVICE                                                              IN USE  HOLDER
0000:00:1d.0  usb1  ehci-pci  8086:a36d Intel Cannon Lake PCH xHCI       0  vm:lab #7  shares its sockets with 0000:00:1d.1
)");
    }
}

TEST_CASE("what a device calls itself neither drives the terminal nor breaks the columns") {
    CHECK(tree({xhci},
               {device("0000:00:14.0/1", "1-1", "0781:5581", "日立", "ディスク 💾"),
                device("0000:00:14.0/2", "1-2", "0781:5581", "\x1b[2J\x1b]0;x\x07", "a\nb\r\xff"),
                device("0000:00:14.0/3", "1-3", "0781:5581", "\u202eevil",
                       "\xc2\x9b"
                       "31m",
                       host_use("mounted on /a\x1b[31m\nb"))},
               Json::array(), {.columns = 100, .utf8 = true}) == R"(
DEVICE                                                                    IN USE  HOLDER
0000:00:14.0  usb1, usb2  xhci_hcd  8086:a36d Intel Cannon Lake PCH xHCI       3
├─ 1-1  0781:5581  日立 ディスク 💾                                               free
├─ 1-2  0781:5581  \x1b[2J\x1b]0;x\x07 a\x0ab\x0d\xff                             free
└─ 1-3  0781:5581  \xe2\x80\xaeevil \xc2\x9b31m                                   host
        mounted on /a\x1b[31m\x0ab
)");
}

TEST_CASE("colour does not move the columns") {
    const std::string coloured = tree({xhci}, desk, desk_claims, {.colour = true, .columns = 100, .utf8 = true});
    std::string plain;
    for (size_t i = 0; i < coloured.size(); ++i) {
        if (coloured[i] == '\x1b') {
            i = coloured.find('m', i);
        } else {
            plain += coloured[i];
        }
    }
    CHECK(plain == tree({xhci}, desk, desk_claims, {.columns = 100, .utf8 = true}));
    CHECK(coloured.find("\x1b[32mvm:web1 #12\x1b[0m") != std::string::npos);
}

TEST_CASE("an inventory of any shape gives a tree") {
    for (const char* text :
         {R"({"controllers": [5, null, {"kind": "usb"}], "devices": [7, {"socket": "x"}, {"socket": "/"}]})",
          R"({"controllers": [{"kind": "usb", "path": "a"}], "devices": [
                                {"socket": "a/1", "hub": true}, {"socket": "a/1.1.1"}, {"socket": "a/1/1"}, {"socket": "a/01"},
                                {"socket": "a/1 "}, {"socket": "b/2", "kernel_name": 4}], "claims": [{"id": 1, "state": "lost"},
                                {"id": 2, "state": "lost", "target": "z"}, {"id": 3, "state": "lost", "target": "a/9.9"}]})"}) {
        CAPTURE(text);
        CHECK(format_usb_tree(Json::parse(text), {.columns = 80}).find("DEVICE") == 0);
    }
}
