#include <doctest/doctest.h>

#include "cli/fields.hpp"
#include "cli/hook_libvirt.hpp"

using namespace storctl;
using namespace storctl::cli;
using libvirt::Bus;
using libvirt::HostDevice;
using libvirt::StartupPolicy;

namespace {

const HostDevice keyboard{.bus = Bus::usb, .what = "046d:c31c", .where = "hostdev 1"};
const HostDevice xhci{.bus = Bus::pci, .what = "0000:00:14.0", .where = "hostdev 2", .managed = true};

Json blocker(const char* target, const char* description, Json holder, Json since, const char* reason) {
    return {{"target", target}, {"description", description}, {"holder", holder}, {"since", since}, {"reason", reason}};
}

Json claim(int id, const char* holder, const char* origin, const char* state) {
    return {{"id", id}, {"holder", holder}, {"origin", origin}, {"state", state}};
}

}  // namespace

TEST_CASE("what is done at which of libvirt's calls") {
    CHECK(hook_step("prepare", "begin") == HookStep::prepare);
    CHECK(hook_step("start", "begin") == HookStep::start);
    CHECK(hook_step("started", "begin") == HookStep::started);
    CHECK(hook_step("release", "end") == HookStep::release);
    CHECK(hook_step("reconnect", "begin") == HookStep::adopt);
    CHECK(hook_step("attach", "begin") == HookStep::adopt);
    for (const char* operation : {"stopped", "migrate", "restore", "update", "", "PREPARE"}) {
        CHECK(hook_step(operation, "begin") == HookStep::nothing);
    }
    CHECK(hook_step("prepare", "end") == HookStep::nothing);
    CHECK(hook_step("release", "begin") == HookStep::nothing);
}

TEST_CASE("each device is asked for once; what libvirt may do without is optional; what it does without is left out") {
    HostDevice spare = keyboard, gone = keyboard, restored = keyboard;
    spare.what = "1-2";
    spare.startup = StartupPolicy::optional;
    gone.missing = true;
    gone.what = "1-3";
    restored.what = "1-4";
    restored.startup = StartupPolicy::requisite;
    CHECK(targets_of({keyboard, xhci, keyboard, spare, gone, restored}) ==
          Json::array({{{"bus", "usb"}, {"what", "046d:c31c"}},
                       {{"bus", "pci"}, {"what", "0000:00:14.0"}},
                       {{"bus", "usb"}, {"what", "1-2"}, {"optional", true}},
                       {{"bus", "usb"}, {"what", "1-4"}, {"optional", true}}}));
    CHECK(targets_of({gone}) == Json::array());
}

TEST_CASE("only provisional claims of this holder from libvirt are given back") {
    const Json claims{{"claims",
                       {claim(1, "vm:a", "libvirt", "provisional"),
                        claim(2, "vm:a", "libvirt", "provisional"),
                        claim(3, "vm:b", "libvirt", "provisional"),
                        claim(4, "vm:a", "admin", "provisional"),
                        claim(5, "vm:a", "libvirt", "active"),
                        {{"holder", "vm:a"}, {"origin", "libvirt"}, {"state", "provisional"}, {"id", nullptr}}}}};
    CHECK(left_over(claims, "vm:a", Json{{"claims", {{{"id", 2}}}}}) == std::vector<uint64_t>{1});
    CHECK(left_over(claims, "vm:a", Json::object()) == std::vector<uint64_t>{1, 2});
    CHECK(left_over(Json::object(), "vm:a", Json::object()).empty());
}

TEST_CASE("a refusal names the device, who holds it since when, and the command") {
    const Json one{
        {"blockers",
         {blocker("0000:00:14.0/2.1", "046d:c31c Logitech Keyboard", "vm:web1", "2026-11-22T12:00:00Z", "")}}};
    CHECK(refusal("vm:web2", &keyboard, "io.storctl.Arbiter.Refused", one) ==
          "vm:web2 may not have USB device 046d:c31c (hostdev 1): 0000:00:14.0/2.1 (046d:c31c Logitech Keyboard) is "
          "held by vm:web1 since 2026-11-22T12:00:00Z; free it, or see: storctl usb explain 046d:c31c --for vm:web2");
    const Json mounted{{"blockers", {blocker("0000:00:14.0/4", "", "host", nullptr, "mounted on /srv (sda1)")}}};
    CHECK(refusal("vm:two words", &xhci, "io.storctl.Arbiter.Refused", mounted) ==
          "vm:two words may not have PCI function 0000:00:14.0 (hostdev 2): 0000:00:14.0/4 is held by host (mounted on "
          "/srv (sda1)); free it, or see: storctl pci explain 0000:00:14.0 --for 'vm:two words'");
    const Json group{{"blockers", {blocker("0000:00:14.2", "RAM", nullptr, nullptr, "in the same IOMMU group")}}};
    CHECK(refusal("vm:a", &xhci, "io.storctl.Arbiter.Refused", group).find("0000:00:14.2 (RAM): in the same IOMMU") !=
          std::string::npos);
    Json many{{"blockers", Json::array()}};
    for (int i = 0; i < 9; ++i) many["blockers"].push_back(blocker("t", "", "vm:x", nullptr, ""));
    CHECK(refusal("vm:a", &xhci, "io.storctl.Arbiter.Refused", many).find("; and 6 more; free it") !=
          std::string::npos);
    CHECK(refusal("vm:a", nullptr, "io.storctl.Arbiter.Refused", {{"message", "no"}}).find("its host devices: no") !=
          std::string::npos);
}

TEST_CASE("a hub is not passed through") {
    const Json device{{"kind", "device"}, {"target", "0000:00:14.0/2"}, {"description", "046d:c31c Keyboard"}};
    const Json hub{{"kind", "hub"}, {"target", "0000:00:14.0/2"}, {"description", "05e3:0610 Hub"}};
    CHECK(hub_refusal("vm:a", {{"claims", {device}}}).empty());
    CHECK(hub_refusal("vm:a", Json()).empty());
    const auto text = hub_refusal("vm:a", {{"claims", {device, hub}}});
    CHECK(text.starts_with("vm:a may not have 0000:00:14.0/2 (05e3:0610 Hub): a hub cannot be passed through"));
    CHECK(text.ends_with("storctl usb claim 0000:00:14.0/2 --for vm:a"));
}

TEST_CASE("other answers say what to do as well") {
    const auto says = [](const HostDevice* device, const char* error, const Json& parameters, const char* part) {
        const auto text = refusal("vm:a", device, error, parameters);
        CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    };
    says(&keyboard, "io.storctl.Arbiter.NotFound", {{"what", "046d:c31c"}}, "startupPolicy='optional'");
    says(nullptr, "io.storctl.Arbiter.NotFound", {{"what", "046d:c31c"}}, "'046d:c31c' is not there");
    const Json not_found{{"what", "046d:c31c"}, {"message", "'046d:c31c': nothing is called so"}};
    says(nullptr, "io.storctl.Arbiter.NotFound", not_found, "'046d:c31c': nothing is called so");
    says(&keyboard, "io.storctl.Arbiter.NotFound", not_found, "is not there ('046d:c31c': nothing is called so); plug");
    says(&keyboard, "io.storctl.Arbiter.Ambiguous", {{"what", "046d:c31c"}, {"candidates", {"1-1", "1-2"}}},
         "more than one device: 1-1, 1-2; name one");
    says(&xhci, "io.storctl.Arbiter.Failed", {{"message", "cannot unbind"}}, "cannot unbind");
    says(&xhci, "org.varlink.service.PermissionDenied", Json::object(), "not permitted");
    CHECK(unclear_devices("web2", {"hostdev 1: names no device", "qemu:arg 2: usb-host takes whatever fits"}) ==
          "domain 'web2': hostdev 1: names no device; qemu:arg 2: usb-host takes whatever fits; say which one it is, "
          "see storctl-passthrough(7)");
    const auto text = no_answer("web2", {keyboard, xhci}, "no such file");
    for (const char* part : {"domain 'web2' wants USB device 046d:c31c (hostdev 1) and 1 more", "no such file",
                             "systemctl start stord", "/etc/libvirt/hooks/qemu.d/50-storctl"}) {
        CHECK_MESSAGE(text.find(part) != std::string::npos, text);
    }
}
