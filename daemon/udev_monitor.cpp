#include "daemon/udev_monitor.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <libudev.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"

namespace storctl {
namespace {

constexpr int events_per_turn = 512;
constexpr size_t largest_buffer_bytes = 1 << 30;

/// libudev hears nothing on udev's group where no udevd runs.
bool udevd_runs() { return ::access("/run/udev/control", F_OK) == 0; }

}  // namespace

void UdevRelease::operator()(udev* handle) const { udev_unref(handle); }
void UdevRelease::operator()(udev_monitor* handle) const { udev_monitor_unref(handle); }
void UdevRelease::operator()(udev_device* handle) const { udev_device_unref(handle); }

UdevMonitor::UdevMonitor(EventLoop& loop, UdevMonitorOptions options, Listener listener)
    : loop_(loop), options_(std::move(options)), listener_(std::move(listener)) {}

Result<std::unique_ptr<UdevMonitor>> UdevMonitor::open(EventLoop& loop, UdevMonitorOptions options, Listener listener) {
    std::unique_ptr<UdevMonitor> self(new UdevMonitor(loop, std::move(options), std::move(listener)));
    self->udev_.reset(udev_new());
    if (!self->udev_) return errno_error("cannot open libudev");
    return self;
}

Result<void> UdevMonitor::listen() {
    const bool settled = udevd_runs();
    if (io_ && settled == settles()) return {};
    return begin(settled);
}

Result<void> UdevMonitor::begin(bool settled) {
    io_.reset();
    source_ = settled ? "udev" : "kernel";
    monitor_.reset(udev_monitor_new_from_netlink(udev_.get(), source_.c_str()));
    if (!monitor_) return errno_error(fmt::format("cannot listen to {} events", source_));
    for (const auto& match : options_.matches) {
        const char* devtype = match.devtype.empty() ? nullptr : match.devtype.c_str();
        const int outcome =
            udev_monitor_filter_add_match_subsystem_devtype(monitor_.get(), match.subsystem.c_str(), devtype);
        if (outcome < 0) {
            return errno_error(fmt::format("cannot filter events for {} devices", match.subsystem), -outcome);
        }
    }
    set_buffer();
    const int outcome = udev_monitor_enable_receiving(monitor_.get());
    if (outcome < 0) return errno_error(fmt::format("cannot listen to {} events", source_), -outcome);
    io_ = TRY(
        loop_.add_io(udev_monitor_get_fd(monitor_.get()), EPOLLIN, options_.priority, [this](uint32_t) { receive(); }));
    return {};
}

void UdevMonitor::set_buffer() {
    const int wanted = static_cast<int>(std::min(options_.buffer_bytes, largest_buffer_bytes));
    if (udev_monitor_set_receive_buffer_size(monitor_.get(), wanted) >= 0) return;
    // without CAP_NET_ADMIN the kernel's limit for everybody applies
    const int fd = udev_monitor_get_fd(monitor_.get());
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    int have = 0;
    socklen_t length = sizeof have;
    ::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &have, &length);
    log::notice(
        "the event monitor has a buffer of {} bytes instead of {} (no CAP_NET_ADMIN); a burst of events beyond it "
        "costs a full enumeration",
        have, wanted);
}

void UdevMonitor::receive() {
    for (int i = 0; i < events_per_turn && monitor_; ++i) {
        errno = 0;
        const UdevDevice device(udev_monitor_receive_device(monitor_.get()));
        if (device) {
            listener_.event(device.get());
            continue;
        }
        if (errno != ENOBUFS) break;
        ++overflows_;
        log::warning("device events were lost (the monitor's buffer overflowed); enumerating all devices again");
        listener_.lost();
    }
    listener_.drained();
}

UdevDevice UdevMonitor::device(const std::string& syspath) const {
    return UdevDevice(udev_device_new_from_syspath(udev_.get(), syspath.c_str()));
}

}  // namespace storctl
