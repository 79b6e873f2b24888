#include "daemon/worker.hpp"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace storctl {

/// What the thread and the worker share; the thread keeps it alive when it is left behind.
struct Worker::Shared {
    std::mutex mutex;  ///< guards what follows; not held while a job runs
    std::condition_variable wake, ended;
    std::deque<Job> jobs;
    Mailbox* mailbox = nullptr;  ///< null: stop
    bool has_ended = false;
    std::thread thread;  ///< the worker's own
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

Worker::Worker(std::shared_ptr<Shared> shared, std::unique_ptr<Mailbox> mailbox, std::string what)
    : shared_(std::move(shared)), mailbox_(std::move(mailbox)), what_(std::move(what)) {}

Result<std::unique_ptr<Worker>> Worker::open(EventLoop& loop, int64_t priority, std::string what) {
    auto mailbox = TRY(Mailbox::open(loop, priority));
    auto shared = std::make_shared<Shared>();
    shared->mailbox = mailbox.get();
    try {
        shared->thread = std::thread([shared] { work(shared); });
    } catch (const std::system_error& error) {
        return make_error(static_cast<std::errc>(error.code().value()),
                          fmt::format("cannot start a thread for {}", what));
    }
    return std::unique_ptr<Worker>(new Worker(std::move(shared), std::move(mailbox), std::move(what)));
}

Worker::~Worker() {
    std::unique_lock lock(shared_->mutex);
    shared_->mailbox = nullptr;
    shared_->jobs.clear();
    shared_->wake.notify_all();
    const bool ended = shared_->ended.wait_for(lock, patience, [this] { return shared_->has_ended; });
    lock.unlock();
    if (ended) {
        shared_->thread.join();
    } else {
        log::warning("the thread for {} hangs in the kernel; it is left behind", what_);
        shared_->thread.detach();
    }
}

void Worker::run(Job job) {
    const std::lock_guard lock(shared_->mutex);
    shared_->jobs.push_back(std::move(job));
    shared_->wake.notify_all();
}

void Worker::work(const std::shared_ptr<Shared>& shared) {
    block_signals();
    std::unique_lock lock(shared->mutex);
    while (true) {
        shared->wake.wait(lock, [&] { return shared->mailbox == nullptr || !shared->jobs.empty(); });
        if (shared->mailbox == nullptr) break;
        Job job = std::move(shared->jobs.front());
        shared->jobs.pop_front();
        lock.unlock();
        Answer answer = job();
        job = nullptr;
        lock.lock();
        if (shared->mailbox == nullptr) break;
        shared->mailbox->post(std::move(answer));
    }
    shared->has_ended = true;
    shared->ended.notify_all();
}

}  // namespace storctl
