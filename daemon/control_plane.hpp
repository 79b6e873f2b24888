#pragma once
// stord itself: everything that it consists of, the order in which it comes up, reloads and goes down.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "control/server.hpp"
#include "daemon/arbiter_service.hpp"
#include "daemon/config.hpp"
#include "daemon/device_service.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/instance_lock.hpp"
#include "daemon/node_service.hpp"
#include "daemon/options.hpp"
#include "daemon/state_db.hpp"
#include "daemon/state_file.hpp"
#include "daemon/status_service.hpp"
#include "daemon/supervisor.hpp"
#include "daemon/udev_publisher.hpp"
#include "daemon/usb_nodes.hpp"

namespace storctl {

class ControlPlane {
 public:
    /// Brings everything up: when this returns, devices are known, nodes adopted and clients served. Not yet announced.
    static Result<std::unique_ptr<ControlPlane>> open(const Options& options);
    ControlPlane(const ControlPlane&) = delete;
    ControlPlane& operator=(const ControlPlane&) = delete;

    /// Announces readiness, then serves until told to stop; gives the exit code.
    Result<int> run();

 private:
    enum class State { starting, running, reloading, stopping };

    ControlPlane(const Options& options, EventLoop loop) : options_(options), loop_(std::move(loop)) {}
    Result<void> start();
    Result<void> lock_directories();
    Result<void> listen_to_signals();
    Result<void> start_devices();
    Result<void> start_arbiter();
    Result<void> start_nodes();
    Result<void> start_control();
    Result<void> start_udev_publisher();
    Result<Config> read_config() const;
    void apply_config();

    Result<void> reload();
    void shut_down();
    void finish_when_drained();

    nlohmann::json status() const;
    nlohmann::json state() const;
    std::string status_line() const;
    std::string_view state_name() const;
    void set_state(State state);
    void changed();

    const Options options_;
    EventLoop loop_;
    Config config_;
    std::vector<std::string> needs_restart_;  // changed keys that wait for a restart
    State state_ = State::starting;
    std::string host_;
    const WallTime started_ = wall_now();
    const std::chrono::steady_clock::time_point started_steady_ = std::chrono::steady_clock::now();
    std::string last_status_line_;
    EventHub hub_;
    // destroyed from below: first what clients reach, last what keeps others away
    std::vector<InstanceLock> locks_;
    std::vector<EventSource> signals_;
    std::optional<StateDb> db_;
    std::unique_ptr<DeviceService> devices_;
    std::unique_ptr<ArbiterService> arbiter_;
    std::unique_ptr<UsbNodes> usb_nodes_;
    std::unique_ptr<Supervisor> supervisor_;
    std::unique_ptr<ReservationStore> reservations_;
    std::unique_ptr<NodeService> nodes_;
    std::optional<StatusService> status_service_;
    std::optional<UdevPublisher> udev_publisher_;
    std::unique_ptr<StateFile> state_file_;
    std::unique_ptr<control::Server> server_;
    EventSource drain_timer_;
    std::chrono::steady_clock::time_point drain_deadline_{};
};

}  // namespace storctl
