// A stord that ends at any moment, and the next one: with the machine as it was left, and after a reboot.

#include <sys/wait.h>
#include <unistd.h>

#include "base/file.hpp"
#include "daemon/crash_point.hpp"
#include "tests/unit/fake_arbiter_kernel.hpp"

using namespace storctl;
using namespace storctl::test;

namespace {

struct Host : ArbiterHost {
    Host()
        : ArbiterHost({{.where = xhci + "/1", .serial = "ONE", .address = 2},
                       {.where = xhci + "/2", .hub = true, .address = 3},
                       {.where = xhci + "/2.1", .serial = "A", .address = 4},
                       {.where = xhci + "/3", .serial = "E", .address = 6}}) {}
    /// The kernel after a reboot: everything is on the host's drivers.
    void reboot() {
        machine.devices.merge(machine.behind_vfio);
        machine.controllers[xhci].driver = "xhci_hcd";
        for (auto& [path, device] : machine.devices) {
            for (auto& interface : device.interfaces) interface.driver = "usb-storage";
        }
    }
};

constexpr auto child_folder = "STORCTL_TEST_CRASH_FOLDER";

}  // namespace

TEST_CASE("claims outlive stord, and nothing is moved that is as it should be") {
    Host host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    REQUIRE(host->claim({"1-3"}, "vm:web2", {{"keep_drivers", true}, {"origin", "libvirt"}}).error.empty());
    host.machine.jobs.clear();
    host.start();
    CHECK(host->claims() == Strings{xhci + "/1 vm:web1 active done", xhci + "/3 vm:web2 active none"});
    CHECK(host.machine.jobs.empty());
    CHECK(host->claim({"1-1"}, "vm:other").error == "Refused");
    CHECK(host->claim({"1-1", "1-3"}, "vm:web1").error == "Refused");
    // an id is not given again
    const auto next = host->claim({"1-2.1"}, "vm:web1").parameters["claims"][0]["id"].get<int>();
    CHECK(next > 2);
}

TEST_CASE("drivers that were moved while stord was away are moved again") {
    Host host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    host.stand.reset();
    host.machine.devices.at("/sys/1-1").interfaces[0].driver = "usb-storage";
    SUBCASE("when nothing uses the device") {
        host.start();
        CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
        CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    }
    SUBCASE("not from under a mount: the claim says so, and is brought about when asked for again") {
        host.machine.uses[usbarb::testing::socket(xhci + "/1")] = {{.kind = UseKind::mount, .text = "mounted on /srv"}};
        host.start();
        CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active failed"});
        CHECK(host.machine.driver_of("1-1") == "usb-storage");
        REQUIRE(host->service().findings().size() == 1);
        CHECK(host->service().findings()[0].find("mounted on /srv") != std::string::npos);
        host.machine.uses.clear();
        CHECK(host->claim({"1-1"}, "vm:web1").error.empty());
        CHECK(host.machine.driver_of("1-1") == "");
        CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    }
}

TEST_CASE("a reboot ends what libvirt and processes had, and brings about again what was given by hand") {
    Host host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    REQUIRE(host->claim({"1-3"}, "vm:web2", {{"keep_drivers", true}, {"origin", "libvirt"}}).error.empty());
    REQUIRE(host->claim({"1-2.1"}, "proc:77").error.empty());
    host.stand.reset();
    host.reboot();
    host.start({.boot_id = "boot-2"});
    CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
    CHECK(host->claims() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 active done"});
    CHECK((*host->db().claims())[0].boot_id == "boot-2");
}

TEST_CASE("a controller is passed through again after a reboot, unless the host has begun to use something on it") {
    Host host;
    host.start();
    REQUIRE(host->claim({"pci"}, "vm:web1").error.empty());
    host.stand.reset();
    host.reboot();
    SUBCASE("free") {
        host.start({.boot_id = "boot-2"});
        CHECK(host->wait([&] { return host.machine.controllers[xhci].driver == "vfio-pci"; }));
        CHECK(host->release("vm:web1").error.empty());
        CHECK(host.machine.controllers[xhci].driver == "xhci_hcd");
    }
    SUBCASE("in use") {
        host.machine.uses[usbarb::testing::socket(xhci + "/2.1")] = {{.kind = UseKind::swap, .text = "swap (sdb2)"}};
        host.start({.boot_id = "boot-2"});
        CHECK(host.machine.controllers[xhci].driver == "xhci_hcd");
        CHECK(host->stored() == Strings{xhci + " vm:web1 active failed"});
    }
}

TEST_CASE("hub ports are held again where nobody kept them") {
    Host host;
    host.start();
    REQUIRE(host->claim({"1-2"}, "vm:web1").error.empty());
    host.machine.jobs.clear();
    host.start();
    REQUIRE(host->wait([&] { return !host.machine.jobs.empty(); }));
    CHECK(host.machine.actions() == Actions{Action::hold_hub});
    CHECK(host->claims().size() == 1);
}

TEST_CASE("a claim whose device did not come back with the boot waits for it") {
    Host host;
    host.start();
    REQUIRE(host->claim({"1-1"}, "vm:web1").error.empty());
    host.stand.reset();
    const auto away = host.machine.devices.extract("/sys/1-1");
    host.start({.boot_id = "boot-2"});
    CHECK(host->stored() == Strings{xhci + "/1 vm:web1 lost done"});
    host->plug({.where = xhci + "/1", .serial = "ONE", .address = 9});
    CHECK(host->wait([&] { return host->stored() == Strings{xhci + "/1 vm:web1 active done"}; }));
    CHECK(host->wait([&] { return host.machine.driver_of("1-1") == ""; }));
}

/// Runs as a process of its own, by the test below, and dies.
TEST_CASE("crash child" * doctest::skip()) {
    const char* const folder = std::getenv(child_folder);
    REQUIRE(folder != nullptr);
    FakeMachine machine;
    machine.put({.where = xhci + "/1", .serial = "ONE", .address = 2});
    ArbiterStand stand(machine, folder);
    const std::string point = std::getenv("STORCTL_CRASH_AT");
    if (point == "rollback") machine.failing[Action::detach] = "no";
    stand.claim({"1-1"}, "vm:web1");
    stand.release("vm:web1");
}

TEST_CASE("a stord that is killed between what it records and what it does is made up for by the next") {
    if (::getuid() != 0) return;  // only root's environment may ask for it
    struct Row {
        CrashPoint point;
        bool detached;  ///< how far the kernel was
        Action carried_on;
    };
    const Row rows[] = {
        {CrashPoint::claim_recorded, false, Action::attach},  {CrashPoint::claim_actuated, true, Action::attach},
        {CrashPoint::release_recorded, true, Action::attach}, {CrashPoint::release_actuated, false, Action::attach},
        {CrashPoint::rollback, false, Action::attach},
    };
    for (const auto& row : rows) {
        const std::string point(to_text(row.point));
        SUBCASE(point.c_str()) {
            Host host;
            const pid_t child = ::fork();
            REQUIRE(child >= 0);
            if (child == 0) {
                ::setenv("STORCTL_CRASH_AT", point.c_str(), 1);
                ::setenv(child_folder, host.folder.path().c_str(), 1);
                ::execl("/proc/self/exe", "test", "--test-case=crash child", "--no-skip", static_cast<char*>(nullptr));
                ::_exit(127);
            }
            int status = 0;
            REQUIRE(::waitpid(child, &status, 0) == child);
            REQUIRE(WIFSIGNALED(status));
            REQUIRE(WTERMSIG(status) == SIGKILL);
            host.machine.devices.at("/sys/1-1").interfaces[0].driver = row.detached ? "" : "usb-storage";
            host.start();
            CHECK(host->wait([&] { return host->stored().empty(); }));
            CHECK(host->wait([&] { return host.machine.driver_of("1-1") == "usb-storage"; }));
            CHECK(host.machine.actions() == Actions{row.carried_on});
            CHECK(host->claims().empty());
            CHECK(host->claim({"1-1", "1-3"}, "vm:other").error.empty());
        }
    }
}
