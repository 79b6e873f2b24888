#pragma once
// The arbiter service from inside, for its own files only (arbiter_service*.cpp). Loop thread only.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "daemon/arbiter_guard.hpp"
#include "daemon/arbiter_hubs.hpp"
#include "daemon/arbiter_service.hpp"

namespace storctl {

/// Everything that the service consists of; each uses those before it.
struct ArbiterService::Parts {
    Parts(EventLoop& the_loop, StateDb& the_db, EventHub& the_hub, std::unique_ptr<ArbiterKernel> the_kernel,
          ArbiterOptions the_options);
    Result<void> open();
    Result<void> start(std::function<void()> when_settled);

    void take(UsbBatch batch);
    void take_all(usbarb::UsbScan scan);
    void plugged(const UsbPlugged& event);
    void unplugged(const UsbUnplugged& event);
    void appeared(const usbarb::DeviceFacts& device);
    void gone(const usbarb::DeviceFacts& device);
    void changed(usbarb::Changes changes);
    void flush();
    Result<void> refresh();
    void count();
    bool may_ask(const usbarb::Socket& socket) const;
    std::map<std::string, usbarb::DeviceFacts> present() const;

    void arm_deadline();
    void deadline_came();
    void expire();
    void settle();

    EventLoop& loop;
    EventHub& hub;
    StateDb& db;
    ArbiterOptions options;
    ClaimLedger ledger;
    HeldHubs hubs;
    std::unique_ptr<UseWatch> uses;
    std::unique_ptr<RuleBook> rules;
    ClaimDrivers drivers;
    ClaimMaker maker;
    ClaimReleases releases;
    ClaimGuard guard;
    std::optional<ArbiterCalls> calls;
    NoClaimNodes no_nodes;
    ClaimNodes* nodes = &no_nodes;
    EventSource deadline;
    EventSource start_limit;
    std::function<void()> settled;
    std::set<std::string> unsettled;  ///< sysfs paths: udev has still to settle them, and rules wait for its event
    usbarb::Changes unsaved;          ///< of the batch that is being taken
    bool started = false;
    bool refreshing = false;  ///< an enumeration that was asked for, whose events are still to come
    std::optional<Counts> counts;
    // last: it ends first, and with it whatever would call back
    std::unique_ptr<ArbiterKernel> kernel;
};

}  // namespace storctl
