// What a USB server does with each request of its consumers.

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>

#include "base/io_ring.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/node/caller/process_memory.hpp"
#include "daemon/node/holder.hpp"
#include "daemon/node/usb_server_state.hpp"

namespace storctl::node {
namespace {

using Phase = UsbWorker::Phase;

constexpr size_t most_legs = 16;
constexpr auto release_patience = std::chrono::seconds(2);

/// The caller's memory for as long as its request is ours to answer: afterwards the thread's number may be another's.
class GuardedMemory final : public CallerMemory {
 public:
    GuardedMemory(CallerMemory& memory, UsbWorker& worker) : memory_(memory), worker_(worker) {}

    int read(uint64_t address, std::span<std::byte> into) override {
        return guarded([&] { return memory_.read(address, into); });
    }
    int announce_write(uint64_t address, size_t length) override { return memory_.announce_write(address, length); }
    int ready() override { return memory_.ready(); }
    int write(uint64_t address, std::span<const std::byte> from) override {
        return guarded([&] { return memory_.write(address, from); });
    }
    int write_all(std::span<const Piece> pieces) override {
        return guarded([&] { return memory_.write_all(pieces); });
    }
    size_t write_limit() const override { return memory_.write_limit(); }

 private:
    template <class Access>
    int guarded(const Access& access) {
        auto expected = Phase::executing;
        if (!worker_.phase.compare_exchange_strong(expected, Phase::touching)) return -EINTR;
        const int result = access();
        expected = Phase::touching;
        return worker_.phase.compare_exchange_strong(expected, Phase::executing) ? result : -EINTR;
    }
    CallerMemory& memory_;
    UsbWorker& worker_;
};

/// This thread may be inside a call of a real file, from here to the end of the scope.
class OnDevice {
 public:
    explicit OnDevice(UsbWorker& worker) : worker_(worker) { worker_.on_device = true; }
    ~OnDevice() { worker_.on_device = false; }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

 private:
    UsbWorker& worker_;
};

/// The answer is ours to give, and nobody else gives it from now on.
bool may_answer(UsbWorker& worker) { return worker.phase.exchange(Phase::given_up) != Phase::given_up; }

}  // namespace

// ---- open and close

void UsbServer::State::open(UsbWorker& worker, const CuseRequest& request) {
    const bool writes = (request.open_flags & O_ACCMODE) != O_RDONLY;
    Opener opener = identify_holder(request.thread_id);
    opener.writes = writes;
    OpenDecision decision;
    {
        const std::scoped_lock lock(opens_mutex);
        decision = table.open(opener);
    }
    int error = 0;
    switch (decision.verdict) {
        case OpenVerdict::granted:
            break;
        case OpenVerdict::busy:
            log::notice("node {}: '{}' (pid {}) may not open it, '{}' (pid {}) has it", options.name,
                        escape_unprintable(opener.program), opener.pid, escape_unprintable(decision.blocker->program),
                        decision.blocker->pid);
            error = EBUSY;
            break;
        case OpenVerdict::read_only:
            error = EROFS;
            break;
        case OpenVerdict::closed:
            error = ENODEV;
            break;
    }
    std::shared_ptr<UsbOpen> file;
    if (error == 0) {
        const OnDevice guard(worker);
        error = open_file(decision.handle, writes, file);
    }
    if (error != 0 || !may_answer(worker)) {
        if (file) forget(*file);
        if (decision.verdict == OpenVerdict::granted) {
            const std::scoped_lock lock(opens_mutex);
            table.release(decision.handle);
        }
        statistics.refused_opens.fetch_add(1, std::memory_order_relaxed);
        if (error != 0 && may_answer(worker)) channel->answer_error(request.unique, error);
        return;
    }
    // the caller may be gone by now: then the kernel sends no release, so the open is taken back here
    if (!channel->answer_open(request.unique, file->id)) {
        forget(*file);
        const std::scoped_lock lock(opens_mutex);
        table.release(file->table_handle);
    }
    tell_openers();
}

/// 0, or a positive errno.
int UsbServer::State::open_file(uint64_t table_handle, bool writes, std::shared_ptr<UsbOpen>& file) {
    std::string where;
    {
        const std::scoped_lock lock(device_mutex);
        where = path;
    }
    if (where.empty()) return ENODEV;
    auto real = UsbDeviceFile::open(where, writes ? O_RDWR : O_RDONLY,
                                    [this](const std::string& left) { return find_again(left); });
    if (!real) {
        const int error = real.error().value();
        // its node is gone before anybody has told us
        if (error != ENOENT && error != ENODEV && error != ENXIO) return error;
        take_device_away(where);
        return ENODEV;
    }
    auto opened = std::make_shared<UsbOpen>();
    opened->fd = (*real)->fd();
    opened->path = where;
    opened->table_handle = table_handle;
    configuration = active_configuration(where);
    opened->session = std::make_unique<usbfs::Session>(*std::move(real),
                                                       usbfs::SessionContext{
                                                           .filter = *filter,
                                                           .statistics = statistics,
                                                           .denied = [this](const std::string& what) { denied(what); },
                                                           .completed = [this, raw = opened.get()] { notify(*raw); },
                                                           .now_ns = monotonic_ns,
                                                           .configuration = configuration,
                                                           .budget = budget,
                                                       },
                                                       writes);
    const std::scoped_lock lock(opens_mutex);
    if (table.closed()) return ENODEV;  // revoked while it was being opened
    if (opens.size() == most_opens) {
        log::warning("node {}: {} files are open already", options.name, most_opens);
        return ENFILE;
    }
    while (places[next_open % most_opens] != nullptr) ++next_open;
    opened->id = next_open++;
    places[opened->id % most_opens] = opened.get();
    opens.emplace(opened->id, opened);
    file = std::move(opened);
    return 0;
}

void UsbServer::State::forget(UsbOpen& file) {
    const std::scoped_lock lock(opens_mutex);
    places[file.id % most_opens] = nullptr;
    opens.erase(file.id);
}

UsbOpen* UsbServer::State::file_of(const CuseRequest& request) const {
    UsbOpen* const file = places[request.handle % most_opens];
    return file != nullptr && file->id == request.handle ? file : nullptr;
}

void UsbServer::State::release(UsbOpen& open, const CuseRequest& request) {
    auto file = open.shared_from_this();
    forget(open);
    const uint64_t table_handle = file->table_handle;
    std::vector<std::shared_ptr<UsbOpen>> files;
    files.push_back(std::move(file));
    // the consumer's close does not wait for a device that does not answer
    if (!let_go(files, release_patience)) {
        log::warning("node {}: the device takes its time to end what was in flight at a close", options.name);
    }
    files.clear();
    {
        const std::scoped_lock lock(opens_mutex);
        table.release(table_handle);
    }
    tell_openers();  // before the answer: the consumer's close(2) waits for it, and may ask next who has it open
    channel->answer_error(request.unique, 0);
}

// ---- ioctl and poll

void UsbServer::State::ioctl(UsbWorker& worker, UsbOpen& file, const CuseRequest& request) {
    const auto open = file.shared_from_this();  // it may be closed while an answer that was given up is still awaited
    const auto layout = request.compat ? usbfs::Layout::bits32 : usbfs::Layout::bits64;
    const OnDevice guard(worker);
    auto reach = open->reach.load();
    if (reach == UsbOpen::Reach::untried) {
        reach = ProcessMemory::permitted(request.thread_id) ? UsbOpen::Reach::direct : UsbOpen::Reach::legs;
        open->reach = reach;
    }
    if (reach == UsbOpen::Reach::direct && request.thread_id != 0) {
        ProcessMemory memory(request.thread_id);
        GuardedMemory guarded(memory, worker);
        const int result = open->session->ioctl(request.command, request.argument, layout, guarded);
        if (!may_answer(worker)) return;
        if (result < 0) {
            channel->answer_error(request.unique, -result);
        } else {
            channel->answer_ioctl(request.unique, result);
        }
        return;
    }
    const UsbOpen::LegKey key{request.thread_id, request.command, request.argument};
    const auto memory = take_leg(*open, key, request);
    int result = -EBUSY;
    if (memory != nullptr) {
        result = memory->begin(request.in, request.out_size)
                     ? open->session->ioctl(request.command, request.argument, layout, *memory)
                     : -EIO;
        if (result == CallerMemory::again && !memory->plan_next()) result = -ENOMEM;
    }
    const bool more = result == CallerMemory::again;
    if (memory != nullptr) put_leg(*open, key, more ? memory : nullptr);
    if (!may_answer(worker)) return;
    if (more) {
        std::vector<CallerSegment> in, out;
        for (const auto& segment : memory->in_segments()) in.push_back({segment.address, segment.length});
        for (const auto& segment : memory->out_segments()) out.push_back({segment.address, segment.length});
        channel->answer_retry(request.unique, in, out);
    } else if (result < 0) {
        channel->answer_error(request.unique, -result);
    } else {
        const auto written = memory->written();
        const iovec part{const_cast<std::byte*>(written.data()), written.size()};
        channel->answer_ioctl(request.unique, result, {&part, written.empty() ? size_t{0} : size_t{1}});
    }
}

/// What the legs before this one brought; a new memory for the first; null: there is no going on.
std::shared_ptr<RetryMemory> UsbServer::State::take_leg(UsbOpen& open, const UsbOpen::LegKey& key,
                                                        const CuseRequest& request) {
    // Legs follow each other at once. One that is older was left behind: a leg that meets a bad address is the last,
    // and nobody tells us.
    constexpr auto left_behind = std::chrono::seconds(1);
    const auto now = std::chrono::steady_clock::now();
    std::shared_ptr<void> lost;  // a URB that was reaped for a caller who did not come back
    std::shared_ptr<RetryMemory> memory;
    {
        const std::scoped_lock lock(open.legs_mutex);
        auto found = open.legs.find(key);
        const bool first = request.in_size == 0 && request.out_size == 0;
        if (!first) {
            if (found == open.legs.end()) return nullptr;
            memory = std::exchange(found->second.memory, nullptr);
            found->second.since = now;
            return memory;
        }
        // of callers that cannot be told apart one at a time
        const bool one_of_many = std::get<0>(key) == 0;
        if (found != open.legs.end() && one_of_many && now - found->second.since < left_behind) return nullptr;
        if (found == open.legs.end() && open.legs.size() >= most_legs) {
            found = std::min_element(open.legs.begin(), open.legs.end(),
                                     [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
        }
        if (found != open.legs.end()) {
            if (found->second.memory != nullptr) lost = std::move(found->second.memory->kept);
            open.legs.erase(found);
        }
        memory = std::make_shared<RetryMemory>(CuseChannel::leg_bytes, CuseChannel::most_segments);
        open.legs[key] = {.memory = nullptr, .since = now};
    }
    open.session->put_back(std::move(lost));
    return memory;
}

/// Null: that was the last.
void UsbServer::State::put_leg(UsbOpen& open, const UsbOpen::LegKey& key, std::shared_ptr<RetryMemory> memory) {
    const std::scoped_lock lock(open.legs_mutex);
    if (memory == nullptr) {
        open.legs.erase(key);
    } else if (const auto found = open.legs.find(key); found != open.legs.end()) {
        found->second = {.memory = std::move(memory), .since = std::chrono::steady_clock::now()};
    }
}

void UsbServer::State::poll(UsbOpen& open, const CuseRequest& request) {
    open.poll_handle = request.poll_handle;  // before the look: what happens after it is told
    const uint32_t events = open.session->poll();
    statistics.of(usbfs::Traffic::poll).count(false, 0);
    if (request.notify && (events & (request.events | POLLERR | POLLHUP)) == 0) watch(open, request.events);
    channel->answer_poll(request.unique, events);
    if ((events & POLLHUP) != 0 && !revoked && !open.told_gone.exchange(true)) {
        take_device_away(open.path);
    }
}

void UsbServer::State::denied(const std::string& what) {
    const std::string news = denials.note(what);
    if (!news.empty()) log::notice("node {}: denied to its consumer by policy: {}", options.name, news);
}

}  // namespace storctl::node
