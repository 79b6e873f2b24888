#pragma once
// USB devices and PCI functions of this host from libudev and sysfs: a monitor that is listening before the first
// enumeration, bursts of events gathered into batches in the order in which they came, and a full enumeration again
// whenever the kernel says that events were lost. The loop's thread only. No device is opened, but, on a thread beside
// the loop and only with leave, one whose words the kernel could not read.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl {

struct UsbDiscoveryOptions {
    size_t monitor_buffer_bytes = 128 << 20;
    int64_t priority = 0;
    std::chrono::milliseconds quiet{50};     ///< a batch is handed on when no event came for this long,
    std::chrono::milliseconds longest{500};  ///< and at the latest this long after its first event
    std::chrono::milliseconds retry{1000};   ///< after an enumeration that failed
    size_t step_devices = 64;                ///< read per turn of the loop in a rescan, so that others get theirs
    int64_t step_priority = 0;
    usbarb::KernelPaths kernel;
    /// Whether a device may be asked for words that the kernel could not read: not while anybody has it. Empty: never.
    std::function<bool(const usbarb::Socket&)> may_ask;
};

/// A device came, or was read again because something about it (a driver of an interface, say) changed.
struct UsbPlugged {
    usbarb::DeviceFacts device;
    bool settled = true;  ///< udev has run its rules for this plug; always true where no udevd runs
    bool first = false;   ///< it came, or got its driver: an "add" or "bind" event of the device itself
};
struct UsbUnplugged {
    usbarb::Socket socket;
    usbarb::Half half = usbarb::Half::usb2;
};
/// A PCI function or another USB host controller came, or changed its driver or buses.
struct ControllerChanged {
    usbarb::ControllerFacts controller;
};
struct ControllerRemoved {
    std::string path;
};
using UsbEvent = std::variant<UsbPlugged, UsbUnplugged, ControllerChanged, ControllerRemoved>;

struct UsbBatch {
    bool full = false;     ///< `scan` is all there is, but for what it says is unreadable; `events` is empty
    usbarb::UsbScan scan;  ///< its controllers: every PCI function, and USB host controllers elsewhere; each once
    /// In the order in which they came. Of one device: what came and went between two batches is told as unplugged,
    /// what went and came back as unplugged, then plugged.
    std::vector<UsbEvent> events;
};

class UsbDiscovery {
 public:
    using Listener = std::function<void(UsbBatch)>;

    static Result<std::unique_ptr<UsbDiscovery>> open(EventLoop& loop, UsbDiscoveryOptions options, Listener listener);
    ~UsbDiscovery();

    /// Starts the monitor, then enumerates: one full batch, from inside the call. Blocking.
    Result<void> coldplug();
    /// Enumerates again in steps on the loop; ends with a full batch. A second request while one runs starts it over.
    /// One that fails tells nothing, and is tried again.
    Result<void> rescan();
    /// Enumerates again at once: a full batch from inside the call. Blocking; for the decision about a controller.
    /// Where it takes the place of an enumeration in steps, or events were lost, one in steps follows.
    Result<void> refresh();
    /// "udev" where udevd settles devices, "kernel" where only the kernel's own events are heard.
    const std::string& source() const;
    bool monitoring() const;
    uint64_t overflows() const;

 private:
    class Impl;
    explicit UsbDiscovery(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace storctl
