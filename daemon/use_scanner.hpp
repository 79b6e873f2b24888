#pragma once
// What the host and its programs do with USB devices and with what lies on PCI functions: one look at mounts, swap,
// holders, network interfaces and every process' open raw USB nodes, taken on a thread of its own because it walks all
// of /proc. Called on the loop's thread, which also gets the results.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "locality/sysfs_block.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl {

struct UseScannerOptions {
    usbarb::KernelPaths kernel;
    locality::KernelPaths block;
    int64_t priority = 0;  ///< of the results on the loop
};

struct UseRequest {
    std::map<std::string, std::string> nodes;  ///< block devices behind mediated nodes: kernel name → node's name
    bool consoles = false;                     ///< policy: keyboards are the host's console
};

/// USB devices by their sockets: what lies below a device is the nearest device's. Of other PCI functions one entry per
/// unit on them (Socket{.controller, .unit}). What is not named has no use.
struct UseScan {
    std::map<usbarb::Socket, std::vector<usbarb::Use>> uses;
};

/// The scan itself. Blocking, any thread.
Result<UseScan> scan_uses(const UseRequest& request, const UseScannerOptions& options);

class UseScanner {
 public:
    using Done = std::function<void(Result<UseScan>)>;

    static Result<std::unique_ptr<UseScanner>> open(EventLoop& loop, UseScannerOptions options);
    /// Calls of `done` that are still due are dropped. A scan that hangs in the kernel is left to itself.
    ~UseScanner();

    /// `done` gets what a scan found that began after this call, with the newest request's nodes. Several requests that
    /// wait share one scan.
    void scan(UseRequest request, Done done);

 private:
    struct Shared;
    explicit UseScanner(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
    std::shared_ptr<Shared> shared_;
};

}  // namespace storctl
