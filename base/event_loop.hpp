#pragma once
// sd-event in owning types. One thread owns a loop and everything registered on it; only `Mailbox::post` may be
// called from others. A registration ends with its EventSource; a callback may destroy its own source.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

struct sd_event;
struct sd_event_source;

namespace storctl {

class EventSource {
 public:
    struct Holder;  // the callback; shared so that it outlives its own removal while it runs

    EventSource() = default;
    EventSource(EventSource&&) noexcept;
    EventSource& operator=(EventSource&&) noexcept;
    ~EventSource();

    explicit operator bool() const { return source_ != nullptr; }
    void reset();
    void enable(bool enabled = true);
    /// For an I/O source: the EPOLL* bits to wait for.
    void set_io_events(uint32_t events);
    /// For a timer: fire once, `delay` from now.
    void arm(std::chrono::microseconds delay);

 private:
    friend class EventLoop;
    EventSource(sd_event_source* source, std::shared_ptr<Holder> holder);
    sd_event_source* source_ = nullptr;
    std::shared_ptr<Holder> holder_;
};

class EventLoop {
 public:
    static Result<EventLoop> create();
    EventLoop(EventLoop&&) noexcept;
    EventLoop& operator=(EventLoop&&) noexcept;
    ~EventLoop();

    /// `events`: EPOLLIN and friends; the callback gets those that came. Lower priorities run first. The fd stays the
    /// caller's.
    Result<EventSource> add_io(int fd, uint32_t events, int64_t priority, std::function<void(uint32_t)> callback);
    /// Fires once after `delay` (monotonic clock); `arm` sets it again.
    Result<EventSource> add_timer(std::chrono::microseconds delay, int64_t priority, std::function<void()> callback);
    /// Blocks `signal` in this thread and calls back for it. Create before other threads start.
    Result<EventSource> add_signal(int signal, int64_t priority, std::function<void()> callback);
    /// Runs once, at the next turn of the loop.
    Result<EventSource> add_defer(int64_t priority, std::function<void()> callback);
    /// inotify on `path` (IN_* mask); the callback gets the mask and the name in the folder ("" for the path itself).
    Result<EventSource> add_watch(const std::string& path, uint32_t mask, int64_t priority,
                                  std::function<void(uint32_t, const std::string&)> callback);
    /// Calls back when the process behind a pidfd has ended; does not reap.
    Result<EventSource> add_pidfd(int pidfd, int64_t priority, std::function<void()> callback);
    /// WATCHDOG_USEC of sd_watchdog_enabled(3): pings at half of it from this loop, so that a stuck loop is noticed.
    Result<void> enable_watchdog();

    /// Runs until `exit`; gives its code.
    Result<int> run();
    /// One turn: waits up to `timeout`. For tests.
    Result<void> run_once(std::chrono::microseconds timeout);
    void exit(int code);

 private:
    explicit EventLoop(sd_event* event) : event_(event) {}
    sd_event* event_ = nullptr;
};

/// Work handed to a loop's thread from any other thread, run in order of posting.
class Mailbox {
 public:
    static Result<std::unique_ptr<Mailbox>> open(EventLoop& loop, int64_t priority);
    void post(std::function<void()> work);

 private:
    Mailbox() = default;
    void drain();
    UniqueFd wake_;
    EventSource source_;
    std::mutex mutex_;  // guards pending_ only; never held while work runs
    std::vector<std::function<void()>> pending_;
};

}  // namespace storctl
