// The threads of a USB server. Every one of them takes a request, carries it out, waiting in the kernel if need be, and
// answers it. Whoever takes a request while no other thread is waiting for one first adds a thread: so one always is,
// and a poll is answered whatever the others are stuck in. Spare threads end by themselves.

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.hpp"
#include "daemon/node/cuse_threads.hpp"
#include "daemon/node/usb_server_state.hpp"

namespace storctl::node {
namespace {

constexpr size_t most_workers = 64;
constexpr size_t most_idle = 4;
constexpr uint64_t poke_id = 0;

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
    notifier_poke.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ready || !notifier_poke) return errno_error("cannot watch files");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = poke_id}};
    if (::epoll_ctl(ready.get(), EPOLL_CTL_ADD, notifier_poke.get(), &event) != 0)
        return errno_error("cannot watch files");
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
    poke_notifier();
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
    auto run = [self = shared_from_this(), worker] {
        current_worker = worker.get();
        worker->thread = pthread_self();
        unblock_interrupts();
        self->work(*worker);
        const std::scoped_lock lock(self->workers_mutex);
        self->workers.remove(worker);
        self->worker_ended.notify_all();
        current_worker = nullptr;
    };
    try {
        std::thread(std::move(run)).detach();
        return true;
    } catch (const std::system_error&) {
        idle.fetch_sub(1);
        const std::scoped_lock lock(workers_mutex);
        workers.remove(worker);
        return false;  // as many as the system gives
    }
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
    UsbOpen* const file = file_of(request);
    const bool of_a_file = request.kind != Kind::open && request.kind != Kind::other;
    if (of_a_file && file == nullptr) {
        log::error("node {}: the kernel speaks of a file that is not open", options.name);
        channel->answer_error(request.unique, EBADF);
        return;
    }
    if (request.kind == Kind::poll) return poll(*file, request);
    if (last && (request.kind == Kind::ioctl || request.kind == Kind::open)) {
        channel->answer_error(request.unique, EBUSY);
        return;
    }
    {
        const std::scoped_lock lock(worker.mutex);
        worker.unique = request.unique;
        worker.caller = request.thread_id;
        const auto layout = request.compat ? usbfs::Layout::bits32 : usbfs::Layout::bits64;
        worker.interruptible = request.kind == Kind::ioctl && usbfs::interruptible(request.command, layout);
        worker.phase = UsbWorker::Phase::executing;
    }
    switch (request.kind) {
        case Kind::open:
            open(worker, request);
            break;
        case Kind::release:
            release(*file, request);
            break;
        case Kind::read: {
            auto& session = *file->session;
            if (session.gone()) {
                channel->answer_error(request.unique, ENODEV);
            } else {
                channel->answer_data(request.unique, std::as_bytes(session.read(request.size)));
            }
            break;
        }
        case Kind::ioctl:
            ioctl(worker, *file, request);
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
    // The kernel delivers them at the end of the next system call. Who stands between (the thread sanitizer) may keep
    // one back, or make one of two: then the next request is interrupted for nothing, but this thread must not wait.
    constexpr int most_looks = 100;
    for (int looks = 0; worker.signals_taken.load() < sent && looks < most_looks; ++looks)
        std::this_thread::sleep_for(std::chrono::microseconds(1));
    worker.signals_taken = 0;
}

// ---- giving up

/// One signal to a thread that has this request; it ends a wait in the kernel that can be ended.
void UsbServer::State::signal(UsbWorker& worker) {
    if (::pthread_kill(worker.thread, interrupt_signal()) == 0) ++worker.signals_sent;
}

/// The consumer is being killed, or has a signal of its own to handle; the kernel says so once, and waits until its
/// request is answered.
void UsbServer::State::interrupt(const CuseRequest& request) {
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
    {
        const std::scoped_lock lock(interrupts_mutex);
        interrupts.push_back({worker, request.interrupted, std::chrono::steady_clock::now()});
    }
    poke_notifier();
}

bool UsbServer::State::pursue(const Interrupt& interrupt) {
    constexpr auto patience = std::chrono::milliseconds(1000);
    UsbWorker& worker = *interrupt.worker;
    const std::scoped_lock lock(worker.mutex);
    if (worker.unique != interrupt.unique) return false;
    const bool dying = being_killed(worker.caller);
    if (!dying && !worker.interruptible) return true;  // it waits, as it would for the device itself
    signal(worker);
    if (!dying || std::chrono::steady_clock::now() - interrupt.since < patience) return true;
    // in a wait that no signal ends: what it comes back with is nobody's any more
    if (worker.phase.exchange(UsbWorker::Phase::given_up) != UsbWorker::Phase::given_up) {
        channel->answer_error(interrupt.unique, EINTR);
    }
    return false;
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

/// Somebody waits for these events, which are not there: once the real file may have them, notify.
void UsbServer::State::watch(UsbOpen& open, uint32_t events) {
    // that it went is always told
    const uint32_t wanted = (events & (POLLOUT | POLLWRNORM)) != 0 ? uint32_t{EPOLLOUT} : 0;
    epoll_event event{.events = wanted | EPOLLONESHOT, .data = {.u64 = open.id}};
    if (::epoll_ctl(ready.get(), EPOLL_CTL_MOD, open.fd, &event) == 0) return;
    if (errno == ENOENT && ::epoll_ctl(ready.get(), EPOLL_CTL_ADD, open.fd, &event) == 0) return;
    if (errno == EEXIST && ::epoll_ctl(ready.get(), EPOLL_CTL_MOD, open.fd, &event) == 0) return;
    notify(open);  // look again rather than sleep for ever
}

void UsbServer::State::notify(UsbOpen& open) {
    if (const uint64_t handle = open.poll_handle) channel->notify_poll(handle);
}

void UsbServer::State::poke_notifier() const {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(notifier_poke.get(), &one, sizeof one);
}

/// Also pursues interrupts: threads that take requests must not sleep over one.
void UsbServer::State::notify_when_ready() {
    constexpr int pursue_every_ms = 10;
    std::array<epoll_event, 16> events{};
    while (!ending) {
        bool pursuing = false;
        {
            const std::scoped_lock lock(interrupts_mutex);
            pursuing = !interrupts.empty();
        }
        const int count = ::epoll_wait(ready.get(), events.data(), events.size(), pursuing ? pursue_every_ms : -1);
        if (count < 0 && errno != EINTR) return log::error("node {}: epoll: errno {}", options.name, errno);
        for (int i = 0; i < count; ++i) {
            const uint64_t id = events[static_cast<size_t>(i)].data.u64;
            uint64_t pokes = 0;
            if (id == poke_id) [[maybe_unused]]
                const auto taken = ::read(notifier_poke.get(), &pokes, sizeof pokes);
            std::shared_ptr<UsbOpen> open;
            {
                const std::scoped_lock lock(opens_mutex);
                const auto found = opens.find(id);
                if (found != opens.end()) open = found->second;
            }
            if (open) notify(*open);
        }
        std::list<Interrupt> pending;
        {
            const std::scoped_lock lock(interrupts_mutex);
            pending.swap(interrupts);
        }
        pending.remove_if([this](const Interrupt& one) { return !pursue(one); });
        const std::scoped_lock lock(interrupts_mutex);
        interrupts.splice(interrupts.end(), pending);
    }
}

// ---- letting go

bool UsbServer::State::let_go(const std::vector<std::shared_ptr<UsbOpen>>& files, std::chrono::milliseconds limit) {
    struct Progress {
        std::mutex mutex;
        std::condition_variable changed;
        size_t left = 0;
    };
    const auto progress = std::make_shared<Progress>();
    progress->left = files.size();
    for (const auto& file : files) {
        auto work = [self = shared_from_this(), progress, file = std::shared_ptr<UsbOpen>(file)]() mutable {
            file->session->revoke();
            {
                const std::scoped_lock lock(file->legs_mutex);
                file->legs.clear();
            }
            self->notify(*file);
            file.reset();
            const std::scoped_lock lock(progress->mutex);
            --progress->left;
            progress->changed.notify_all();
        };
        try {
            std::thread(work).detach();
        } catch (const std::system_error&) {
            work();  // there are too many threads
        }
    }
    std::unique_lock lock(progress->mutex);
    return progress->changed.wait_for(lock, limit, [&] { return progress->left == 0; });
}

}  // namespace storctl::node
