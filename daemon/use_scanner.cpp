#include "daemon/use_scanner.hpp"

#include <utility>

#include "base/log.hpp"

namespace storctl {

Result<std::unique_ptr<UseScanner>> UseScanner::open(EventLoop& loop, UseScannerOptions options) {
    std::unique_ptr<UseScanner> self(
        new UseScanner({.kernel = std::move(options.kernel), .block = std::move(options.block)}));
    self->worker_ = TRY(Worker::open(loop, options.priority, "what is done with devices"));
    return self;
}

void UseScanner::scan(UseRequest request, Done done) {
    newest_ = std::move(request);
    waiting_.push_back(std::move(done));
    if (!running_) begin();
}

void UseScanner::begin() {
    running_ = true;
    served_ = std::exchange(waiting_, {});
    worker_->run([this, request = newest_, paths = paths_]() -> Worker::Answer {
        // the scanner itself is only looked at by the answer, which runs while it lives
        return [this, found = scan_uses(request, paths)] { finish(found); };
    });
}

void UseScanner::finish(const Result<UseScan>& found) {
    if (found && found->hidden_processes > 0 && !std::exchange(hidden_told_, true)) {
        log::warning(
            "{} processes may not be looked into (no CAP_SYS_PTRACE?): what they do with USB devices is unknown",
            found->hidden_processes);
    }
    running_ = false;
    const auto served = std::exchange(served_, {});
    if (!waiting_.empty()) begin();
    for (const auto& done : served) done(found);
}

}  // namespace storctl
