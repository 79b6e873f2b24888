#pragma once
// The block devices of this host from libudev: a monitor that is listening before the first enumeration, bursts of
// events gathered into batches, and a full enumeration again whenever the kernel says that events were lost. The loop's
// thread only; no device is opened.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/burst.hpp"
#include "daemon/udev_monitor.hpp"
#include "locality/block_facts.hpp"
#include "locality/sysfs_block.hpp"

struct udev_device;

namespace storctl {

struct DiscoveryOptions {
    size_t monitor_buffer_bytes = 128 << 20;
    int64_t priority = 0;
    std::chrono::milliseconds quiet{50};     ///< a batch is handed on when no event came for this long,
    std::chrono::milliseconds longest{500};  ///< and at the latest this long after its first event
    size_t step_devices = 64;                ///< read per turn of the loop in a rescan, so that others get theirs
    int64_t step_priority = 0;  ///< of those turns: the clients', so that neither waits for the other's end
    std::string sys = "/sys";
};

struct DiscoveryBatch {
    bool full = false;                          ///< `present` is all there is
    std::vector<locality::BlockFacts> present;  ///< new, or read again
    std::vector<std::string> gone;              ///< kernel names
};

class Discovery {
 public:
    using Listener = std::function<void(DiscoveryBatch)>;

    static Result<std::unique_ptr<Discovery>> open(EventLoop& loop, DiscoveryOptions options, Listener listener);
    ~Discovery();

    /// Starts the monitor, then enumerates: one full batch, from inside the call. Blocking.
    Result<void> coldplug();
    /// Enumerates again in steps on the loop; ends with a full batch. A second request while one runs starts it over.
    Result<void> rescan();
    /// "udev" where udevd settles devices, "kernel" where only the kernel's own events are heard.
    const std::string& source() const { return monitor_->source(); }
    bool monitoring() const { return monitor_->listening(); }
    uint64_t overflows() const { return monitor_->overflows(); }

 private:
    struct Touched {
        std::string syspath;
        bool removed = false;
    };

    Discovery(EventLoop& loop, DiscoveryOptions options, Listener listener);
    void lost();
    void touch(udev_device* device);
    void flush();
    Result<std::vector<std::string>> enumerate();
    Result<void> begin_scan();
    Result<void> scan_in_steps();
    void step_scan();
    void finish_scan();
    Result<locality::BlockFacts> read(const std::string& syspath);

    EventLoop& loop_;
    DiscoveryOptions options_;
    Listener listener_;
    locality::SysfsReader reader_;

    std::map<std::string, Touched> touched_;  ///< by kernel name: the last event of each since the last batch

    bool scanning_ = false;
    bool scan_again_ = false;
    std::vector<std::string> scan_paths_;
    size_t scan_at_ = 0;
    DiscoveryBatch scan_batch_;

    // last: they end before what they call into
    std::unique_ptr<UdevMonitor> monitor_;
    std::unique_ptr<Burst> burst_;
    EventSource scan_turn_;
};

}  // namespace storctl
