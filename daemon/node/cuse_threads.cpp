#include "daemon/node/cuse_threads.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace storctl::node {
namespace {

constexpr size_t most_workers = 256;
constexpr size_t most_idle = 16;  // to make one costs many requests
constexpr auto pursue_every = std::chrono::milliseconds(10);
/// For what the server can give up by itself.
constexpr auto patience = std::chrono::milliseconds(1000);

}  // namespace

bool being_killed(int thread_id) {
    if (thread_id == 0) return true;
    const auto status = read_file(fmt::format("/proc/{}/status", thread_id));
    if (!status) return true;
    for (const std::string_view key : {"\nSigPnd:\t", "\nShdPnd:\t"}) {
        const auto at = status->find(key);
        if (at == std::string::npos) return true;
        const auto pending = std::strtoull(status->c_str() + at + key.size(), nullptr, 16);
        if ((pending >> (SIGKILL - 1) & 1) != 0) return true;
    }
    return false;
}

std::shared_ptr<CuseThreads> CuseThreads::make(std::string name, std::unique_ptr<CuseChannel> channel,
                                               Handlers handlers) {
    return std::shared_ptr<CuseThreads>(new CuseThreads(std::move(name), std::move(channel), std::move(handlers)));
}

Result<void> CuseThreads::start() {
    const auto no_threads = [] {
        return make_error(std::errc::resource_unavailable_try_again, "the system gives no threads");
    };
    auto pursue = [self = shared_from_this()] {
        self->pursue_interrupts();
        const std::scoped_lock lock(self->mutex_);
        self->pursuer_runs_ = false;
        self->changed_.notify_all();
    };
    pursuer_runs_ = true;
    try {
        std::thread(std::move(pursue)).detach();
    } catch (const std::system_error&) {
        pursuer_runs_ = false;
        return no_threads();
    }
    if (!add_worker() || !add_worker()) return no_threads();
    return {};
}

/// The connection ends, and with it everybody's call: what they still work on is nobody's.
void CuseThreads::give_all_up() {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::list<std::shared_ptr<Worker>> left;
    {
        const std::scoped_lock lock(mutex_);
        left = workers_;
    }
    for (;;) {
        const bool last_look = std::chrono::steady_clock::now() > deadline;
        left.remove_if([&](const std::shared_ptr<Worker>& worker) {
            const std::scoped_lock lock(worker->mutex);
            if (worker->turn == nullptr) return true;
            handlers_.give_up(*worker->turn);
            return worker->turn->revoke() || (last_look && worker->turn->may_answer());
        });
        if (left.empty() || last_look) return;
        std::this_thread::yield();
    }
}

bool CuseThreads::end(std::chrono::milliseconds limit) {
    ending_ = true;
    give_all_up();
    channel_->abort();
    std::unique_lock lock(mutex_);
    changed_.notify_all();
    return changed_.wait_for(lock, limit, [this] { return workers_.empty() && !pursuer_runs_; });
}

bool CuseThreads::add_worker() {
    const auto worker = std::make_shared<Worker>();
    {
        const std::scoped_lock lock(mutex_);
        if (workers_.size() >= most_workers) return false;
        workers_.push_back(worker);
    }
    idle_.fetch_add(1);  // from now on: two that take requests at the same time need not both add one
    auto run = [self = shared_from_this(), worker] {
        self->work(*worker);
        const std::scoped_lock lock(self->mutex_);
        self->workers_.remove(worker);
        self->changed_.notify_all();
    };
    try {
        std::thread(std::move(run)).detach();
        return true;
    } catch (const std::system_error&) {
        idle_.fetch_sub(1);
        const std::scoped_lock lock(mutex_);
        workers_.remove(worker);
        return false;  // as many as the system gives
    }
}

void CuseThreads::work(Worker& worker) {
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(CuseChannel::buffer_bytes);  // mostly unused
    const std::span buffer(memory.get(), CuseChannel::buffer_bytes);
    for (;;) {
        const auto request = channel_->receive(buffer);
        const size_t others = idle_.fetch_sub(1) - 1;
        if (!request || !*request) {
            if (!request && !ending_) log::error("node {}: {}", name_, request.error().message());
            if (ending_.exchange(true)) return;
            give_all_up();
            handlers_.closed();
            return;
        }
        const bool last = others == 0 && !add_worker();
        serve(worker, **request, last);
        if (idle_.fetch_add(1) >= most_idle) {
            idle_.fetch_sub(1);
            return;
        }
    }
}

void CuseThreads::serve(Worker& worker, const CuseRequest& request, bool last) {
    if (request.kind == CuseRequest::Kind::interrupt) return interrupt(request);
    CuseTurn turn(request, last);
    {
        const std::scoped_lock lock(worker.mutex);
        if (ending_) return;
        worker.turn = &turn;
    }
    handlers_.serve(turn);
    const std::scoped_lock lock(worker.mutex);
    worker.turn = nullptr;
}

/// The consumer is being killed, or has a signal of its own to handle; the kernel says so once, and waits until its
/// request is answered.
void CuseThreads::interrupt(const CuseRequest& request) {
    {
        const std::scoped_lock lock(mutex_);
        const auto found = std::find_if(workers_.begin(), workers_.end(), [&](const auto& one) {
            const std::scoped_lock inner(one->mutex);
            return one->turn != nullptr && one->turn->request().unique == request.interrupted;
        });
        if (found != workers_.end()) {
            interrupts_.push_back({*found, request.interrupted, std::chrono::steady_clock::now()});
            changed_.notify_all();
            return;
        }
    }
    channel_->interrupt_again(request.unique);  // answered already, or not begun: the kernel knows which
}

void CuseThreads::pursue_interrupts() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
        if (interrupts_.empty()) {
            changed_.wait(lock, [this] { return ending_ || !interrupts_.empty(); });
            continue;
        }
        std::list<Interrupt> pending;
        pending.swap(interrupts_);
        lock.unlock();
        pending.remove_if([this](const Interrupt& one) { return !pursue(one); });
        lock.lock();
        interrupts_.splice(interrupts_.end(), pending);
        changed_.wait_for(lock, pursue_every, [this] { return ending_.load(); });
    }
}

/// One look at it. False: nothing is left to do.
bool CuseThreads::pursue(const Interrupt& interrupt) {
    Worker& worker = *interrupt.worker;
    const std::scoped_lock lock(worker.mutex);
    if (worker.turn == nullptr || worker.turn->request().unique != interrupt.unique) return false;
    if (!being_killed(worker.turn->request().thread_id)) return true;  // it waits, as it would for a disk
    handlers_.give_up(*worker.turn);
    if (std::chrono::steady_clock::now() - interrupt.since < patience) return true;
    // in a wait that nothing ends: what it comes back with is nobody's any more
    if (worker.turn->may_answer()) channel_->answer_error(interrupt.unique, EINTR);
    return false;
}

}  // namespace storctl::node
