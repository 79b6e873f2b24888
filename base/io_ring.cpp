#include "base/io_ring.hpp"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace storctl {
namespace {

Error ring_error(const char* what, int result) { return errno_error(std::string("io_uring: cannot ") + what, -result); }

constexpr size_t poll_outstanding_limit = 4;  // the eventfd, the next receive, and one or two requests

void spin_pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace

uint64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Result<std::unique_ptr<IoRing>> IoRing::create(unsigned entries, uint64_t poll_limit_ns) {
    std::unique_ptr<IoRing> ring(new IoRing);
    // with one CPU whoever we wait for could not run meanwhile
    ring->poll_ = AdaptivePoll(::sysconf(_SC_NPROCESSORS_ONLN) > 1 ? poll_limit_ns : 0);
    // Completions run in our own io_uring_enter instead of interrupting whatever we do (6.1); older kernels: plainly.
    constexpr unsigned wanted = IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL;
    int r = io_uring_queue_init(
        entries, &ring->ring_,
        wanted | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    if (r == -EINVAL) r = io_uring_queue_init(entries, &ring->ring_, wanted);
    if (r == -ENOSYS || r == -EPERM) {
        return make_error(
            std::errc::not_supported,
            "io_uring is not available: the kernel lacks it or kernel.io_uring_disabled, a container or a "
            "seccomp filter forbids it");
    }
    if (r < 0) return ring_error("create a ring", r);
    ring->created_ = true;
    ring->wake_.ring = ring.get();
    ring->wake_.done = &IoRing::on_wake;
    ring->wake_fd_.reset(::eventfd(0, EFD_CLOEXEC));
    if (!ring->wake_fd_) return errno_error("cannot create an eventfd");
    return ring;
}

IoRing::~IoRing() {
    if (created_) io_uring_queue_exit(&ring_);
}

Result<void> IoRing::register_files(std::span<const int> fds) {
    const int r = io_uring_register_files(&ring_, fds.data(), static_cast<unsigned>(fds.size()));
    if (r < 0) return ring_error("register descriptors", r);
    return {};
}

Result<void> IoRing::replace_file(unsigned index, int fd) {
    const int r = io_uring_register_files_update(&ring_, index, &fd, 1);
    if (r < 0) return ring_error("replace a descriptor", r);
    return {};
}

Result<void> IoRing::start() {
    // by hand: liburing 2.3's shared library does not export io_uring_enable_rings
    if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0) {
        return errno_error("io_uring: cannot start a ring");
    }
    io_uring_register_ring_fd(&ring_);  // saves a look-up per turn where the kernel has it (5.18)
    arm_wake();
    return {};
}

void IoRing::reserve(unsigned count) {
    if (io_uring_sq_space_left(&ring_) < count) io_uring_submit(&ring_);
}

io_uring_sqe* IoRing::entry(IoCompletion& completion) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    // submitting empties the queue; it fails only for want of memory, then again until it goes
    while (sqe == nullptr) {
        io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
    }
    io_uring_sqe_set_data(sqe, &completion);
    if (!completion.silent) ++outstanding_;
    return sqe;
}

void IoRing::cancel(IoCompletion& completion) {
    static IoCompletion nobody{.done = [](IoCompletion&, int) {}, .silent = true};
    io_uring_sqe* const sqe = entry(nobody);
    io_uring_prep_cancel(sqe, &completion, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void IoRing::arm_wake() { io_uring_prep_read(entry(wake_), wake_fd_.get(), &wake_count_, sizeof wake_count_, 0); }

void IoRing::on_wake(IoCompletion& self, int) {
    IoRing& ring = *static_cast<Wake&>(self).ring;
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard lock(ring.posted_mutex_);
        work.swap(ring.posted_);
    }
    for (auto& item : work) item();
    if (!ring.stopping_) ring.arm_wake();
}

void IoRing::post(std::function<void()> work) {
    // with the lock: whoever runs this work may end the ring right after
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void IoRing::complete_batch() {
    constexpr unsigned batch = 64;
    io_uring_cqe* cqes[batch];
    for (;;) {
        const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, batch);
        if (count == 0) return;
        for (unsigned i = 0; i < count; ++i) {
            auto* completion = static_cast<IoCompletion*>(io_uring_cqe_get_data(cqes[i]));
            const int result = cqes[i]->res;
            if (!completion->silent) --outstanding_;
            completion->done(*completion, result);
            submit_batch();
        }
        io_uring_cq_advance(&ring_, count);
        if (count < batch) return;
    }
}

/// Something to reap, or to be reaped after the kernel has run what it put off (IORING_SQ_TASKRUN): seen without a
/// system call.
bool IoRing::ready() const {
    return io_uring_cq_ready(&ring_) > 0 ||
           (__atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

int IoRing::wait() {
    const uint64_t began = monotonic_ns();
    // with more in flight sleeping gathers completions into batches, which pays more than waking early
    const uint64_t budget = outstanding_ <= poll_outstanding_limit ? poll_.budget_ns(began) : 0;
    int r = 0;
    if (budget > 0) {
        r = io_uring_submit_and_get_events(&ring_);
        uint64_t now = began;
        while (r >= 0 && !ready() && now - began < budget) {
            spin_pause();
            now = monotonic_ns();
        }
        if (r >= 0 && ready()) {
            r = io_uring_get_events(&ring_);
            note_preemption(now);
            poll_.waited(now - began);
            return r;
        }
    }
    if (r >= 0) r = io_uring_submit_and_wait(&ring_, 1);
    poll_.waited(monotonic_ns() - began);
    return r;
}

void IoRing::note_preemption(uint64_t now_ns) {
    constexpr uint64_t interval_ns = 1'000'000;
    if (now_ns < preemption_looked_ns_ + interval_ns) return;
    preemption_looked_ns_ = now_ns;
    rusage usage{};
    if (::getrusage(RUSAGE_THREAD, &usage) == 0) poll_.preempted(static_cast<uint64_t>(usage.ru_nivcsw), now_ns);
}

Result<void> IoRing::run(const std::function<void()>& after_batch) {
    while (!stopping_) {
        const int r = wait();
        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) return ring_error("wait for completions", r);
        turn_time_ns_ = monotonic_ns();
        complete_batch();
        after_batch();
    }
    // At exit the kernel takes a ring apart some time later; until then its table would keep descriptors open, and with
    // them exclusive opens and locks. Only this thread may do it.
    io_uring_unregister_files(&ring_);
    return {};
}

}  // namespace storctl
