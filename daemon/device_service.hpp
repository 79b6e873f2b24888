#pragma once
// io.storctl.Device: keeps the inventory fed by discovery, applies the sharing rule and the administrator's overrides,
// answers the interface's methods and publishes device-* events. stord's loop thread only.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "control/server.hpp"
#include "daemon/event_hub.hpp"
#include "daemon/state_db.hpp"
#include "locality/identifier.hpp"
#include "locality/identity.hpp"
#include "locality/sysfs_block.hpp"

namespace storctl {

struct DeviceServiceOptions {
    std::string host;                             ///< this host's name, for seen_by
    std::vector<std::string> extra_placeholders;  ///< identifier values that mean nothing, besides the built-in list
    size_t monitor_buffer_bytes = 128 << 20;      ///< udev monitor's receive buffer
    int64_t priority = 0;                         ///< of discovery on the event loop
    locality::KernelPaths kernel;                 ///< where mounts and devices are read
};

/// What the rest of stord needs of a device.
struct DeviceSummary {
    std::string id;
    std::string name;     ///< kernel name, "sda", "dm-3"
    std::string devnode;  ///< "/dev/sda"
    uint64_t size_bytes = 0;
    uint32_t logical_block_bytes = 512;
    bool read_only = false;
    bool shared = false;
    bool conflict = false;
    bool ready = true;  ///< udev has finished with it
    locality::Product product;
    std::vector<locality::Identifier> identifiers;  ///< best first
};

/// How a name given by a user resolved; `candidates` are ids.
struct DeviceMatch {
    enum class Outcome { found, not_found, ambiguous } outcome = Outcome::not_found;
    std::optional<DeviceSummary> device;
    std::vector<std::string> candidates;
};

class DeviceService {
 public:
    static Result<std::unique_ptr<DeviceService>> open(EventLoop& loop, StateDb& db, EventHub& hub,
                                                       DeviceServiceOptions options);
    virtual ~DeviceService() = default;

    /// Starts the monitor, then enumerates, so that nothing falls between; blocking, for start-up.
    virtual Result<void> coldplug() = 0;
    virtual Result<void> serve(control::Server& server) = 0;
    /// Full enumeration again (after a reload, or by request).
    virtual Result<void> rescan() = 0;

    /// By id, usable identifier, kernel name, device node or link; partitions and paths lead to their device.
    virtual DeviceMatch find(const std::string& name) const = 0;
    /// All devices as io.storctl.Device's type Device: for state.json.
    virtual nlohmann::json describe_all() const = 0;
    virtual size_t total() const = 0;
    virtual size_t shared() const = 0;
    virtual size_t conflicts() const = 0;
    /// "udev" or "kernel": which events are heard.
    virtual std::string event_source() const = 0;
    /// Sentences for `status`: id conflicts, a lost monitor, …
    virtual std::vector<std::string> findings() const = 0;
    /// A node holds (or no longer holds, empty name) this device: shown in in_use.
    virtual void set_node_on(const std::string& device_id, const std::string& node_name) = 0;
    /// A device came, went or changed (its id, as given): nodes over it look again. One listener.
    virtual void on_device_event(std::function<void(const std::string& device_id)> listener) = 0;

 protected:
    DeviceService() = default;
};

}  // namespace storctl
