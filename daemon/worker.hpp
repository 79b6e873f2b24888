#pragma once
// One thread beside the loop, for what may block: runs jobs in order, and hands their answers to the loop's thread. All
// calls from the loop's thread.

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.hpp"
#include "base/result.hpp"

namespace storctl {

class Worker {
 public:
    using Answer = std::function<void()>;
    /// Runs on the worker's thread, and shares nothing with anybody: it may outlive the worker. What it returns runs on
    /// the loop's thread, while the worker lives; it must not destroy the worker.
    using Job = std::function<Answer()>;

    /// `what` says in messages what the thread is for.
    static Result<std::unique_ptr<Worker>> open(EventLoop& loop, int64_t priority, std::string what);
    /// Jobs that have not begun, and answers that are due, are dropped. A job that hangs in the kernel is left to
    /// itself.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void run(Job job);

 private:
    struct Shared;
    Worker(std::shared_ptr<Shared> shared, std::unique_ptr<Mailbox> mailbox, std::string what);
    static void work(const std::shared_ptr<Shared>& shared);

    std::shared_ptr<Shared> shared_;
    std::unique_ptr<Mailbox> mailbox_;
    std::string what_;
};

}  // namespace storctl
