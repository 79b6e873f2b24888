#pragma once
// A made-up machine with the arbiter and the nodes over it, as stord composes them; node processes are fakes.

#include <map>
#include <set>

#include <signal.h>
#include <sys/wait.h>

#include "base/file.hpp"
#include "daemon/usb_nodes.hpp"
#include "tests/unit/fake_arbiter_kernel.hpp"
#include "tests/unit/fake_devices.hpp"
#include "tests/unit/fake_node.hpp"

namespace storctl::test {

/// Processes outlive it, as they outlive stord.
class NodeSupervisor : public Supervisor {
 public:
    NodeSupervisor(NodePaths paths, std::map<std::string, FakeNode>& behaviour, std::vector<pid_t>& started)
        : paths_(std::move(paths)), behaviour_(behaviour), started_(started) {}
    void start(const std::string& name, std::function<void(Result<pid_t>)> done) override {
        FakeNode node = behaviour_[name];
        node.socket = paths_.socket(name);
        node.error_file = paths_.error(name);
        node.spec_file = paths_.spec(name);
        started_.push_back(spawn(node));
        done(started_.back());
    }
    void stop(const std::string&) override {}
    bool has_status() const override { return false; }
    void status(const std::string&, std::function<void(Result<Status>)> done) override { done(Status{}); }
    std::string_view name() const override { return "test"; }

 private:
    NodePaths paths_;
    std::map<std::string, FakeNode>& behaviour_;
    std::vector<pid_t>& started_;
};

/// Devices in sockets 1 and 3, a hub in 2 with 2.1 below it.
struct UsbNodeHost {
    TemporaryFolder folder;
    FakeMachine machine;
    std::map<std::string, FakeNode> behaviour;  ///< by node
    std::vector<pid_t> started;
    NodePaths paths{.run_dir = folder / "run", .dev_dir = folder / "dev"};
    FakeDevices devices;
    std::chrono::milliseconds reply_timeout{5'000};
    std::optional<NodeSupervisor> supervisor;
    // destroyed from below, as in stord
    std::optional<ArbiterStand> stand;
    std::unique_ptr<UsbNodes> usb;
    std::unique_ptr<ReservationStore> reservations;
    std::unique_ptr<NodeService> nodes;
    std::vector<std::unique_ptr<control::AsyncClient>> clients;

    UsbNodeHost() {
        machine.put({.where = xhci + "/1", .serial = "ONE", .address = 2});
        machine.put({.where = xhci + "/2", .hub = true, .address = 3});
        machine.put({.where = xhci + "/2.1", .serial = "A", .address = 4});
        machine.put({.where = xhci + "/3", .serial = "E", .address = 6});
    }
    UsbNodeHost(const UsbNodeHost&) = delete;
    UsbNodeHost& operator=(const UsbNodeHost&) = delete;
    ~UsbNodeHost() {
        kill_stord();
        for (const pid_t pid : started) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    }
    /// As SIGKILL would: nothing is told, nothing is finished.
    void kill_stord() {
        clients.clear();
        nodes.reset();
        reservations.reset();
        usb.reset();
        stand.reset();
    }
    void start(ArbiterSettings settings = {}) {
        kill_stord();
        supervisor.emplace(paths, behaviour, started);
        const ArbiterStand::Beside beside{
            .before_start =
                [this](ArbiterStand& over) {
                    auto opened = UsbNodes::open(over.loop(), over.db(), over.hub(), over.service());
                    REQUIRE(opened.has_value());
                    usb = std::move(*opened);
                    over.service().set_usb_nodes([this] { return usb->devices(); });
                    over.service().set_node_processes([this] { return usb->processes(); });
                    over.service().set_claim_nodes(*usb);
                },
            .started = [this](ArbiterStand& over) { start_nodes(over); },
            .serve = [this](control::Server& server) { REQUIRE(nodes->serve(server).has_value()); }};
        stand.emplace(machine, folder.path(), ArbiterOptions{.settings = settings, .boot_id = "boot-1"}, beside);
    }
    ArbiterStand* operator->() { return &*stand; }

    /// On a connection of its own: the calls of one are answered one after the other.
    ArbiterStand::Pending begin(const std::string& method, Json parameters) {
        clients.push_back(stand->connect());
        return stand->begin(method, std::move(parameters), clients.back().get());
    }
    ArbiterStand::Pending begin_create(const std::string& name, const std::string& target, Json more = Json::object()) {
        more["name"] = name;
        more["target"] = target;
        if (!more.contains("holder")) more["holder"] = "vm:web1";
        return begin("Node.CreateUsb", std::move(more));
    }
    ArbiterStand::Answer create(const std::string& name, const std::string& target, Json more = Json::object()) {
        return stand->end(begin_create(name, target, std::move(more)));
    }
    Json show(const std::string& name) {
        return stand->call("Node.Show", {{"name", name}}).parameters.value("node", Json());
    }
    std::string state(const std::string& name) { return nodes->describe(name).value("state", "none"); }
    std::vector<std::string> stored_nodes() {
        std::vector<std::string> out;
        const auto all = *stand->db().nodes();
        for (const auto& record : all) out.push_back(record.name);
        return out;
    }
    /// Neither claim nor node, nor drivers off the device.
    bool clean() {
        return stand->stored().empty() && stand->claims().empty() && stored_nodes().empty() &&
               nodes->describe_all().empty() && machine.driver_of("1-1") == "usb-storage" && !runs();
    }
    /// Some node process lives.
    bool runs() {
        for (auto& pid : started) {
            if (::waitpid(pid, nullptr, WNOHANG) == 0) return true;
        }
        return false;
    }

 private:
    void start_nodes(ArbiterStand& over) {
        auto store = open_reservation_store(over.db(), "boot-1");
        REQUIRE(store.has_value());
        reservations = std::move(*store);
        auto opened = NodeService::open(
            over.loop(), over.db(), over.hub(), devices, *supervisor, *reservations, paths,
            {.start_timeout = std::chrono::seconds(20),
             .reply_timeout = reply_timeout,
             .restart = {.first_delay = std::chrono::milliseconds(1), .longest_delay = std::chrono::milliseconds(4)},
             .cuse_path = folder / "cuse",
             .host = "alpha",
             .machine_id = "m"});
        REQUIRE(opened.has_value());
        nodes = std::move(*opened);
        usb->attach(*nodes);
        bool settled = false;
        REQUIRE(nodes->resume([&settled] { settled = true; }).has_value());
        REQUIRE(over.wait([&settled] { return settled; }));
        usb->resume();
    }
};

}  // namespace storctl::test
