#include "daemon/node/usb_node_process.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "base/log.hpp"

namespace storctl::node {
namespace {

// Lower runs first, and a call to the control socket at 0: what the server reports is known before a call asks for it.
constexpr int64_t server_news_priority = -10;
constexpr int64_t check_priority = 10;
/// For consumers to notice that the device is gone, and to close: a virtual machine monitor does so at its next poll.
constexpr auto closing_time = std::chrono::seconds(2);

ino_t inode_of(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISCHR(status.st_mode) ? status.st_ino : 0;
}

}  // namespace

UsbNodeProcess::UsbNodeProcess(EventLoop& loop, Spec spec) : loop_(loop), spec_(std::move(spec)) {}

UsbNodeProcess::~UsbNodeProcess() = default;

Result<std::unique_ptr<UsbNodeProcess>> UsbNodeProcess::start(EventLoop& loop, Spec spec) {
    std::unique_ptr<UsbNodeProcess> process(new UsbNodeProcess(loop, std::move(spec)));
    UsbNodeProcess* self = process.get();
    process->mailbox_ = TRY(Mailbox::open(loop, server_news_priority));
    process->control_ = TRY(NodeControl::claim(loop, process->spec_));
    process->end_timer_ = TRY(loop.add_timer(closing_time, check_priority, [self] { self->loop_.exit(0); }));
    process->end_timer_.enable(false);
    TRY(process->start_server());
    TRY(process->control_->serve({
        .describe = [self] { return self->description(); },
        .stats = [self] { return self->server_->stats(); },
        .reopen = [self](const std::string& path) { return self->reopen(path); },
        .refresh = [self] { self->check_device(); },
        .stop = [self](bool force) { return self->stop(force); },
    }));
    return process;
}

Result<void> UsbNodeProcess::start_server() {
    UsbServerOptions options{.name = spec_.name,
                             .device_name = spec_.usb.device_name,
                             .major = spec_.usb.major,
                             .minor = spec_.usb.minor,
                             .open = spec_.open,
                             .policy = spec_.usb.policy,
                             .path = spec_.backing_path,
                             .descriptors = spec_.usb.descriptors};
    const ino_t inode = options.path.empty() ? 0 : inode_of(options.path);
    auto started = UsbServer::start(options, listener());
    if (!started && spec_.wait_for_backing && !options.path.empty()) {
        message_ = started.error().message();
        options.path.clear();
        started = UsbServer::start(options, listener());
    }
    if (!started) return std::move(started).error();
    server_ = *std::move(started);
    if (!options.path.empty()) {
        path_ = options.path;
        inode_ = inode;
        watch_device(path_);
        return {};
    }
    if (message_.empty()) message_ = "its device is not on this host";
    log::warning("node {} starts without its device, opens fail until it is there: {}", spec_.name, message_);
    return {};
}

/// Runs on the server's threads.
UsbServerListener UsbNodeProcess::listener() {
    const auto post = [mailbox = std::weak_ptr<Mailbox>(mailbox_)](std::function<void()> work) {
        if (const auto alive = mailbox.lock()) alive->post(std::move(work));
    };
    return {
        .opens_changed =
            [this, post](std::vector<Opener> openers) {
                post([this, openers = std::move(openers)]() mutable { take_openers(std::move(openers)); });
            },
        .device_gone =
            [this, post] {
                post([this] {
                    // news from before a Reopen is old
                    if (!server_->device_present()) lose_device("its device was unplugged");
                });
            },
        .closed =
            [this, post] {
                post([this] {
                    if (stopping_) return;
                    log::error("node {}: '/dev/{}' was taken away from outside, ending", spec_.name,
                               spec_.usb.device_name);
                    loop_.exit(1);
                });
            },
    };
}

/// Nobody who has the device open need notice that it goes: the kernel takes its node away.
void UsbNodeProcess::watch_device(const std::string& path) {
    auto watch = loop_.add_watch(path, IN_DELETE_SELF | IN_ATTRIB, check_priority,
                                 [this](uint32_t, const std::string&) { check_device(); });
    if (watch) {
        watch_ = *std::move(watch);
    } else if (watch.error().code != std::errc::no_such_file_or_directory) {
        log::warning("node {}: its device's removal is noticed at its next use only: {}", spec_.name,
                     watch.error().message());
    }
    check_device();  // it may have gone before the watch
}

bool UsbNodeProcess::device_there() const { return inode_ != 0 && inode_of(path_) == inode_; }

void UsbNodeProcess::check_device() {
    if (path_.empty() || device_there()) return;
    server_->take_device_away();
    lose_device(fmt::format("'{}' has left the system", path_));
}

void UsbNodeProcess::lose_device(const std::string& why) {
    if (path_.empty()) return;
    log::warning("node {}: {}; opens fail until it is back", spec_.name, why);
    message_ = why;
    path_.clear();
    inode_ = 0;
    watch_.reset();
    control_->changed();
}

Result<void> UsbNodeProcess::reopen(const std::string& path) {
    if (stopping_) return make_error(std::errc::operation_canceled, fmt::format("node '{}' is ending", spec_.name));
    check_device();
    if (!path_.empty()) {
        if (path_ == path) return {};
        return make_error(std::errc::device_or_resource_busy, fmt::format("'{}' is still there", path_));
    }
    const ino_t inode = inode_of(path);
    TRY(server_->give_device(path));
    path_ = path;
    inode_ = inode;
    message_.clear();
    log::notice("node {}: its device is back as '{}', serving again", spec_.name, path);
    control_->changed();
    watch_device(path);
    return {};
}

void UsbNodeProcess::take_openers(std::vector<Opener> openers) {
    openers_ = std::move(openers);
    control_->changed();
    if (stopping_ && openers_.empty()) loop_.exit(0);
}

std::vector<Opener> UsbNodeProcess::stop(bool force) {
    if (stopping_) return {};
    auto openers = server_->close_if_unused();
    if (!force && !openers.empty()) return openers;
    stopping_ = true;
    if (!server_->revoke()) {
        log::warning("node {}: a call of its device has not come back yet; the device is free when it does",
                     spec_.name);
    }
    // The rest is in the destructors: the server first, the control socket and the name last, so that a next process
    // finds the device's number free.
    if (server_->close_if_unused().empty()) {
        loop_.exit(0);
    } else {
        log::notice("node {}: ended by force while it is open", spec_.name);
        end_timer_.arm(closing_time);
    }
    return {};
}

Description UsbNodeProcess::description() const {
    return {.name = spec_.name,
            .state = server_->device_present() ? "serving" : "backing-lost",
            .message = message_,
            .backing_path = path_.empty() ? spec_.backing_path : path_,
            .backing_kind = std::string(to_text(NodeKind::usb)),
            .logical_block_bytes = 0,
            .forms = {{"usbfs", "/dev/" + spec_.usb.device_name}},
            .openers = openers_};
}

}  // namespace storctl::node
