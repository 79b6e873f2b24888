#pragma once
// libudev's event socket on the loop: udevd's events where it runs, after all of its rules, else the kernel's own. The
// loop's thread only.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"

struct udev;
struct udev_device;
struct udev_monitor;

namespace storctl {

struct UdevRelease {
    void operator()(udev* handle) const;
    void operator()(udev_monitor* handle) const;
    void operator()(udev_device* handle) const;
};
using UdevDevice = std::unique_ptr<udev_device, UdevRelease>;

struct UdevMonitorOptions {
    struct Match {
        std::string subsystem;
        std::string devtype;  ///< empty: any
    };
    std::vector<Match> matches;
    size_t buffer_bytes = 128 << 20;
    int64_t priority = 0;
};

class UdevMonitor {
 public:
    struct Listener {
        std::function<void(udev_device*)> event;
        std::function<void()> lost;     ///< events were lost: only an enumeration tells what is there
        std::function<void()> drained;  ///< after the events of one turn
    };

    /// Hears nothing before `listen`.
    static Result<std::unique_ptr<UdevMonitor>> open(EventLoop& loop, UdevMonitorOptions options, Listener listener);

    /// Begins to listen; anew where udevd has come or gone since.
    Result<void> listen();
    /// The events that have arrived already, up to one turn's.
    void receive();
    /// "udev" where udevd settles devices, "kernel" where only the kernel's own events are heard.
    const std::string& source() const { return source_; }
    bool settles() const { return source_ == "udev"; }
    bool listening() const { return static_cast<bool>(io_); }
    uint64_t overflows() const { return overflows_; }
    /// Null, with errno, when it is not there.
    UdevDevice device(const std::string& syspath) const;

 private:
    UdevMonitor(EventLoop& loop, UdevMonitorOptions options, Listener listener);
    Result<void> begin(bool settled);
    void set_buffer();

    EventLoop& loop_;
    UdevMonitorOptions options_;
    Listener listener_;
    std::unique_ptr<udev, UdevRelease> udev_;
    std::unique_ptr<udev_monitor, UdevRelease> monitor_;
    std::string source_;
    uint64_t overflows_ = 0;
    EventSource io_;  ///< last: it ends before what it calls into
};

}  // namespace storctl
