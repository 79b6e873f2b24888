// Openers of a SCSI disk by name, and which guest a QEMU runs.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <fstream>
#include <set>

#include <doctest/doctest.h>

#include "base/qemu_guest.hpp"
#include "daemon/node/initiator.hpp"
#include "daemon/node/scsi/reservation_state.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using node::initiator_of;

namespace {

using Words = std::vector<std::string>;

struct Processes {
    test::TemporaryFolder proc;

    void add(int pid, const Words& arguments) {
        const std::string folder = proc / std::to_string(pid);
        std::filesystem::create_directory(folder);
        std::ofstream file(folder + "/cmdline", std::ios::binary);
        for (const auto& word : arguments) file << word << '\0';
    }
    std::string name(int pid, const std::string& host = "h1") const { return initiator_of(pid, host, proc.path()); }
};

}  // namespace

TEST_CASE("a command line says which guest it is") {
    struct Row {
        const char* name;
        Words arguments;
        std::optional<QemuGuest> expected;
    };
    const Row rows[] = {
        {"no command line, as a kernel thread", {}, std::nullopt},
        {"another program", {"/usr/bin/sg_persist", "-name", "web1"}, std::nullopt},
        {"libvirt's", {"/usr/bin/qemu-system-x86_64", "-name", "guest=web1,debug-threads=on"}, QemuGuest{"web1", ""}},
        {"the short form", {"qemu-kvm", "-name", "web1"}, QemuGuest{"web1", ""}},
        {"the short form with more", {"kvm", "-name", "web1,process=x"}, QemuGuest{"web1", ""}},
        {"two dashes", {"kvm", "--name", "web1", "--uuid", "u"}, QemuGuest{"web1", "u"}},
        {"the guest is not first", {"kvm", "-name", "debug-threads=on,guest=web1"}, QemuGuest{"web1", ""}},
        {"a comma in a name", {"kvm", "-name", "guest=a,,b,debug-threads=on"}, QemuGuest{"a,b", ""}},
        {"a name that is no guest's", {"kvm", "-name", "debug-threads=on"}, QemuGuest{"", ""}},
        {"no name", {"kvm", "-uuid", "4dea22b3"}, QemuGuest{"", "4dea22b3"}},
        {"an option without its value", {"kvm", "-name"}, QemuGuest{"", ""}},
        {"a tool", {"/usr/bin/qemu-img", "bench", "-name", "x"}, std::nullopt},
        {"another tool", {"qemu-storage-daemon", "--nbd-server"}, std::nullopt},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        CHECK(qemu_guest(row.arguments) == row.expected);
    }
}

TEST_CASE("virtual machines are told apart, programs of the host are not") {
    Processes processes;
    processes.add(10, {"/usr/bin/qemu-system-x86_64", "-name", "guest=web1"});
    processes.add(11, {"/usr/bin/qemu-system-x86_64", "-uuid", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"});
    processes.add(12, {"/usr/bin/qemu-system-x86_64", "-m", "64"});
    processes.add(13, {"/usr/bin/sg_persist", "-i"});
    processes.add(14, {});
    processes.add(15, {"kvm", "-name", "web 1%\xc3\xa4\n"});
    CHECK(processes.name(10) == "h1:vm:web1");
    CHECK(processes.name(11) == "h1:vm:4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
    CHECK(processes.name(12) == "h1:proc:12");
    CHECK(processes.name(13) == "h1:host");
    CHECK(processes.name(14) == "h1:host");
    CHECK(processes.name(15) == "h1:vm:web%201%25%C3%A4%0A");
    CHECK(processes.name(10, "h 2") == "h%202:vm:web1");
}

TEST_CASE("who cannot be seen is not taken for the host") {
    const Processes processes;
    CHECK(processes.name(0) == "h1:unseen");
    CHECK(processes.name(77) == "h1:proc:77");
}

TEST_CASE("any name is one that a reservation can be stored with") {
    Processes processes;
    std::set<std::string> names;
    const Words guests = {std::string(500, 'a') + "1", std::string(500, 'a') + "2", std::string(100, '\xff'),
                          std::string(234, 'b'),       std::string(235, 'b'),       "\x7f\x01 ~"};
    int pid = 100;
    for (const auto& guest : guests) {
        processes.add(++pid, {"kvm", "-name", "guest=" + guest});
        const auto name = processes.name(pid);
        CAPTURE(name);
        CHECK(node::scsi::check({.initiator = name}));
        CHECK(name == processes.name(pid));
        names.insert(name);
    }
    CHECK(names.size() == guests.size());
    CHECK(names.count("h1:vm:" + std::string(234, 'b')) == 1);
    CHECK(node::scsi::check({.initiator = processes.name(13, std::string(5000, ' '))}));
}

TEST_CASE("the real /proc is read too") {
    CHECK(initiator_of(1, "h1").starts_with("h1:"));
    CHECK(initiator_of(::getpid(), "h1") == "h1:host");
}
