#include "daemon/use_scanner.hpp"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.hpp"

namespace storctl {

/// What the thread and the scanner share; the thread keeps it alive when it is left behind.
struct UseScanner::Shared {
    UsePaths paths;
    std::mutex mutex;  ///< guards what follows; not held during a scan
    std::condition_variable wake, ended;
    std::optional<UseRequest> wanted;
    std::vector<Done> waiting;   ///< for the scan that has not begun
    Mailbox* mailbox = nullptr;  ///< null: stop
    bool has_ended = false;
    bool hidden_told = false;  ///< the thread's own
    std::thread thread;        ///< the scanner's own
};

namespace {

constexpr std::chrono::seconds patience{2};

/// Signals are the loop's, whichever thread the kernel would pick.
void block_signals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

UseScanner::UseScanner(std::shared_ptr<Shared> shared, std::unique_ptr<Mailbox> mailbox)
    : shared_(std::move(shared)), mailbox_(std::move(mailbox)) {}

Result<std::unique_ptr<UseScanner>> UseScanner::open(EventLoop& loop, UseScannerOptions options) {
    auto mailbox = TRY(Mailbox::open(loop, options.priority));
    auto shared = std::make_shared<Shared>();
    shared->paths = {.kernel = std::move(options.kernel), .block = std::move(options.block)};
    shared->mailbox = mailbox.get();
    try {
        shared->thread = std::thread([shared] { work(shared); });
    } catch (const std::system_error& error) {
        return make_error(static_cast<std::errc>(error.code().value()), "cannot start the thread that looks for use");
    }
    return std::unique_ptr<UseScanner>(new UseScanner(std::move(shared), std::move(mailbox)));
}

UseScanner::~UseScanner() {
    std::unique_lock lock(shared_->mutex);
    shared_->mailbox = nullptr;
    shared_->wake.notify_all();
    const bool ended = shared_->ended.wait_for(lock, patience, [this] { return shared_->has_ended; });
    lock.unlock();
    if (ended) {
        shared_->thread.join();
    } else {
        log::warning("a scan of devices' use hangs in the kernel; it is left behind");
        shared_->thread.detach();
    }
}

void UseScanner::scan(UseRequest request, Done done) {
    const std::lock_guard lock(shared_->mutex);
    shared_->wanted = std::move(request);
    shared_->waiting.push_back(std::move(done));
    shared_->wake.notify_all();
}

void UseScanner::work(const std::shared_ptr<Shared>& shared) {
    block_signals();
    std::unique_lock lock(shared->mutex);
    while (true) {
        shared->wake.wait(lock, [&] { return shared->mailbox == nullptr || shared->wanted; });
        if (shared->mailbox == nullptr) break;
        const UseRequest request = *std::exchange(shared->wanted, std::nullopt);
        auto waiting = std::exchange(shared->waiting, {});
        lock.unlock();
        auto found = scan_uses(request, shared->paths);
        if (found && found->hidden_processes > 0 && !std::exchange(shared->hidden_told, true)) {
            log::warning(
                "{} processes may not be looked into (no CAP_SYS_PTRACE?): what they do with USB devices is unknown",
                found->hidden_processes);
        }
        lock.lock();
        if (shared->mailbox == nullptr) break;
        shared->mailbox->post([waiting = std::move(waiting), found = std::move(found)] {
            for (const auto& done : waiting) done(found);
        });
    }
    shared->has_ended = true;
    shared->ended.notify_all();
}

}  // namespace storctl
