#pragma once
// A machine for the arbiter service without a kernel: what is plugged in, what is used, and drivers that jobs move. It
// outlives the services over it, as a machine outlives stord.

#include <algorithm>
#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "control/client.hpp"
#include "control/server.hpp"
#include "daemon/arbiter_service.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/usbarb_host.hpp"
#include "tests/unit/wait_for.hpp"

namespace storctl::test {

using control::Json;
using usbarb::Action;
using usbarb::DeviceFacts;
using usbarb::Half;
using usbarb::Job;
using usbarb::Use;
using usbarb::UseKind;
using Strings = std::vector<std::string>;
using Actions = std::vector<Action>;

inline const std::string xhci = usbarb::testing::xhci;

struct FakeMachine {
    std::map<std::string, usbarb::ControllerFacts> controllers{{xhci, usbarb::testing::usb_controller()}};
    std::map<std::string, DeviceFacts> devices;  ///< by sysfs path
    std::map<std::string, DeviceFacts> behind_vfio;
    std::map<usbarb::Socket, std::vector<Use>> uses;
    std::set<std::string> unreadable;  ///< controllers and sysfs paths: there, and not to be read by a scan
    std::set<std::string> unsettled;   ///< sysfs paths
    std::vector<Job> jobs;
    std::vector<size_t> files_in;                 ///< that came with each of the jobs
    std::map<Action, std::string> failing;        ///< these jobs fail and say so
    std::map<Action, std::string> notes;          ///< what jobs of this kind have to say when they succeed
    bool hold_jobs = false;                       ///< jobs wait until `finish_jobs`
    std::map<std::string, usbarb::Socket> disks;  ///< by kernel name: where they are plugged in
    std::function<void()> during_scan;
    std::function<void(const Job&)> before_job;
    bool fail_scans = false;
    size_t scans = 0;
    UseRequest asked;                  ///< by the last scan
    bool devices_return_late = false;  ///< after a function's return its devices come only by `plug`

    DeviceFacts& put(const usbarb::testing::Plug& what) {
        DeviceFacts facts = usbarb::testing::device(what);
        facts.syspath = "/sys/" + facts.kernel_name;
        if (!facts.hub) facts.interfaces = {{.number = 0, .device_class = 8, .driver = "usb-storage"}};
        return devices[facts.syspath] = facts;
    }
    usbarb::UsbScan scan() const {
        usbarb::UsbScan out{.unreadable = {unreadable.begin(), unreadable.end()}, .unsettled = unsettled};
        for (const auto& [path, facts] : controllers) {
            if (!unreadable.contains(path)) out.controllers.push_back(facts);
        }
        for (const auto& [path, facts] : devices) {
            if (!unreadable.contains(path)) out.devices.push_back(facts);
        }
        return out;
    }
    std::string driver_of(const std::string& name) const {
        const auto found = devices.find("/sys/" + name);
        if (found == devices.end() || found->second.interfaces.empty()) return "gone";
        return found->second.interfaces[0].driver;
    }
    Actions actions() const {
        Actions out;
        for (const auto& job : jobs) out.push_back(job.action);
        return out;
    }

    usbarb::Outcome carry_out(const Job& job, std::vector<UniqueFd>& held) {
        if (before_job) before_job(job);
        if (const auto failure = failing.find(job.action); failure != failing.end())
            return {.message = failure->second};
        usbarb::Outcome outcome{.done = true, .message = notes[job.action]};
        switch (job.action) {
            case Action::hold_hub:
                for (size_t i = 0; i < job.hubs.size(); ++i) held.emplace_back(::memfd_create("hub", MFD_CLOEXEC));
                [[fallthrough]];
            case Action::detach:
                set_drivers(job, "");
                break;
            case Action::attach:
                set_drivers(job, "usb-storage");
                break;
            case Action::configure:
            case Action::free_port:
                for (const auto& path : job.devices) devices.at(path).configured = true;
                break;
            case Action::open_device:
                held.emplace_back(::memfd_create("device", MFD_CLOEXEC));
                break;
            case Action::bind_vfio:
                for (const auto& function : job.functions) {
                    outcome.former_drivers[function.path] =
                        std::exchange(controllers.at(function.path).driver, "vfio-pci");
                    if (function.path == xhci) behind_vfio = std::exchange(devices, {});
                }
                break;
            case Action::return_functions:
                for (const auto& function : job.functions) {
                    controllers.at(function.path).driver =
                        function.former_driver.empty() ? "xhci_hcd" : function.former_driver;
                    if (function.path == xhci && !devices_return_late) devices.merge(behind_vfio);
                }
                break;
        }
        return outcome;
    }

 private:
    void set_drivers(const Job& job, const std::string& driver) {
        for (const auto& path : job.devices) {
            // what went meanwhile is no failure
            const auto device = devices.find(path);
            if (device == devices.end()) continue;
            for (auto& interface : device->second.interfaces) interface.driver = driver;
        }
    }
};

class FakeKernel final : public ArbiterKernel {
 public:
    FakeKernel(EventLoop& loop, FakeMachine& machine) : machine_(machine), box_(*Mailbox::open(loop, 0)) {}

    Result<void> coldplug(Listener listener) override {
        listener_ = std::move(listener);
        return refresh();
    }
    Result<void> refresh() override {
        listener_({.full = true, .scan = machine_.scan(), .events = {}});
        return {};
    }
    Result<void> rescan() override { return refresh(); }
    bool monitoring() const override { return true; }
    void scan(UseRequest request, UseScanner::Done done) override {
        ++machine_.scans;
        machine_.asked = request;
        if (machine_.during_scan) machine_.during_scan();
        box_->post([this, request = std::move(request), done = std::move(done)] {
            if (machine_.fail_scans) return done(make_error(std::errc::io_error, "no scan"));
            UseScan found{.uses = machine_.uses};
            for (const auto& [disk, node] : request.nodes) {
                found.uses[machine_.disks.at(disk)].push_back({.kind = UseKind::node, .text = "behind node " + node});
            }
            done(std::move(found));
        });
    }
    void run(Job job, std::vector<UniqueFd> in, Actuator::Done done) override {
        machine_.jobs.push_back(job);
        machine_.files_in.push_back(in.size());
        waiting_.push_back({std::move(job), std::move(done)});
        if (!machine_.hold_jobs) finish_jobs();
    }
    void finish_jobs() {
        box_->post([this] {
            for (auto& [job, done] : std::exchange(waiting_, {})) {
                std::vector<UniqueFd> held;
                auto outcome = machine_.carry_out(job, held);
                done(std::move(outcome), std::move(held));
            }
        });
    }
    void send(std::vector<UsbEvent> events) { listener_({.full = false, .scan = {}, .events = std::move(events)}); }

 private:
    struct Waiting {
        Job job;
        Actuator::Done done;
    };
    FakeMachine& machine_;
    std::unique_ptr<Mailbox> box_;
    Listener listener_;
    std::deque<Waiting> waiting_;
};

/// A service over a machine, with a client. `restart` ends it as SIGKILL would: nothing is told.
class ArbiterStand {
 public:
    /// What else there is over the same loop and database.
    struct Beside {
        std::function<void(ArbiterStand&)> before_start = [](ArbiterStand&) {};
        std::function<void(ArbiterStand&)> started = [](ArbiterStand&) {};
        std::function<void(control::Server&)> serve = [](control::Server&) {};
    };

    explicit ArbiterStand(FakeMachine& machine, std::string folder, ArbiterOptions options = {.boot_id = "boot-1"})
        : ArbiterStand(machine, std::move(folder), std::move(options), Beside{}) {}
    ArbiterStand(FakeMachine& machine, std::string folder, ArbiterOptions options, const Beside& beside)
        : machine_(machine), folder_(std::move(folder)), loop_(*EventLoop::create()), options_(std::move(options)) {
        db_.emplace(*StateDb::open(folder_ + "/state.db"));
        hub_.listen([this](const Event& event) { events.push_back(event); });
        auto kernel = std::make_unique<FakeKernel>(loop_, machine_);
        kernel_ = kernel.get();
        auto service = ArbiterService::open(loop_, *db_, hub_, std::move(kernel), options_);
        REQUIRE(service.has_value());
        service_ = std::move(*service);
        beside.before_start(*this);
        bool settled = false;
        REQUIRE(service_->start([&] { settled = true; }).has_value());
        REQUIRE(wait_for(loop_, [&] { return settled; }));
        beside.started(*this);
        auto server = control::Server::listen(loop_, {.socket_path = folder_ + "/socket"});
        REQUIRE(server.has_value());
        server_ = std::move(*server);
        REQUIRE(service_->serve(*server_).has_value());
        beside.serve(*server_);
        client_ = connect();
    }

    std::unique_ptr<control::AsyncClient> connect() {
        auto client = control::AsyncClient::connect(loop_, folder_ + "/socket", 0);
        REQUIRE(client.has_value());
        return std::move(*client);
    }

    struct Answer {
        Json parameters;
        std::string error;  ///< without the interface
        std::vector<UniqueFd> descriptors;
        std::string full_error = {};
    };
    using Pending = std::shared_ptr<std::optional<Answer>>;
    Pending begin(const std::string& method, Json parameters, control::AsyncClient* client = nullptr) {
        auto out = std::make_shared<std::optional<Answer>>();
        (client != nullptr ? client : client_.get())
            ->call((method.find('.') == std::string::npos ? "io.storctl.Arbiter." : "io.storctl.") + method,
                   std::move(parameters), std::chrono::seconds(10), [out](Result<control::Reply> reply) {
                       if (!reply) {
                           *out = Answer{{}, reply.error().message(), {}};
                           return;
                       }
                       std::string error = reply->error.value_or("");
                       const auto dot = error.rfind('.');
                       *out = Answer{reply->parameters, dot == std::string::npos ? error : error.substr(dot + 1),
                                     std::move(reply->descriptors), error};
                   });
        return out;
    }
    Answer end(const Pending& pending) {
        REQUIRE(wait_for(loop_, [&] { return pending->has_value(); }));
        return std::move(**pending);
    }
    Answer call(const std::string& method, Json parameters, control::AsyncClient* client = nullptr) {
        return end(begin(method, std::move(parameters), client));
    }

    static Json usb(const std::string& what) { return {{"bus", "usb"}, {"what", what}}; }
    static Json pci(const std::string& what) { return {{"bus", "pci"}, {"what", what}}; }
    static Json wanted(const std::string& what) { return what == "pci" ? pci(xhci) : usb(what); }
    static Json claim_of(const std::vector<std::string>& what, const std::string& holder, Json more = Json::object()) {
        Json targets = Json::array();
        for (const auto& one : what) targets.push_back(wanted(one));
        more["targets"] = std::move(targets);
        more["holder"] = holder;
        return more;
    }
    Answer claim(const std::vector<std::string>& what, const std::string& holder, Json more = Json::object()) {
        return call("Claim", claim_of(what, holder, std::move(more)));
    }
    Answer release(const std::string& holder) { return call("Release", {{"holder", holder}}); }
    /// Claims that somebody asked for, "target holder state phase".
    std::vector<std::string> claims() {
        std::vector<std::string> out;
        const Json answer = call("Claims", Json::object()).parameters;
        for (const auto& claim : answer.at("claims")) {
            if (claim["id"].is_null()) continue;
            out.push_back(fmt::format("{} {} {} {}", claim["target"].get<std::string>(),
                                      claim["holder"].get<std::string>(), claim["state"].get<std::string>(),
                                      claim["phase"].get<std::string>()));
        }
        return out;
    }
    std::vector<std::string> stored() {
        std::vector<std::string> out;
        const auto claims = *db_->claims();
        for (const auto& claim : claims) {
            out.push_back(fmt::format("{} {} {} {}", usbarb::to_text(claim.target), claim.holder, to_text(claim.state),
                                      to_text(claim.phase)));
        }
        return out;
    }
    bool wait(const std::function<bool()>& condition) { return wait_for(loop_, condition); }
    size_t heard(const std::string& event) const {
        return static_cast<size_t>(
            std::count_if(events.begin(), events.end(), [&](const Event& one) { return one.event == event; }));
    }

    void plug(const usbarb::testing::Plug& what, bool settled = true) {
        const DeviceFacts facts = machine_.put(what);
        kernel_->send({UsbPlugged{.device = facts, .settled = settled, .first = true}});
    }
    void plug_again(const std::string& name) {
        kernel_->send({UsbPlugged{.device = machine_.devices.at("/sys/" + name)}});
    }
    void unplug(const std::string& name) {
        const auto found = machine_.devices.find("/sys/" + name);
        REQUIRE(found != machine_.devices.end());
        const UsbUnplugged event{.socket = found->second.socket, .half = found->second.half};
        machine_.devices.erase(found);
        kernel_->send({event});
    }
    FakeKernel& kernel() { return *kernel_; }
    ArbiterService& service() { return *service_; }
    StateDb& db() { return *db_; }
    EventLoop& loop() { return loop_; }
    EventHub& hub() { return hub_; }

    std::vector<Event> events;

 private:
    FakeMachine& machine_;
    std::string folder_;
    EventLoop loop_;
    ArbiterOptions options_;
    EventHub hub_;
    std::optional<StateDb> db_;
    std::unique_ptr<ArbiterService> service_;
    FakeKernel* kernel_ = nullptr;
    std::unique_ptr<control::Server> server_;
    std::unique_ptr<control::AsyncClient> client_;
};

/// A machine with what is plugged in, and services over it, one after the other.
struct ArbiterHost {
    TemporaryFolder folder;
    FakeMachine machine;
    std::optional<ArbiterStand> stand;

    explicit ArbiterHost(std::initializer_list<usbarb::testing::Plug> plugged) {
        for (const auto& one : plugged) machine.put(one);
    }
    /// As after the death of the one before.
    void start(ArbiterOptions options = {.boot_id = "boot-1"}) {
        stand.reset();
        stand.emplace(machine, folder.path(), std::move(options));
    }
    ArbiterStand* operator->() { return &*stand; }
};

}  // namespace storctl::test
