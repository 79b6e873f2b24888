// The threads of a USB server. Every one of them takes a request, carries it out, waiting in the kernel if need be, and
// answers it. Whoever takes a request while no other thread is waiting for one first adds a thread: so one always is,
// and a poll is answered whatever the others are stuck in. Spare threads end by themselves.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.hpp"
#include "daemon/node/usb_server_state.hpp"

namespace storctl::node {
namespace {

constexpr size_t most_workers = 64;
constexpr size_t most_idle = 4;
constexpr uint64_t ending_id = 0;

thread_local UsbWorker* current_worker = nullptr;

/// A real-time signal: each one sent is taken once, so that the next request does not get what was meant for this one.
int interrupt_signal() { return SIGRTMIN + 1; }

void on_interrupt(int) {
    if (current_worker != nullptr) current_worker->signals_taken.fetch_add(1, std::memory_order_relaxed);
}

void take_interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;  // without SA_RESTART: the call that it meets ends with EINTR
    ::sigaction(interrupt_signal(), &action, nullptr);
}

void unblock_interrupts() {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, interrupt_signal());
    pthread_sigmask(SIG_UNBLOCK, &wanted, nullptr);
}

}  // namespace

Result<void> UsbServer::State::start() {
    ready.reset(::epoll_create1(EPOLL_CLOEXEC));
    ready_end.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ready || !ready_end) return errno_error("cannot watch files");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = ending_id}};
    if (::epoll_ctl(ready.get(), EPOLL_CTL_ADD, ready_end.get(), &event) != 0) return errno_error("cannot watch files");
    channel = TRY(CuseChannel::create(
        {.name = options.device_name, .major = options.major, .minor = options.minor, .device = "/dev/cuse"}));
    take_interrupts();
    notifier_runs = true;
    std::thread([self = shared_from_this()] {
        self->notify_when_ready();
        const std::scoped_lock lock(self->workers_mutex);
        self->notifier_runs = false;
        self->worker_ended.notify_all();
    }).detach();
    add_worker();
    add_worker();
    return {};
}

bool UsbServer::State::end(std::chrono::milliseconds limit) {
    ending = true;
    device_changed.notify_all();
    channel->abort();
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(ready_end.get(), &one, sizeof one);
    std::unique_lock lock(workers_mutex);
    return worker_ended.wait_for(lock, limit, [this] { return workers.empty() && !notifier_runs; });
}

// ---- taking requests

bool UsbServer::State::add_worker() {
    const auto worker = std::make_shared<UsbWorker>();
    {
        const std::scoped_lock lock(workers_mutex);
        if (workers.size() >= most_workers) return false;
        workers.push_back(worker);
    }
    idle.fetch_add(1);  // from now on: two that take requests at the same time need not both add one
    std::thread([self = shared_from_this(), worker] {
        current_worker = worker.get();
        worker->thread = pthread_self();
        unblock_interrupts();
        self->work(*worker);
        const std::scoped_lock lock(self->workers_mutex);
        self->workers.remove(worker);
        self->worker_ended.notify_all();
        current_worker = nullptr;
    }).detach();
    return true;
}

void UsbServer::State::work(UsbWorker& worker) {
    std::vector<std::byte> buffer(CuseChannel::buffer_bytes);
    for (;;) {
        const auto request = channel->receive(buffer);
        const size_t others = idle.fetch_sub(1) - 1;
        if (!request || !*request) {
            if (!request && !ending) log::error("node {}: {}", options.name, request.error().message());
            if (!ending.exchange(true)) listener.closed();
            return;
        }
        const bool last = others == 0 && !add_worker();
        serve(worker, **request, last);
        if (idle.fetch_add(1) >= most_idle) {
            idle.fetch_sub(1);
            return;
        }
    }
}

void UsbServer::State::serve(UsbWorker& worker, const CuseRequest& request, bool last) {
    using Kind = CuseRequest::Kind;
    if (request.kind == Kind::interrupt) return interrupt(request);
    if (request.kind == Kind::poll) return poll(request);
    if (last && (request.kind == Kind::ioctl || request.kind == Kind::open)) {
        channel->answer_error(request.unique, EBUSY);
        return;
    }
    {
        const std::scoped_lock lock(worker.mutex);
        worker.unique = request.unique;
        worker.phase = UsbWorker::Phase::executing;
    }
    switch (request.kind) {
        case Kind::open:
            open(worker, request);
            break;
        case Kind::release:
            release(request);
            break;
        case Kind::read: {
            auto& session = *reinterpret_cast<UsbOpen*>(request.handle)->session;
            if (session.gone()) {
                channel->answer_error(request.unique, ENODEV);
            } else {
                channel->answer_data(request.unique, std::as_bytes(session.read(request.size)));
            }
            break;
        }
        case Kind::ioctl:
            ioctl(worker, request);
            break;
        case Kind::write:
            channel->answer_error(request.unique, EINVAL);
            break;
        case Kind::other:
            channel->answer_error(request.unique, ENOSYS);
            break;
        case Kind::poll:
        case Kind::interrupt:
            break;
    }
    unsigned sent = 0;
    {
        const std::scoped_lock lock(worker.mutex);
        worker.unique = 0;
        sent = std::exchange(worker.signals_sent, 0);
    }
    while (worker.signals_taken.load() < sent) std::this_thread::yield();
    worker.signals_taken = 0;
}

// ---- giving up

/// One signal to a thread that has this request; it ends a wait in the kernel that can be ended.
void UsbServer::State::signal(UsbWorker& worker) {
    if (::pthread_kill(worker.thread, interrupt_signal()) == 0) ++worker.signals_sent;
}

/// The consumer is being killed, or handles a signal of its own. It waits until its request is answered.
void UsbServer::State::interrupt(const CuseRequest& request) {
    constexpr auto patience = std::chrono::milliseconds(1000);
    constexpr auto pause = std::chrono::milliseconds(10);
    const auto began = std::chrono::steady_clock::now();
    std::shared_ptr<UsbWorker> worker;
    {
        const std::scoped_lock lock(workers_mutex);
        const auto found = std::find_if(workers.begin(), workers.end(), [&](const auto& one) {
            const std::scoped_lock inner(one->mutex);
            return one->unique == request.interrupted;
        });
        if (found != workers.end()) worker = *found;
    }
    // answered already, or not begun: the kernel knows which
    if (worker == nullptr) {
        channel->interrupt_again(request.unique);
        return;
    }
    while (!ending) {
        {
            const std::scoped_lock lock(worker->mutex);
            if (worker->unique != request.interrupted) return;
            signal(*worker);
            if (std::chrono::steady_clock::now() - began > patience) {
                // in a wait that no signal ends: what it comes back with is nobody's any more
                if (worker->phase.exchange(UsbWorker::Phase::given_up) != UsbWorker::Phase::given_up) {
                    channel->answer_error(request.interrupted, EINTR);
                }
                return;
            }
        }
        std::this_thread::sleep_for(pause);
    }
}

bool UsbServer::State::shake_off(std::chrono::milliseconds limit) {
    constexpr auto pause = std::chrono::milliseconds(2);
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
        bool any = false;
        {
            const std::scoped_lock lock(workers_mutex);
            for (const auto& worker : workers) {
                const std::scoped_lock inner(worker->mutex);
                if (worker->unique == 0 || !worker->on_device || worker.get() == current_worker) continue;
                any = true;
                signal(*worker);
            }
        }
        if (!any) return true;
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(pause);
    }
}

// ---- telling who polls

/// Somebody waits: once the real file has news, notify.
void UsbServer::State::watch(UsbOpen& open) {
    epoll_event event{.events = EPOLLOUT | EPOLLONESHOT, .data = {.u64 = open.id}};
    if (::epoll_ctl(ready.get(), EPOLL_CTL_MOD, open.fd, &event) == 0) return;
    if (errno == ENOENT && ::epoll_ctl(ready.get(), EPOLL_CTL_ADD, open.fd, &event) == 0) return;
    if (errno == EEXIST && ::epoll_ctl(ready.get(), EPOLL_CTL_MOD, open.fd, &event) == 0) return;
    notify(open);  // look again rather than sleep for ever
}

void UsbServer::State::notify(UsbOpen& open) {
    if (const uint64_t handle = open.poll_handle) channel->notify_poll(handle);
}

void UsbServer::State::notify_when_ready() {
    std::array<epoll_event, 16> events{};
    while (!ending) {
        const int count = ::epoll_wait(ready.get(), events.data(), events.size(), -1);
        for (int i = 0; i < count; ++i) {
            std::shared_ptr<UsbOpen> open;
            {
                const std::scoped_lock lock(opens_mutex);
                const auto found = opens.find(events[static_cast<size_t>(i)].data.u64);
                if (found != opens.end()) open = found->second;
            }
            if (open) notify(*open);
        }
        if (count < 0 && errno != EINTR) return log::error("node {}: epoll: errno {}", options.name, errno);
    }
}

}  // namespace storctl::node
