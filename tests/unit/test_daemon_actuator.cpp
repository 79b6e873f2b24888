// Programs in place of stor-actuate are shell scripts here: their socket is descriptor 3, the job standard input.

#include <deque>
#include <fstream>
#include <optional>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.hpp"
#include "daemon/actuator.hpp"
#include "temporary_folder.hpp"

using namespace storctl;
using usbarb::Action;
using usbarb::Job;
using usbarb::Outcome;

namespace {

constexpr auto patience = std::chrono::seconds(60);

/// A message on the socket, from a shell: python's socket module is the nearest thing to sendmsg(2).
constexpr std::string_view prelude = R"(#!/usr/bin/python3
import json, os, socket, sys
job = json.load(sys.stdin)
channel = socket.socket(fileno=3)
folder = os.path.dirname(os.path.abspath(__file__))
def wait(name):
    open(folder + '/' + name).read()
def note(text):
    with open(folder + '/notes', 'a') as notes: notes.write(text + '\n')
def answer(done=True, message='', descriptors=()):
    text = json.dumps({'done': done, 'message': message, 'former_drivers': {}}).encode()
    socket.send_fds(channel, [text], list(descriptors))
)";

struct Setting {
    test::TemporaryFolder folder;
    EventLoop loop = std::move(EventLoop::create()).value();
    std::unique_ptr<Actuator> actuator;
    std::deque<Outcome> outcomes;
    std::vector<std::string> order;
    std::vector<UniqueFd> held;

    void open(const std::string& script, size_t max_running = 32, size_t max_waiting = 4096) {
        const std::string program = folder / "program";
        std::ofstream(program) << prelude << script;
        ::chmod(program.c_str(), 0755);
        open_program(program, max_running, max_waiting);
    }
    void open_program(const std::string& program, size_t max_running = 32, size_t max_waiting = 4096) {
        actuator = std::move(Actuator::open(
                                 loop, {.program = program, .max_running = max_running, .max_waiting = max_waiting}))
                       .value();
    }
    void run(const Job& job, const std::string& name = "", std::vector<UniqueFd> in = {}) {
        actuator->run(job, std::move(in), [this, name](Outcome outcome, std::vector<UniqueFd> descriptors) {
            outcomes.push_back(std::move(outcome));
            order.push_back(name);
            for (auto& descriptor : descriptors) held.push_back(std::move(descriptor));
        });
    }
    template <class Condition>
    void until(Condition condition) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (!condition()) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            REQUIRE(loop.run_once(std::chrono::seconds(1)));
        }
    }
    Outcome one(const Job& job) {
        run(job);
        until([&] { return !outcomes.empty(); });
        Outcome outcome = outcomes.front();
        outcomes.pop_front();
        return outcome;
    }
    std::string notes() const { return read_file(folder / "notes").value_or(""); }
    /// A program that waits for `name` waits until it is let go.
    void make_gate(const std::string& name) { REQUIRE(::mkfifo((folder / name).c_str(), 0600) == 0); }
    void let_go(const std::string& name) { const std::ofstream opened(folder / name); }
};

Job device_job(const std::string& path) { return {.action = Action::detach, .devices = {path}}; }

}  // namespace

TEST_CASE("the actuator says what became of a job") {
    Setting setting;
    SUBCASE("an answer, with the job read as it was written") {
        setting.open("answer(message=job['action'] + ' ' + job['devices'][0])");
        const Outcome outcome = setting.one(device_job("/sys/devices/usb1/1-2"));
        CHECK(outcome.done);
        CHECK(outcome.message == "detach /sys/devices/usb1/1-2");
    }
    SUBCASE("the program is missing") {
        setting.open_program(setting.folder / "nowhere");
        const Outcome outcome = setting.one(device_job("/sys/a"));
        CHECK_FALSE(outcome.done);
        CHECK(outcome.message.find("nowhere") != std::string::npos);
        CHECK(outcome.message.find("No such file") != std::string::npos);
    }
    SUBCASE("it dies") {
        setting.open("os.kill(os.getpid(), 9)");
        const Outcome outcome = setting.one(device_job("/sys/a"));
        CHECK_FALSE(outcome.done);
        CHECK(outcome.message.find("killed by signal 9") != std::string::npos);
    }
    SUBCASE("it ends without a word") {
        setting.open("sys.exit(3)");
        const Outcome outcome = setting.one(device_job("/sys/a"));
        CHECK_FALSE(outcome.done);
        CHECK(outcome.message.find("status 3") != std::string::npos);
    }
    SUBCASE("it closes its socket and goes on") {
        setting.make_gate("gate");
        setting.open("channel.close()\nwait('gate')\nsys.exit(4)");
        setting.run(device_job("/sys/a"));
        setting.until([&] { return setting.actuator->running() == 1; });
        setting.let_go("gate");
        setting.until([&] { return !setting.outcomes.empty(); });
        CHECK_FALSE(setting.outcomes.front().done);
        CHECK(setting.outcomes.front().message.find("status 4") != std::string::npos);
    }
    SUBCASE("its answer is garbage") {
        setting.open("channel.send(b'\\x00\\xff{')");
        const Outcome outcome = setting.one(device_job("/sys/a"));
        CHECK_FALSE(outcome.done);
        CHECK(outcome.message.find("cannot read the answer") != std::string::npos);
    }
    setting.until([&] { return setting.actuator->running() == 0; });
    // and it was reaped
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(errno == ECHILD);
}

TEST_CASE("the actuator hands descriptors over in both directions") {
    Setting setting;
    setting.open(
        "_, descriptors, _, _ = socket.recv_fds(channel, 10, 10)\n"
        "os.write(descriptors[0], b'from the program')\n"
        "descriptor = os.open(folder + '/held', os.O_RDWR | os.O_CREAT)\n"
        "os.write(descriptor, b'held')\n"
        "answer(descriptors=[descriptor])");
    std::vector<UniqueFd> in;
    in.push_back(std::move(open_file(setting.folder / "in", O_RDWR | O_CREAT)).value());
    setting.run({.action = Action::free_port}, "", std::move(in));
    setting.until([&] { return !setting.outcomes.empty(); });
    CHECK(setting.outcomes.front().done);
    CHECK(read_file(setting.folder / "in").value() == "from the program");
    REQUIRE(setting.held.size() == 1);
    char text[5]{};
    CHECK(::pread(setting.held[0].get(), text, 4, 0) == 4);
    CHECK(std::string(text) == "held");
    CHECK((::fcntl(setting.held[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("jobs of the same device run in the order given, others pass them") {
    Setting setting;
    setting.make_gate("first");
    setting.open(
        "note('begin ' + job['devices'][0])\n"
        "if job['action'] == 'detach': wait('first')\n"
        "note('end ' + job['devices'][0])\n"
        "answer()");
    setting.run(device_job("/sys/usb1/1-2"), "first");
    setting.run({.action = Action::attach, .devices = {"/sys/usb1/1-2/1-2.1"}}, "below");
    setting.run({.action = Action::attach, .devices = {"/sys/usb1/1-3"}}, "other");
    setting.until([&] { return setting.order.size() == 1; });
    CHECK(setting.order[0] == "other");
    CHECK(setting.actuator->waiting() == 1);
    setting.let_go("first");
    setting.until([&] { return setting.order.size() == 3; });
    CHECK(setting.order == std::vector<std::string>{"other", "first", "below"});
    const std::string notes = setting.notes();
    CHECK(notes.find("end /sys/usb1/1-2\n") < notes.find("begin /sys/usb1/1-2/1-2.1\n"));
}

TEST_CASE("which jobs wait for each other") {
    const Job function{.action = Action::bind_vfio, .functions = {{.path = "0000:00:14.0"}}};
    const Job hub{.action = Action::hold_hub, .hubs = {{.devnode = "/dev/bus/usb/001/002", .ports = {1}}}};
    const Job device = device_job("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2");
    struct Row {
        std::string name;
        Job second, first;
        bool waits;
    };
    const std::vector<Row> rows = {
        {"the same device", device, device, true},
        {"the device below it", device_job(device.devices[0] + "/1-2.1"), device, true},
        {"the device above it", device, device_job(device.devices[0] + "/1-2.1"), true},
        {"a device whose name begins the same", device_job(device.devices[0] + "1"), device, false},
        {"its controller", function, device, true},
        {"a device of the controller", device, function, true},
        {"another controller", {.functions = {{.path = "0000:00:15.0"}}}, device, false},
        {"the same function", function, function, true},
        {"the same hub", {.action = Action::free_port, .hubs = hub.hubs}, hub, true},
        {"another hub", {.hubs = {{.devnode = "/dev/bus/usb/001/003", .ports = {1}}}}, hub, false},
    };
    for (const auto& row : rows) {
        SUBCASE(row.name.c_str()) { CHECK(must_wait(row.second, row.first) == row.waits); }
    }
}

TEST_CASE("the actuator keeps its limits") {
    Setting setting;
    for (const auto* gate : {"0", "1", "2"}) setting.make_gate(gate);
    setting.open("wait(os.path.basename(job['devices'][0]))\nanswer()", 1, 2);
    for (int i = 0; i < 5; ++i) setting.run(device_job(fmt::format("/sys/{}", i)), std::to_string(i));
    setting.until([&] { return setting.outcomes.size() == 2; });
    CHECK(setting.actuator->running() == 1);
    CHECK(setting.actuator->waiting() == 2);
    for (const auto& outcome : setting.outcomes) CHECK(outcome.message.find("try again later") != std::string::npos);
    CHECK(setting.order == std::vector<std::string>{"4", "3"});
    for (size_t i = 0; i < 3; ++i) {
        setting.until([&] { return setting.actuator->waiting() == 2 - i; });
        setting.let_go(std::to_string(i));
        setting.until([&] { return setting.outcomes.size() == 3 + i; });
        CHECK(setting.outcomes.back().done);
    }
    CHECK(setting.order == std::vector<std::string>{"4", "3", "0", "1", "2"});
}

TEST_CASE("a callback may run further jobs, and end the actuator") {
    Setting setting;
    setting.open("answer()");
    int called = 0;
    setting.actuator->run(device_job("/sys/a"), {}, [&](const Outcome&, const std::vector<UniqueFd>&) {
        ++called;
        setting.actuator->run(device_job("/sys/a"), {}, [&](const Outcome&, const std::vector<UniqueFd>&) {
            ++called;
            setting.actuator.reset();
        });
    });
    CHECK(called == 0);
    setting.until([&] { return !setting.actuator; });
    CHECK(called == 2);
}

TEST_CASE("an abandoned job goes on to its end, and the next actuator waits for it") {
    Setting setting;
    for (const auto* gate : {"gate", "over"}) setting.make_gate(gate);
    setting.open(
        "if job['action'] == 'detach':\n"
        "    wait('gate')\n"
        "    try: answer()\n"
        "    except BrokenPipeError: note('nobody listens')\n"
        "    wait('over')\n"
        "    note('abandoned is over')\n"
        "else:\n"
        "    note('next')\n"
        "    answer()");
    setting.run(device_job("/sys/usb1/1-2"), "abandoned");
    setting.until([&] { return setting.actuator->running() == 1; });
    setting.actuator.reset();
    setting.let_go("gate");

    setting.open_program(setting.folder / "program");
    CHECK(setting.actuator->running() == 0);
    setting.run({.action = Action::attach, .devices = {"/sys/usb1/1-3"}}, "other device");
    setting.run({.action = Action::attach, .devices = {"/sys/usb1/1-2"}}, "same device");
    setting.until([&] { return setting.order.size() == 1; });
    CHECK(setting.order[0] == "other device");
    CHECK(setting.actuator->waiting() == 1);
    setting.let_go("over");
    setting.until([&] { return setting.order.size() == 2; });
    CHECK(setting.notes() == "nobody listens\nnext\nabandoned is over\nnext\n");
    CHECK(setting.order[1] == "same device");
}
