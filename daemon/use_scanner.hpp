#pragma once
// Scans of use (daemon/use_scan.hpp) on a thread of their own, because they walk all of /proc. Called on the loop's
// thread, which also gets the results.

#include <functional>
#include <memory>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/use_scan.hpp"

namespace storctl {

struct UseScannerOptions {
    usbarb::KernelPaths kernel;
    locality::KernelPaths block;
    int64_t priority = 0;  ///< of the results on the loop
};

class UseScanner {
 public:
    using Done = std::function<void(Result<UseScan>)>;

    static Result<std::unique_ptr<UseScanner>> open(EventLoop& loop, UseScannerOptions options);
    /// Calls of `done` that are still due are dropped. A scan that hangs in the kernel is left to itself.
    ~UseScanner();
    UseScanner(const UseScanner&) = delete;
    UseScanner& operator=(const UseScanner&) = delete;

    /// `done` gets what a scan found that began after this call, with the newest request's nodes. Several requests that
    /// wait share one scan. `done` must not destroy the scanner.
    void scan(UseRequest request, Done done);

 private:
    struct Shared;
    UseScanner(std::shared_ptr<Shared> shared, std::unique_ptr<Mailbox> mailbox);
    static void work(const std::shared_ptr<Shared>& shared);

    std::shared_ptr<Shared> shared_;
    std::unique_ptr<Mailbox> mailbox_;
};

}  // namespace storctl
