#pragma once
// The host as the arbiter service sees and moves it: events, enumeration, use, drivers. One implementation is this
// machine's; tests bring others. Loop thread only.

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "daemon/actuator.hpp"
#include "daemon/usb_discovery.hpp"
#include "daemon/use_scanner.hpp"
#include "usbarb/actuation.hpp"

namespace storctl {

class ArbiterKernel {
 public:
    using Listener = std::function<void(UsbBatch)>;
    virtual ~ArbiterKernel() = default;

    /// See UsbDiscovery; `listener` gets all batches from then on.
    virtual Result<void> coldplug(Listener listener) = 0;
    /// See UsbDiscoveryOptions::may_ask; before `coldplug`.
    virtual void set_may_ask(std::function<bool(const usbarb::Socket&)>) {}
    virtual Result<void> refresh() = 0;
    virtual Result<void> rescan() = 0;
    virtual bool monitoring() const = 0;
    /// See UseScanner.
    virtual void scan(UseRequest request, UseScanner::Done done) = 0;
    /// See Actuator.
    virtual void run(usbarb::Job job, std::vector<UniqueFd> in, Actuator::Done done) = 0;

 protected:
    ArbiterKernel() = default;
};

struct ThisHostOptions {
    UsbDiscoveryOptions discovery;
    UseScannerOptions uses;
    Actuator::Options actuator;
};
Result<std::unique_ptr<ArbiterKernel>> open_this_host(EventLoop& loop, ThisHostOptions options);

}  // namespace storctl
