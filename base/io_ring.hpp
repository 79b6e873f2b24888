#pragma once
// The io_uring reactor: one ring, one thread, intrusive completions, no allocation per operation.
// Created anywhere; from `start` on everything but `wake` runs on the thread that called it. What an operation points
// at (buffer, completion) must live until its callback has run.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <liburing.h>

#include "base/adaptive_poll.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

/// Stands for one operation in flight. `done` gets its result: bytes, or a negative errno.
struct IoCompletion {
    using Done = void (*)(IoCompletion& self, int result);
    Done done = nullptr;
    bool silent = false;  ///< an entry with IOSQE_CQE_SKIP_SUCCESS: it completes only when it fails
};

class IoRing {
 public:
    /// `entries`: submission slots of one batch; a fuller batch is submitted in several parts.
    /// `poll_limit_ns`: busy-poll for waits up to this long (see adaptive_poll.hpp), 0 never.
    /// not_supported with a hint where the kernel or its policy has no io_uring.
    static Result<std::unique_ptr<IoRing>> create(unsigned entries, uint64_t poll_limit_ns = 0);
    ~IoRing();
    IoRing(const IoRing&) = delete;
    IoRing& operator=(const IoRing&) = delete;

    /// A table of descriptors for IOSQE_FIXED_FILE; -1 leaves a place empty. Before `start`.
    Result<void> register_files(std::span<const int> fds);
    Result<void> replace_file(unsigned index, int fd);

    /// Makes the calling thread the ring's own.
    Result<void> start();
    /// A free submission entry bound to `completion`, to be filled by an io_uring_prep_* function at once.
    io_uring_sqe* entry(IoCompletion& completion);
    /// Ends the operation bound to `completion` early: it completes with ECANCELED.
    void cancel(IoCompletion& completion);
    /// An entry linked to a silent one that failed: the kernel ends it without a word.
    void abandon(const IoCompletion& completion) { outstanding_ -= completion.silent ? 0 : 1; }
    /// Hands over what was prepared once it is a batch worth a system call: the device works while we read on.
    void submit_batch() {
        if (io_uring_sq_ready(&ring_) >= batch_entries) io_uring_submit(&ring_);
    }
    /// Makes room for `count` entries in one batch: a linked chain must not be split.
    void reserve(unsigned count);

    /// Runs turns until `stop`: submit what was prepared, wait, complete. `after_batch` runs once a turn.
    Result<void> run(const std::function<void()>& after_batch);
    void stop() { stopping_ = true; }

    /// Runs `work` on the ring's thread, soon; from any thread.
    void post(std::function<void()> work);

    /// Monotonic nanoseconds, read once a turn: good enough for statistics, free on the I/O path.
    uint64_t turn_time_ns() const { return turn_time_ns_; }

 private:
    static constexpr unsigned batch_entries = 4;  // 2 to 8 measure alike; handing over only at the wait costs a fifth
    struct Wake : IoCompletion {
        IoRing* ring = nullptr;
    };
    IoRing() = default;
    bool ready() const;
    int wait();
    void note_preemption(uint64_t now_ns);
    void arm_wake();
    static void on_wake(IoCompletion& self, int result);
    void complete_batch();

    io_uring ring_{};
    bool created_ = false;
    bool stopping_ = false;
    uint64_t turn_time_ns_ = 0;
    AdaptivePoll poll_{0};
    size_t outstanding_ = 0;  // entries whose result is still to come
    uint64_t preemption_looked_ns_ = 0;
    Wake wake_;
    UniqueFd wake_fd_;
    uint64_t wake_count_ = 0;
    std::mutex posted_mutex_;  // guards posted_ only; taken when something was posted, never per operation
    std::vector<std::function<void()>> posted_;
};

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t monotonic_ns();

}  // namespace storctl
