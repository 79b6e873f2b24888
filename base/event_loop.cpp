#include "base/event_loop.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>

namespace storctl {

struct EventSource::Holder : std::enable_shared_from_this<EventSource::Holder> {
    std::function<void(uint32_t)> on_io;
    std::function<void()> on_event;
    std::function<void(uint32_t, const std::string&)> on_watch;
};

namespace {

using Holder = EventSource::Holder;

std::shared_ptr<Holder> keep(void* userdata) { return static_cast<Holder*>(userdata)->shared_from_this(); }

int io_trampoline(sd_event_source*, int, uint32_t events, void* userdata) noexcept {
    keep(userdata)->on_io(events);
    return 0;
}
int timer_trampoline(sd_event_source*, uint64_t, void* userdata) noexcept {
    keep(userdata)->on_event();
    return 0;
}
int signal_trampoline(sd_event_source*, const signalfd_siginfo*, void* userdata) noexcept {
    keep(userdata)->on_event();
    return 0;
}
int defer_trampoline(sd_event_source*, void* userdata) noexcept {
    keep(userdata)->on_event();
    return 0;
}
int watch_trampoline(sd_event_source*, const inotify_event* event, void* userdata) noexcept {
    keep(userdata)->on_watch(event->mask, event->len > 0 ? event->name : "");
    return 0;
}

Error loop_error(const char* what, int result) {
    return errno_error(fmt::format("event loop: cannot {}", what), -result);
}

}  // namespace

EventSource::EventSource(sd_event_source* source, std::shared_ptr<Holder> holder)
    : source_(source), holder_(std::move(holder)) {}
EventSource::EventSource(EventSource&& other) noexcept
    : source_(std::exchange(other.source_, nullptr)), holder_(std::move(other.holder_)) {}
EventSource& EventSource::operator=(EventSource&& other) noexcept {
    if (this != &other) {
        reset();
        source_ = std::exchange(other.source_, nullptr);
        holder_ = std::move(other.holder_);
    }
    return *this;
}
EventSource::~EventSource() { reset(); }

void EventSource::reset() {
    // first out of this object, then away: the callback's captures may lead back here
    sd_event_source* const source = std::exchange(source_, nullptr);
    const auto holder = std::move(holder_);
    if (source != nullptr) sd_event_source_disable_unref(source);
}
void EventSource::enable(bool enabled) {
    if (source_ != nullptr) sd_event_source_set_enabled(source_, enabled ? SD_EVENT_ON : SD_EVENT_OFF);
}
void EventSource::set_io_events(uint32_t events) {
    if (source_ != nullptr) sd_event_source_set_io_events(source_, events);
}
void EventSource::arm(std::chrono::microseconds delay) {
    if (source_ == nullptr) return;
    sd_event_source_set_time_relative(source_, static_cast<uint64_t>(delay.count()));
    sd_event_source_set_enabled(source_, SD_EVENT_ONESHOT);
}

Result<EventLoop> EventLoop::create() {
    sd_event* event = nullptr;
    if (const int r = sd_event_new(&event); r < 0) return loop_error("start", r);
    return EventLoop(event);
}
EventLoop::EventLoop(EventLoop&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
EventLoop& EventLoop::operator=(EventLoop&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
}
EventLoop::~EventLoop() { sd_event_unref(event_); }

Result<EventSource> EventLoop::add_io(int fd, uint32_t events, int64_t priority,
                                      std::function<void(uint32_t)> callback) {
    auto holder = std::make_shared<Holder>();
    holder->on_io = std::move(callback);
    sd_event_source* source = nullptr;
    if (const int r = sd_event_add_io(event_, &source, fd, events, io_trampoline, holder.get()); r < 0) {
        return loop_error("watch a descriptor", r);
    }
    sd_event_source_set_priority(source, priority);
    return EventSource(source, std::move(holder));
}

Result<EventSource> EventLoop::add_timer(std::chrono::microseconds delay, int64_t priority,
                                         std::function<void()> callback) {
    auto holder = std::make_shared<Holder>();
    holder->on_event = std::move(callback);
    sd_event_source* source = nullptr;
    const auto microseconds = static_cast<uint64_t>(delay.count());
    if (const int r = sd_event_add_time_relative(event_, &source, CLOCK_MONOTONIC, microseconds, 1000, timer_trampoline,
                                                 holder.get());
        r < 0) {
        return loop_error("set a timer", r);
    }
    sd_event_source_set_priority(source, priority);
    return EventSource(source, std::move(holder));
}

Result<EventSource> EventLoop::add_signal(int signal, int64_t priority, std::function<void()> callback) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, signal);
    if (const int r = pthread_sigmask(SIG_BLOCK, &mask, nullptr); r != 0) return loop_error("block a signal", -r);
    auto holder = std::make_shared<Holder>();
    holder->on_event = std::move(callback);
    sd_event_source* source = nullptr;
    if (const int r = sd_event_add_signal(event_, &source, signal, signal_trampoline, holder.get()); r < 0) {
        return loop_error("watch a signal", r);
    }
    sd_event_source_set_priority(source, priority);
    return EventSource(source, std::move(holder));
}

Result<EventSource> EventLoop::add_defer(int64_t priority, std::function<void()> callback) {
    auto holder = std::make_shared<Holder>();
    holder->on_event = std::move(callback);
    sd_event_source* source = nullptr;
    if (const int r = sd_event_add_defer(event_, &source, defer_trampoline, holder.get()); r < 0) {
        return loop_error("defer work", r);
    }
    sd_event_source_set_priority(source, priority);
    return EventSource(source, std::move(holder));
}

Result<EventSource> EventLoop::add_watch(const std::string& path, uint32_t mask, int64_t priority,
                                         std::function<void(uint32_t, const std::string&)> callback) {
    auto holder = std::make_shared<Holder>();
    holder->on_watch = std::move(callback);
    sd_event_source* source = nullptr;
    if (const int r = sd_event_add_inotify(event_, &source, path.c_str(), mask, watch_trampoline, holder.get());
        r < 0) {
        return errno_error(fmt::format("cannot watch '{}'", path), -r);
    }
    sd_event_source_set_priority(source, priority);
    return EventSource(source, std::move(holder));
}

Result<EventSource> EventLoop::add_pidfd(int pidfd, int64_t priority, std::function<void()> callback) {
    return add_io(pidfd, EPOLLIN, priority, [callback = std::move(callback)](uint32_t) { callback(); });
}

Result<void> EventLoop::enable_watchdog() {
    if (const int r = sd_event_set_watchdog(event_, 1); r < 0) return loop_error("serve the watchdog", r);
    return {};
}

Result<int> EventLoop::run() {
    const int r = sd_event_loop(event_);
    if (r < 0) return loop_error("run", r);
    return r;
}

Result<void> EventLoop::run_once(std::chrono::microseconds timeout) {
    if (const int r = sd_event_run(event_, static_cast<uint64_t>(timeout.count())); r < 0) return loop_error("run", r);
    return {};
}

void EventLoop::exit(int code) { sd_event_exit(event_, code); }

Result<std::unique_ptr<Mailbox>> Mailbox::open(EventLoop& loop, int64_t priority) {
    std::unique_ptr<Mailbox> box(new Mailbox);
    box->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!box->wake_) return errno_error("cannot create an eventfd");
    box->source_ = TRY(loop.add_io(box->wake_.get(), EPOLLIN, priority, [raw = box.get()](uint32_t) { raw->drain(); }));
    return box;
}

void Mailbox::post(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        pending_.push_back(std::move(work));
    }
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void Mailbox::drain() {
    uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(wake_.get(), &count, sizeof count);
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard lock(mutex_);
        work.swap(pending_);
    }
    for (auto& item : work) item();
}

}  // namespace storctl
