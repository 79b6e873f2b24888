#include "daemon/node/node_process.hpp"

#include <thread>

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/node/disk_facts.hpp"
#include "daemon/node/end_watch.hpp"
#include "daemon/node/loop_leftovers.hpp"

namespace storctl::node {
namespace {

// Lower runs first, and a call to the control socket at 0: what the reactor reports (a lost backing, an open) is known
// before a call asks for it.
constexpr int64_t reactor_news_priority = -10;
constexpr int64_t check_priority = 10;
constexpr auto check_interval = std::chrono::seconds(1);
constexpr auto busy_patience = std::chrono::milliseconds(500);
constexpr auto busy_retry = std::chrono::milliseconds(20);
constexpr auto end_limit = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<NodeProcess>> NodeProcess::start(EventLoop& loop, Spec spec) {
    std::unique_ptr<NodeProcess> process(new NodeProcess(loop, std::move(spec)));
    process->mailbox_ = TRY(Mailbox::open(loop, reactor_news_priority));
    process->control_ = TRY(NodeControl::claim(loop, process->spec_));
    detach_loop_leftovers(process->spec_.mount_path);
    TRY(process->open_backing());
    TRY(process->make_unit());
    TRY(process->start_reactor());
    TRY(process->attach_loop());
    TRY(process->start_sg());
    TRY(process->control_->serve(process->handlers()));
    process->check_timer_ =
        TRY(loop.add_timer(check_interval, check_priority, [raw = process.get()] { raw->check_backing(); }));
    return process;
}

NodeProcess::~NodeProcess() {
    if (unit_) unit_->stop_storing();
}

Reactor::Geometry NodeProcess::geometry() const {
    return {.size_bytes = size_bytes_, .transfer_alignment = backing_ ? backing_->transfer_alignment() : 1};
}

/// After a node has died the kernel still takes its ring apart, and holds the backing a little longer: worth some
/// patience.
Result<Backing> NodeProcess::open_with_patience() const {
    const Backing::Options options{.read_only = spec_.open == OpenPolicy::read_only};
    const auto deadline = std::chrono::steady_clock::now() + busy_patience;
    for (;;) {
        auto opened = Backing::open(spec_.backing_path, options);
        const bool busy = !opened && opened.error().code == std::errc::device_or_resource_busy;
        if (!busy || std::chrono::steady_clock::now() > deadline) return opened;
        std::this_thread::sleep_for(busy_retry);
    }
}

Result<void> NodeProcess::open_backing() {
    auto opened = spec_.backing_path.empty()
                      ? Result<Backing>(make_error(std::errc::no_such_device, "its device is not on this host"))
                      : open_with_patience();
    if (opened) {
        backing_.emplace(*std::move(opened));
        size_bytes_ = backing_->size_bytes();
        logical_block_bytes_ = backing_->logical_block_bytes();
        return {};
    }
    if (!spec_.wait_for_backing || spec_.expected_size_bytes == 0) return std::move(opened).error();
    message_ = opened.error().message();
    log::warning("node {} starts without its backing and answers EIO until it is there: {}", spec_.name, message_);
    size_bytes_ = spec_.expected_size_bytes;
    logical_block_bytes_ = spec_.expected_logical_block_bytes;
    return {};
}

Result<void> NodeProcess::make_unit() {
    const bool read_only = spec_.open == OpenPolicy::read_only;
    DiskFacts facts;
    if (backing_) {
        facts = disk_facts(*backing_, read_only);
    } else {
        facts.geometry = {.blocks = size_bytes_ / logical_block_bytes_,
                          .block_bytes = logical_block_bytes_,
                          .physical_block_bytes = logical_block_bytes_,
                          .read_only = read_only,
                          .write_cache = true};
        facts.limits = sg_limits(logical_block_bytes_);
    }
    unit_ = TRY(ScsiUnit::make({.identity = complete(spec_.identity, spec_.name),
                                .geometry = facts.geometry,
                                .limits = facts.limits,
                                .reservations = spec_.reservations},
                               [this, &mailbox = *mailbox_] { mailbox.post([this] { control_->changed(); }); }));
    if (spec_.sg) unit_->expect_commands();
    return {};
}

void NodeProcess::view_backing() {
    if (!backing_) return unit_->set_view(nullptr);
    auto view = BackingView::map(*backing_);
    if (!view) log::notice("node {}: {}; reads are copied once more", spec_.name, view.error().message());
    unit_->set_view(view ? *std::move(view) : nullptr);
}

Result<void> NodeProcess::start_reactor() {
    const bool read_only = spec_.open == OpenPolicy::read_only;
    auto channel = TRY(FuseChannel::mount(spec_.mount_path, spec_.name, read_only));
    Mailbox& mailbox = *mailbox_;
    ReactorListener listener{
        .opens_changed =
            [this, &mailbox](std::vector<Opener> openers) {
                mailbox.post([this, openers = std::move(openers)]() mutable {
                    openers_ = std::move(openers);
                    control_->changed();
                });
            },
        .device_error =
            [this, &mailbox](int) {
                if (check_posted_.exchange(true)) return;  // one look for a burst of errors
                mailbox.post([this] {
                    check_posted_ = false;
                    check_backing();
                });
            },
        .closed =
            [this, &mailbox] {
                mailbox.post([this] {
                    log::error("node {}: '{}' was unmounted from outside, ending", spec_.name, spec_.mount_path);
                    loop_.exit(1);
                });
            },
    };
    reactor_ = TRY(Reactor::start(spec_, std::move(channel), backing_ ? backing_->fd() : -1, geometry(), read_only,
                                  *unit_, std::move(listener)));
    view_backing();  // not before: the reactor locks all memory that there is
    unit_->connect([port = reactor_->port()](BlockRequest& request) { return port->submit(request); });
    struct stat status {};
    if (::stat(spec_.mount_path.c_str(), &status) != 0) {
        return errno_error(fmt::format("cannot look at '{}', just mounted", spec_.mount_path));
    }
    connection_ = minor(status.st_dev);
    return {};
}

Result<void> NodeProcess::attach_loop() {
    if (spec_.loop_link.empty()) return {};
    auto device = TRY(LoopDevice::attach({.file = spec_.mount_path,
                                          .link = spec_.loop_link,
                                          .block_bytes = logical_block_bytes_,
                                          .read_only = spec_.open == OpenPolicy::read_only}));
    loop_device_.emplace(std::move(device));
    return {};
}

/// Not asked for by name, it is left out where it cannot be had.
Result<void> NodeProcess::start_sg() {
    if (!spec_.sg) return {};
    auto started = SgServer::start({.name = spec_.name,
                                    .device_name = spec_.sg->device_name,
                                    .major = spec_.sg->major,
                                    .minor = spec_.sg->minor,
                                    .host = spec_.host,
                                    .read_only = spec_.open == OpenPolicy::read_only},
                                   unit_, reactor_->port(), [this, &mailbox = *mailbox_] {
                                       mailbox.post([this] {
                                           log::error("node {}: the connection of '{}' was ended from outside, ending",
                                                      spec_.name, sg_ ? sg_->path() : spec_.sg->device_name);
                                           loop_.exit(1);
                                       });
                                   });
    if (started) {
        sg_ = *std::move(started);
        return {};
    }
    if (spec_.sg->required) return std::move(started).error();
    message_ = fmt::format("without its SCSI device: {}", started.error().message());
    log::warning("node {} goes on {}", spec_.name, message_);
    return {};
}

void NodeProcess::check_backing() {
    check_timer_.arm(check_interval);
    if (!backing_) {
        // a device may come back under another's name: only stord, which knows identities, reopens those
        if (!losing_ && !spec_.backing_path.empty() &&
            from_text<BackingKind>(spec_.backing_kind) == BackingKind::file) {
            [[maybe_unused]] const auto later = reopen(spec_.backing_path);
        }
        return;
    }
    if (!backing_->present()) return lose_backing(fmt::format("'{}' has left the system", backing_->path()));
    refresh_size();
}

void NodeProcess::lose_backing(const std::string& why) {
    log::warning("node {}: {}; answering EIO until it is back", spec_.name, why);
    message_ = why;
    losing_ = true;
    // the descriptor is closed only when the kernel has ended every operation on it
    auto held = std::make_shared<Backing>(std::move(*backing_));
    backing_.reset();
    view_backing();
    reactor_->take_backing_away(
        [this, held, &mailbox = *mailbox_] { mailbox.post([this, held] { losing_ = false; }); });
    control_->changed();
}

Result<void> NodeProcess::reopen(const std::string& path) {
    if (losing_) {
        return make_error(std::errc::operation_in_progress,
                          "operations on the lost device have not ended yet: try again");
    }
    if (backing_) {
        if (backing_->present() && backing_->path() == path) return {};
        if (backing_->present()) {
            return make_error(std::errc::device_or_resource_busy,
                              fmt::format("'{}' is still there and in use", backing_->path()));
        }
        lose_backing(fmt::format("'{}' has left the system", backing_->path()));
        return make_error(std::errc::operation_in_progress,
                          "operations on the lost device have not ended yet: try again");
    }
    Backing opened = TRY(Backing::open(path, {.read_only = spec_.open == OpenPolicy::read_only}));
    if (opened.logical_block_bytes() != logical_block_bytes_) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("'{}' has blocks of {} bytes, the node's consumers know {}", path,
                                      opened.logical_block_bytes(), logical_block_bytes_));
    }
    const uint64_t former_size = std::exchange(size_bytes_, opened.size_bytes());
    backing_.emplace(std::move(opened));
    if (auto given = reactor_->give_backing(backing_->fd(), geometry()); !given) {
        backing_.reset();
        size_bytes_ = former_size;
        return given;
    }
    message_.clear();
    unit_->resize(size_bytes_);
    view_backing();
    sync_loop_size();
    log::notice("node {}: '{}' is back, serving again", spec_.name, path);
    control_->changed();
    return {};
}

void NodeProcess::refresh_size() {
    const auto size = backing_->read_size();
    if (!size) return;
    // a reader without its medium, a disconnected network device: still in sysfs, with nothing in it
    if (*size == 0) return lose_backing(fmt::format("'{}' has no size any more", backing_->path()));
    const uint64_t unit = std::max(logical_block_bytes_, backing_->transfer_alignment());
    const uint64_t usable = *size / unit * unit;
    if (usable != size_bytes_) {
        const auto level = usable < size_bytes_ ? log::Level::warning : log::Level::notice;
        log::write(level, fmt::format("node {}: the backing's size went from {} to {} bytes", spec_.name, size_bytes_,
                                      usable));
        size_bytes_ = usable;
        reactor_->set_size(usable);
        unit_->resize(usable);
        view_backing();
        control_->changed();
    }
    sync_loop_size();
}

/// The loop driver takes the size that the kernel knows of our file, and the kernel takes ours over when it asks for
/// attributes, unless a write was under way: looked at again at each check until it is right.
void NodeProcess::sync_loop_size() {
    if (!loop_device_ || loop_device_->size_bytes() == size_bytes_) return;
    struct stat status {};
    if (::stat(spec_.mount_path.c_str(), &status) != 0) return;
    if (auto result = loop_device_->refresh_size(); !result)
        log::warning("node {}: {}", spec_.name, result.error().message());
}

/// After a write udev opens the loop device for a moment to look at it: not a user to refuse for.
bool NodeProcess::detach_loop(bool force) {
    const auto deadline = std::chrono::steady_clock::now() + busy_patience;
    while (!loop_device_->detach(force) && !force) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(busy_retry);
    }
    return true;
}

std::vector<Opener> NodeProcess::stop(bool force) {
    auto openers = reactor_->close_if_unused();
    if (!force && !openers.empty()) return openers;
    const EndWatch watch(spec_.name, spec_.mount_path, connection_, end_limit);
    if (loop_device_ && !detach_loop(force)) {
        reactor_->open_again();
        return {{.program = fmt::format("user of {}", loop_device_->path()), .writes = true, .since = wall_now()}};
    }
    // No new opens, then the answers to what is in flight, then the end of the connection (in the destructors). The
    // control socket goes last, so that stord sees the end only when the mount is gone.
    loop_device_.reset();
    unit_->stop_storing();
    sg_.reset();
    reactor_->unmount();
    reactor_.reset();
    loop_.exit(0);
    return {};
}

Description NodeProcess::description() const {
    Description out{.name = spec_.name,
                    .state = backing_ ? "serving" : "backing-lost",
                    .message = message_,
                    .backing_path = backing_ ? backing_->path() : spec_.backing_path,
                    .backing_kind = backing_ ? std::string(to_text(backing_->kind())) : spec_.backing_kind,
                    .size_bytes = size_bytes_,
                    .logical_block_bytes = logical_block_bytes_,
                    .direct = backing_ && backing_->direct(),
                    .forms = {{"fuse", spec_.mount_path}},
                    .openers = openers_};
    if (loop_device_) out.forms.push_back({"loop", spec_.loop_link});
    if (sg_) out.forms.push_back({"sg", sg_->path()});
    out.reservations = unit_->reservations();
    out.proposed = unit_->proposed();
    return out;
}

NodeControl::Handlers NodeProcess::handlers() {
    return {.describe = [this] { return description(); },
            .stats = [this] { return to_json(reactor_->stats(), unit_->reads_in_place()); },
            .reopen = [this](const std::string& path) { return reopen(path); },
            .refresh = [this] { check_backing(); },
            .stop = [this](bool force) { return stop(force); },
            .set_reservations =
                [this](scsi::ReservationState state, const std::optional<std::string>& error) {
                    auto settled = unit_->settle(std::move(state), error);
                    if (settled) control_->changed();
                    return settled;
                }};
}

}  // namespace storctl::node
