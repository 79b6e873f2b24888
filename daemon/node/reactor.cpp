#include "daemon/node/reactor.hpp"

#include <cerrno>
#include <future>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.hpp"
#include "daemon/node/fuse_file.hpp"

namespace storctl::node {
namespace {

constexpr unsigned ring_entries = 256;
constexpr unsigned fuse_file_index = 0;
constexpr unsigned backing_file_index = 1;

/// A block device in user space must not wait for the write-back of memory that only it could write out
/// (prctl(2) PR_SET_IO_FLUSHER; made for just such daemons), nor be paged out.
void protect_from_memory_pressure() {
    if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
        log::warning("cannot become an I/O flusher (needs CAP_SYS_RESOURCE), going on without: {}",
                     errno_error("").message());
    }
    if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        log::warning("cannot lock memory (needs CAP_IPC_LOCK), going on without: {}", errno_error("").message());
    }
}

}  // namespace

Reactor::Reactor(const Spec& spec, std::unique_ptr<FuseChannel> channel, std::unique_ptr<IoRing> ring,
                 Geometry geometry, bool read_only, ScsiUnit& unit, ReactorListener listener)
    : listener_(std::move(listener)),
      ring_(std::move(ring)),
      channel_(std::move(channel)),
      opens_(read_only ? OpenPolicy::read_only : spec.open),
      backing_(*ring_, backing_file_index),
      alignment_(backing_, geometry.transfer_alignment),
      context_{.ring = *ring_,
               .top = alignment_,
               .opens = opens_,
               .stats = stats_,
               .unit = unit,
               .name = spec.name,
               .host = spec.host,
               .size_bytes = geometry.size_bytes,
               .block_bytes = unit.geometry().block_bytes,
               .read_only = read_only,
               .on_opens_changed = [this] { listener_.opens_changed(opens_.openers()); }},
      port_(std::make_shared<ReactorPort>(*this)) {
    front_ends_.push_back(
        std::make_unique<FuseFile>(context_, *channel_, fuse_file_index, [this] { listener_.closed(); }));
    backing_.on_device_error([this](int error_number) { listener_.device_error(error_number); });
}

Result<std::unique_ptr<Reactor>> Reactor::start(const Spec& spec, std::unique_ptr<FuseChannel> channel, int backing_fd,
                                                Geometry geometry, bool read_only, ScsiUnit& unit,
                                                ReactorListener listener) {
    auto ring = TRY(IoRing::create(ring_entries, spec.poll_limit_us * 1000));
    // before the ring learns of the descriptor: Linux 6.1 looks at O_NONBLOCK only when it is registered, and then
    // answers every read with EAGAIN
    TRY(channel->negotiate());
    const std::array<int, 2> files{channel->fd(), backing_fd};
    TRY(ring->register_files(files));
    std::unique_ptr<Reactor> reactor(
        new Reactor(spec, std::move(channel), std::move(ring), geometry, read_only, unit, std::move(listener)));
    reactor->backing_.set_away(backing_fd < 0);
    std::promise<Result<void>> started;
    auto outcome = started.get_future();
    reactor->thread_ = std::thread([raw = reactor.get(), &started] {
        protect_from_memory_pressure();
        auto result = raw->ring_->start();
        const bool good = result.has_value();
        started.set_value(std::move(result));
        if (good) raw->run();
    });
    TRY(outcome.get());
    return reactor;
}

Reactor::~Reactor() {
    port_->disconnect();
    if (!thread_.joinable()) return;
    ring_->post([this] {
        stopping_ = true;
        for (const auto& front_end : front_ends_) front_end->stop_receiving();
    });
    thread_.join();
}

void Reactor::run() {
    for (const auto& front_end : front_ends_) front_end->serve();
    if (auto result = ring_->run([this] { after_batch(); }); !result) {
        log::error("node {}: the reactor cannot go on: {}", context_.name, result.error().message());
        ::_exit(1);  // restarted by the supervisor; consumers get errors, not a hang
    }
}

size_t Reactor::in_flight() const {
    size_t sum = backing_.in_flight() + ported_;
    for (const auto& front_end : front_ends_) sum += front_end->in_flight();
    return sum;
}

void Reactor::after_batch() {
    if (when_drained_ && backing_.in_flight() == 0) std::exchange(when_drained_, nullptr)();
    if (stopping_ && in_flight() == 0) ring_->stop();
}

template <class Work>
auto Reactor::on_reactor(Work work) {
    std::promise<decltype(work())> answer;
    ring_->post([&] { answer.set_value(work()); });
    return answer.get_future().get();
}

void Reactor::take_backing_away(std::function<void()> then) {
    ring_->post([this, then = std::move(then)]() mutable {
        backing_.set_away(true);
        when_drained_ = [this, then = std::move(then)] {
            if (auto result = ring_->replace_file(backing_file_index, -1); !result) {
                log::warning("node {}: {}", context_.name, result.error().message());
            }
            for (const auto& front_end : front_ends_) front_end->restart_receiving();
            then();
        };
    });
}

Result<void> Reactor::give_backing(int fd, Geometry geometry) {
    auto given = on_reactor([this, fd, geometry] {
        auto replaced = ring_->replace_file(backing_file_index, fd);
        if (!replaced) return replaced;
        alignment_.set_block_bytes(geometry.transfer_alignment);
        backing_.set_away(false);
        return replaced;
    });
    if (given) set_size(geometry.size_bytes);
    return given;
}

void Reactor::set_size(uint64_t size_bytes) {
    on_reactor([this, size_bytes] {
        if (context_.size_bytes == size_bytes) return false;
        context_.size_bytes = size_bytes;
        for (const auto& front_end : front_ends_) front_end->size_changed();
        return true;
    });
}

std::vector<Opener> Reactor::close_if_unused() {
    return on_reactor([this] {
        std::vector<Opener> openers = opens_.openers();
        std::erase_if(openers, [own = ::getpid()](const Opener& opener) { return opener.pid == own; });
        opens_.set_closed(openers.empty());
        return openers;
    });
}

void Reactor::open_again() {
    ring_->post([this] { opens_.set_closed(false); });
}

void Reactor::unmount() { channel_->unmount(); }

// ---- requests of other threads

/// `request` has the continuation of whoever it came from; ours is above the layers' and below that.
void Reactor::carry_out(BlockRequest& request) {
    stats_.of(request.op).begin();
    request.submitted_ns = ring_->turn_time_ns();
    request.then(&Reactor::ported_done, this);
    context_.top.submit(request);
}

void Reactor::ported_done(void* context, BlockRequest& request, int64_t result) {
    auto& self = *static_cast<Reactor*>(context);
    self.stats_.of(request.op).end(result, request.length, self.ring_->turn_time_ns() - request.submitted_ns);
    self.ported_.fetch_sub(1);
    request.finish(result);
}

/// The answer is awaited without the lock: the reactor itself may be on its way into `submit`.
OpenDecision ReactorPort::open(Opener opener) {
    std::promise<OpenDecision> answer;
    auto decided = answer.get_future();
    const bool posted = post([&](Reactor& reactor) {
        auto decision = reactor.opens_.open(std::move(opener));
        if (decision.verdict == OpenVerdict::granted) {
            reactor.context_.on_opens_changed();
        } else {
            reactor.stats_.refused_opens.add(1);
        }
        answer.set_value(std::move(decision));
    });
    if (!posted) return {.verdict = OpenVerdict::closed, .handle = 0, .blocker = {}};
    return decided.get();
}

/// Returns when it is known, for the consumer's close(2) waits for that.
void ReactorPort::release(uint64_t handle) {
    std::promise<void> released;
    const bool posted = post([&](Reactor& reactor) {
        reactor.opens_.release(handle);
        reactor.context_.on_opens_changed();
        released.set_value();
    });
    if (posted) released.get_future().wait();
}

/// What is posted is run: the reactor does not end before.
bool ReactorPort::post(std::function<void(Reactor&)> work) {
    const std::scoped_lock lock(mutex_);
    if (reactor_ == nullptr) return false;
    reactor_->ported_.fetch_add(1);
    reactor_->ring_->post([reactor = reactor_, work = std::move(work)] {
        work(*reactor);
        reactor->ported_.fetch_sub(1);
    });
    return true;
}

bool ReactorPort::submit(BlockRequest& request) {
    const std::scoped_lock lock(mutex_);
    if (reactor_ == nullptr) return false;
    reactor_->ported_.fetch_add(1);
    reactor_->ring_->post([reactor = reactor_, &request] { reactor->carry_out(request); });
    return true;
}

void ReactorPort::disconnect() {
    const std::scoped_lock lock(mutex_);
    reactor_ = nullptr;
}

}  // namespace storctl::node
