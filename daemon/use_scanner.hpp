#pragma once
// Scans of use (daemon/use_scan.hpp) on a thread of their own, because they walk all of /proc. Called on the loop's
// thread, which also gets the results.

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.hpp"
#include "base/result.hpp"
#include "daemon/use_scan.hpp"
#include "daemon/worker.hpp"

namespace storctl {

struct UseScannerOptions {
    usbarb::KernelPaths kernel;
    locality::KernelPaths block;
    int64_t priority = 0;  ///< of the results on the loop
};

class UseScanner {
 public:
    using Done = std::function<void(const Result<UseScan>&)>;

    static Result<std::unique_ptr<UseScanner>> open(EventLoop& loop, UseScannerOptions options);
    UseScanner(const UseScanner&) = delete;
    UseScanner& operator=(const UseScanner&) = delete;

    /// `done` gets what a scan found that began after this call, with the newest request's nodes; nothing when the
    /// scanner ends before. Several requests that wait share one scan. `done` must not destroy the scanner.
    void scan(UseRequest request, Done done);

 private:
    explicit UseScanner(UsePaths paths) : paths_(std::move(paths)) {}
    void begin();
    void finish(const Result<UseScan>& found);

    UsePaths paths_;
    UseRequest newest_;
    std::vector<Done> waiting_;  ///< for the next scan
    std::vector<Done> served_;   ///< by the scan that runs
    bool running_ = false;
    bool hidden_told_ = false;
    std::unique_ptr<Worker> worker_;  ///< last: it ends before what it calls into
};

}  // namespace storctl
