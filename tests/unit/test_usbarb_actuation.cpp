#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN

#include <doctest/doctest.h>

#include "fake_drivers.hpp"
#include "usbarb/actuation.hpp"

using namespace storctl;
using namespace storctl::usbarb;
using test::FakeDrivers;

namespace {

using Held = std::vector<UniqueFd>;

Outcome carry(FakeDrivers& kernel, const Job& job) {
    Held held;
    return carry_out(job, held, kernel);
}

bool says(const Outcome& outcome, const std::string& text) { return outcome.message.find(text) != std::string::npos; }

/// Runs the job on fresh hardware with each of its writes failing in turn. Gives how many there are.
template <class Build, class Check>
size_t fail_each_write(Build build, Check check) {
    for (size_t step = 0;; ++step) {
        FakeDrivers kernel;
        const Job job = build(kernel);
        const auto before = kernel.state();
        kernel.fail_at = step;
        const Outcome outcome = carry(kernel, job);
        if (outcome.done) return step;
        CAPTURE(step);
        CAPTURE(outcome.message);
        check(outcome, before, kernel.state());
        REQUIRE(step < 100);
    }
}

Job vfio_job() {
    return {.action = Action::bind_vfio, .functions = {{.path = "0000:00:14.0"}, {.path = "0000:00:14.1"}}};
}

}  // namespace

TEST_CASE("jobs and outcomes come back as they were written") {
    const Job job{.action = Action::hold_hub,
                  .devices = {"/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2"},
                  .hubs = {{.devnode = "/dev/bus/usb/001/004", .ports = {1, 255}}},
                  .functions = {{.path = "10000:e1:1f.7", .former_driver = "xhci_hcd"}}};
    const auto parsed = parse_job(job_text(job));
    REQUIRE(parsed);
    CHECK(parsed->action == job.action);
    CHECK(parsed->devices == job.devices);
    REQUIRE(parsed->hubs.size() == 1);
    CHECK(parsed->hubs[0].devnode == job.hubs[0].devnode);
    CHECK(parsed->hubs[0].ports == job.hubs[0].ports);
    REQUIRE(parsed->functions.size() == 1);
    CHECK(parsed->functions[0].path == job.functions[0].path);
    CHECK(parsed->functions[0].former_driver == "xhci_hcd");
    CHECK(job_text(job).find('\n') == std::string::npos);
    CHECK_FALSE(parsed->node);

    Job open{
        .action = Action::open_device, .devices = {"/sys/a"}, .node = DeviceNode{.devnode = "/dev/bus/usb/001/004"}};
    CHECK_FALSE(parse_job(job_text(open))->node->interfaces);
    open.node->interfaces = {0, 31};
    CHECK(parse_job(job_text(open))->node->devnode == "/dev/bus/usb/001/004");
    CHECK(parse_job(job_text(open))->node->interfaces == std::vector<uint8_t>{0, 31});
    open.node->interfaces->clear();
    CHECK(parse_job(job_text(open))->node->interfaces == std::vector<uint8_t>{});

    const Outcome outcome{.done = true, .message = "bytes \xff\n", .former_drivers = {{"0000:00:14.0", "xhci_hcd"}}};
    const auto read = parse_outcome(outcome_text(outcome));
    REQUIRE(read);
    CHECK(read->done);
    CHECK(read->message == "bytes \uFFFD\n");
    CHECK(read->former_drivers == outcome.former_drivers);
}

TEST_CASE("a job of another form is refused") {
    const std::vector<std::pair<std::string, std::string>> rows = {
        {"", "not JSON"},
        {"[]", "not an object"},
        {"{}", "'action'"},
        {R"({"action":"explode"})", "detach, attach"},
        {R"({"action":"detach","extra":1})", "'extra'"},
        {R"({"action":"detach","devices":"/sys/a"})", "not an array"},
        {R"({"action":"detach","devices":[1]})", "not an absolute path"},
        {R"({"action":"detach","devices":["sys/a"]})", "not an absolute path"},
        {R"({"action":"detach","devices":["/sys/../etc/passwd"]})", "not an absolute path"},
        {R"({"action":"detach","devices":["/sys/a\u0000b"]})", "not an absolute path"},
        {R"({"action":"hold-hub","hubs":[{"devnode":"/dev/x","ports":[0]}]})", "not 1 to 255"},
        {R"({"action":"hold-hub","hubs":[{"devnode":"/dev/x","ports":[256]}]})", "not 1 to 255"},
        {R"({"action":"hold-hub","hubs":[{"devnode":"/dev/x","ports":[-1]}]})", "not 1 to 255"},
        {R"({"action":"hold-hub","hubs":[{"ports":[1]}]})", "not an absolute path"},
        {R"({"action":"hold-hub","hubs":[7]})", "not an object"},
        {R"({"action":"bind-vfio","functions":[{"path":"../../x"}]})", "not the address"},
        {R"({"action":"open-device","node":"/dev/a"})", "not an object"},
        {R"({"action":"open-device","node":{}})", "not an absolute path"},
        {R"({"action":"open-device","node":{"devnode":"/dev/../x"}})", "not an absolute path"},
        {R"({"action":"open-device","node":{"devnode":"/dev/a","interfaces":[32]}})", "not 0 to 31"},
        {R"({"action":"open-device","node":{"devnode":"/dev/a","interfaces":[-1]}})", "not 0 to 31"},
        {R"({"action":"open-device","node":{"devnode":"/dev/a","interfaces":null}})", "not an array"},
        {R"({"action":"open-device","node":{"devnode":"/dev/a","mode":1}})", "'mode'"},
        {R"({"action":"bind-vfio","functions":[{"path":"0000:00:14.8"}]})", "not the address"},
        {R"({"action":"bind-vfio","functions":[{"path":"0000:00:14.0","former_driver":"../x"}]})", "not the name"},
        {R"({"action":"bind-vfio","functions":[{"path":"0000:00:14.0","former_driver":1}]})", "not a string"},
    };
    for (const auto& [text, reason] : rows) {
        CAPTURE(text);
        const auto parsed = parse_job(text);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error().message().find(reason) != std::string::npos);
    }
    for (const auto* text :
         {"", "{}", R"({"done":1,"message":"","former_drivers":{}})",
          R"({"done":true,"message":1,"former_drivers":{}})", R"({"done":true,"message":"","former_drivers":{"a":1}})",
          R"({"done":true,"message":"","former_drivers":[]})"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_outcome(text));
    }
}

TEST_CASE("detach takes host drivers off, and nothing else") {
    FakeDrivers kernel;
    const std::string disk = kernel.add_device("1-2", {"usb-storage", "", "usbhid"});
    const std::string hub = kernel.add_device("1-3", {"hub"});
    const Job job{.action = Action::detach, .devices = {disk, hub}};
    const Outcome outcome = carry(kernel, job);
    CHECK(outcome.done);
    CHECK(kernel.interface_driver("1-2:3.0").empty());
    CHECK(kernel.interface_driver("1-2:3.2").empty());
    CHECK(kernel.interface_driver("1-3:3.0") == "hub");

    SUBCASE("once more is nothing") {
        kernel.log.clear();
        CHECK(carry(kernel, job).done);
        CHECK(kernel.log.empty());
    }
    SUBCASE("attach brings them back") {
        CHECK(carry(kernel, {.action = Action::attach, .devices = job.devices}).done);
        CHECK(kernel.interface_driver("1-2:3.0") == "usb-storage");
        CHECK(kernel.interface_driver("1-2:3.1").empty());
        CHECK(kernel.interface_driver("1-2:3.2") == "usbhid");
    }
}

TEST_CASE("devices that went are no error") {
    FakeDrivers kernel;
    const std::string gone = kernel.add_device("1-2", {"usb-storage"});
    const std::string disk = kernel.add_device("1-3", {"usb-storage"});
    kernel.unplug("1-2");
    for (const Action action : {Action::detach, Action::attach, Action::configure, Action::hold_hub}) {
        const Outcome outcome = carry(kernel, {.action = action, .devices = {gone, disk}});
        CHECK(outcome.done);
        CHECK(outcome.message == "1-2 is gone");
    }
    CHECK(kernel.interface_driver("1-3:3.0").empty());
}

TEST_CASE("a detach that fails at any write is undone") {
    const size_t steps = fail_each_write(
        [](FakeDrivers& kernel) {
            return Job{.action = Action::detach,
                       .devices = {kernel.add_device("1-2", {"usb-storage", "usbhid"}),
                                   kernel.add_device("1-3", {"usb-storage"})}};
        },
        [](const Outcome& outcome, const auto& before, const auto& after) {
            CHECK(says(outcome, "everything was undone"));
            CHECK(before == after);
        });
    CHECK(steps == 3);
}

TEST_CASE("what cannot be undone is named") {
    FakeDrivers kernel;
    const Job job{.action = Action::detach,
                  .devices = {kernel.add_device("1-2", {"usb-storage"}), kernel.add_device("1-3", {"usbhid"})}};
    kernel.fail_at = 1;
    kernel.fail_always = {"usb-storage/bind"};
    const Outcome outcome = carry(kernel, job);
    CHECK_FALSE(outcome.done);
    CHECK(says(outcome, "could not be undone"));
    CHECK(says(outcome, "usb-storage/bind"));
}

TEST_CASE("attach gives a configuration to a device that has none") {
    FakeDrivers kernel;
    const std::string disk = kernel.add_device("1-2", {"usb-storage"});
    kernel.hold_port_of("1-2");
    REQUIRE(kernel.write_attribute(kernel.paths().sys + "/bus/usb/drivers/usb/unbind", "1-2"));
    const Job attach{.action = Action::attach, .devices = {disk}};
    SUBCASE("not while its port is held") {
        const Outcome outcome = carry(kernel, attach);
        CHECK_FALSE(outcome.done);
        CHECK(says(outcome, "another program holds its port"));
    }
    SUBCASE("once its port is free, also when an earlier try ended half way") {
        CHECK(kernel.release_port(0, 1));
        CHECK(carry(kernel, attach).done);
        CHECK(kernel.interface_driver("1-2:3.0") == "usb-storage");
    }
    SUBCASE("once attach itself has freed the port of the hub that it got") {
        Held held;
        held.push_back(std::move(open_file("/dev/null", O_RDWR)).value());
        kernel.busy_ports = {2};  // not held by this file: nothing to do
        Job with_hub = attach;
        with_hub.hubs = {{.devnode = "/dev/a", .ports = {2, 1}}};
        CHECK_FALSE(carry(kernel, with_hub).done);
        kernel.log.clear();
        const Outcome outcome = carry_out(with_hub, held, kernel);
        CAPTURE(outcome.message);
        CHECK(outcome.done);
        CHECK(kernel.log[0] == "release 2");
        CHECK(kernel.log[1] == "release 1");
        CHECK(kernel.interface_driver("1-2:3.0") == "usb-storage");
    }
    SUBCASE("not against who took its authorization away") {
        std::ofstream(disk + "/authorized") << "0\n";
        const Outcome outcome = carry(kernel, attach);
        CHECK(outcome.done);
        CHECK(says(outcome, "not authorized"));
        CHECK_FALSE(carry(kernel, {.action = Action::configure, .devices = {disk}}).done);
    }
    SUBCASE("configure chooses one while the port is held, and no driver comes") {
        CHECK(carry(kernel, {.action = Action::configure, .devices = {disk}}).done);
        CHECK(kernel.log.back().ends_with("/1-2/bConfigurationValue 3"));
        CHECK(path_exists(disk + "/1-2:3.0"));
        CHECK(kernel.interface_driver("1-2:3.0").empty());
    }
}

TEST_CASE("hold_hub holds ports, then takes drivers off") {
    FakeDrivers kernel;
    const Job job{.action = Action::hold_hub,
                  .devices = {kernel.add_device("1-2", {"usb-storage"})},
                  .hubs = {{.devnode = "/dev/a", .ports = {1, 2}}, {.devnode = "/dev/b", .ports = {3}}}};
    Held held;
    SUBCASE("all well") {
        CHECK(carry_out(job, held, kernel).done);
        CHECK(held.size() == 2);
        CHECK(kernel.interface_driver("1-2:3.0").empty());
        CHECK(kernel.log[2] == "claim 3");
    }
    SUBCASE("a port of somebody else") {
        kernel.busy_ports = {3};
        const Outcome outcome = carry_out(job, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(held.empty());
        CHECK(says(outcome, "port 3 of the hub '/dev/b'"));
        CHECK(says(outcome, "another program"));
        CHECK(kernel.interface_driver("1-2:3.0") == "usb-storage");
    }
    SUBCASE("a hub that went") {
        Job other = job;
        other.hubs[1].devnode = "/dev/gone";
        const Outcome outcome = carry_out(other, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(says(outcome, "/dev/gone"));
        CHECK(held.empty());
    }
    SUBCASE("a driver that stays") {
        kernel.fail_at = 0;
        CHECK_FALSE(carry_out(job, held, kernel).done);
        CHECK(held.empty());
        CHECK(kernel.interface_driver("1-2:3.0") == "usb-storage");
    }
}

TEST_CASE("free_port starts the hub in a port") {
    FakeDrivers kernel;
    const std::string hub = kernel.add_device("1-2", {"hub"});
    kernel.hold_port_of("1-2");
    REQUIRE(kernel.write_attribute(kernel.paths().sys + "/bus/usb/drivers/usb/unbind", "1-2"));
    const Job job{.action = Action::free_port, .devices = {hub}, .hubs = {{.devnode = "/dev/a", .ports = {4}}}};
    Held held;
    CHECK_FALSE(carry_out(job, held, kernel).done);
    held.push_back(std::move(open_file("/dev/null", O_RDWR)).value());
    SUBCASE("all well") {
        CHECK(carry_out(job, held, kernel).done);
        CHECK(kernel.interface_driver("1-2:3.0") == "hub");
        CHECK(held.size() == 1);
    }
    SUBCASE("the port is taken back when the hub does not start") {
        kernel.fail_always = {"drivers/usb/bind"};
        const Outcome outcome = carry_out(job, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(kernel.log.back() == "claim 4");
        CHECK(says(outcome, "everything was undone"));
    }
}

TEST_CASE("open_device gives a device's own node") {
    FakeDrivers kernel;
    Job job{.action = Action::open_device,
            .devices = {kernel.add_device("1-2", {"usb-storage"})},
            .node = DeviceNode{.devnode = kernel.paths().dev + "/bus/usb/001/004"}};
    const auto before = kernel.state();
    Held held;
    SUBCASE("as it is") {
        CHECK(carry_out(job, held, kernel).done);
        CHECK(held.size() == 1);
        CHECK(kernel.log.empty());
    }
    SUBCASE("restricted to interfaces") {
        job.node->interfaces = {0, 3, 31};
        CHECK(carry_out(job, held, kernel).done);
        CHECK(held.size() == 1);
        CHECK(kernel.log == std::vector<std::string>{"restrict " + std::to_string(0x80000009U)});
    }
    SUBCASE("restricted to none") {
        job.node->interfaces.emplace();
        CHECK(carry_out(job, held, kernel).done);
        CHECK(kernel.log == std::vector<std::string>{"restrict 0"});
    }
    SUBCASE("not when it cannot be restricted") {
        job.node->interfaces = {1};
        kernel.fail_restriction = true;
        const Outcome outcome = carry_out(job, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(held.empty());
        CHECK(says(outcome, "cannot restrict '" + job.node->devnode + "' to interfaces 1: USBDEVFS_DROP_PRIVILEGES"));
    }
    SUBCASE("not another device's, which has its number meanwhile") {
        kernel.during_open = [&] { kernel.set_number("1-2", 5); };
        const Outcome outcome = carry_out(job, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(held.empty());
        CHECK(says(outcome, "is not 1-2's node any more"));
    }
    SUBCASE("not when it has gone meanwhile") {
        kernel.during_open = [&] { kernel.unplug("1-2"); };
        CHECK_FALSE(carry_out(job, held, kernel).done);
        CHECK(held.empty());
    }
    SUBCASE("not when the node is gone") {
        job.node->devnode = "/dev/gone";
        const Outcome outcome = carry_out(job, held, kernel);
        CHECK_FALSE(outcome.done);
        CHECK(says(outcome, "cannot open '/dev/gone'"));
        CHECK(held.empty());
    }
    SUBCASE("not without a node, and one at a time") {
        Job other = job;
        other.node.reset();
        CHECK_FALSE(carry_out(other, held, kernel).done);
        job.devices.push_back(job.devices[0]);
        CHECK_FALSE(carry_out(job, held, kernel).done);
        CHECK(held.empty());
    }
    if (!kernel.during_open) CHECK(kernel.state() == before);
}

TEST_CASE("functions go to vfio-pci and come back") {
    FakeDrivers kernel;
    kernel.add_function("0000:00:14.0", "xhci_hcd", 5);
    kernel.add_function("0000:00:14.1", "", 5);
    const auto before = kernel.state();
    SUBCASE("with the module there") {}
    SUBCASE("with the module loaded for it") { kernel.unload_module("vfio-pci"); }
    const Outcome outcome = carry(kernel, vfio_job());
    CAPTURE(outcome.message);
    REQUIRE(outcome.done);
    CHECK(kernel.function_driver("0000:00:14.0") == "vfio-pci");
    CHECK(kernel.function_driver("0000:00:14.1") == "vfio-pci");
    CHECK(outcome.former_drivers ==
          std::map<std::string, std::string>{{"0000:00:14.0", "xhci_hcd"}, {"0000:00:14.1", ""}});

    // what is there already is left alone, and what is known of it stays known
    kernel.log.clear();
    Job once_more = vfio_job();
    once_more.functions[0].former_driver = "xhci_hcd";
    const Outcome again = carry(kernel, once_more);
    CHECK(again.done);
    CHECK(again.former_drivers == std::map<std::string, std::string>{{"0000:00:14.1", "vfio-pci"}});
    CHECK(kernel.log.empty());

    Job back = vfio_job();
    back.action = Action::return_functions;
    back.functions[0].former_driver = "xhci_hcd";
    CHECK(carry(kernel, back).done);
    CHECK(kernel.state() == before);
    kernel.log.clear();
    CHECK(carry(kernel, back).done);
    CHECK(kernel.state() == before);
}

TEST_CASE("a bind to vfio-pci that fails at any write is undone") {
    const size_t steps = fail_each_write(
        [](FakeDrivers& kernel) {
            kernel.add_function("0000:00:14.0", "xhci_hcd", 5);
            kernel.add_function("0000:00:14.1", "nvme", 5);
            kernel.set_override("0000:00:14.1", "nvme");
            return vfio_job();
        },
        [](const Outcome& outcome, const auto& before, const auto& after) {
            CHECK(says(outcome, "everything was undone"));
            CHECK(before == after);
        });
    CHECK(steps == 6);
}

TEST_CASE("what makes a function not fit for vfio-pci is said and undone") {
    FakeDrivers kernel;
    kernel.add_function("0000:00:14.0", "xhci_hcd", 5);
    kernel.add_function("0000:00:14.1", "nvme", 5);
    kernel.add_function("0000:00:1f.0", "nvme", -1);
    const auto before = kernel.state();
    const auto refused = [&](const std::string& function, const std::string& text) {
        const Outcome outcome = carry(kernel, {.action = Action::bind_vfio, .functions = {{.path = function}}});
        CAPTURE(outcome.message);
        CHECK_FALSE(outcome.done);
        CHECK(says(outcome, text));
        CHECK(outcome.former_drivers.empty());
        CHECK(kernel.state() == before);
    };
    SUBCASE("it is not there") { refused("0000:00:15.0", "no PCI function 0000:00:15.0"); }
    SUBCASE("the IOMMU is off") { refused("0000:00:1f.0", "intel_iommu=on"); }
    SUBCASE("the module cannot be loaded") {
        kernel.unload_module("vfio-pci");
        kernel.fail_module = true;
        refused("0000:00:14.0", "cannot load the module");
    }
    SUBCASE("no node of its group") {
        kernel.make_groups = false;
        refused("0000:00:14.0", "/vfio/5");
    }
    SUBCASE("another function of its group is with the host") {
        kernel.viable = false;
        refused("0000:00:14.0", "the host still uses 0000:00:14.1 (nvme)");
    }
}

TEST_CASE("returned functions: nothing of others is touched, and what has no driver is said") {
    FakeDrivers kernel;
    kernel.add_function("0000:00:14.0", "xhci_hcd", 5);
    kernel.add_function("0000:00:14.1", "nvme", 5);
    Job back = vfio_job();
    back.action = Action::return_functions;
    back.functions[0].former_driver = "xhci_hcd";
    SUBCASE("somebody else's override stays") {
        kernel.set_override("0000:00:14.1", "nvme");
        CHECK(carry(kernel, back).done);
        CHECK(kernel.override_of("0000:00:14.1") == "nvme");
        CHECK(kernel.log.empty());
    }
    SUBCASE("the driver does not take it back, the others go on") {
        REQUIRE(carry(kernel, vfio_job()).done);
        kernel.fail_always = {"drivers/xhci_hcd/bind"};
        kernel.fail_at = 10;  // the first probe
        kernel.log.clear();
        const Outcome outcome = carry(kernel, back);
        CHECK(outcome.done);
        CHECK(says(outcome, "0000:00:14.0 has no driver any more"));
        CHECK(kernel.function_driver("0000:00:14.1") == "nvme");
        CHECK(kernel.override_of("0000:00:14.0") == "(null)");
    }
    SUBCASE("what was with vfio-pci before it was claimed stays there, with its override") {
        REQUIRE(carry(kernel, vfio_job()).done);
        const auto before = kernel.state();
        for (auto& function : back.functions) function.former_driver = "vfio-pci";
        kernel.log.clear();
        const Outcome outcome = carry(kernel, back);
        CHECK(outcome.done);
        CHECK(says(outcome, "0000:00:14.1 stays with vfio-pci"));
        CHECK(kernel.log.empty());
        CHECK(kernel.state() == before);
    }
    SUBCASE("one that does not leave vfio-pci is a failure") {
        REQUIRE(carry(kernel, vfio_job()).done);
        kernel.fail_always = {"driver/unbind"};
        CHECK_FALSE(carry(kernel, back).done);
    }
    SUBCASE("a function that went") {
        back.functions.push_back({.path = "0000:00:1e.0"});
        const Outcome outcome = carry(kernel, back);
        CHECK(outcome.done);
        CHECK(outcome.message == "0000:00:1e.0 is gone");
    }
}
