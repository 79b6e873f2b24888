#include "daemon/node/sg_server.hpp"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <scsi/sg.h>
#include <sys/mman.h>

#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/node/caller/process_memory.hpp"
#include "daemon/node/holder.hpp"
#include "daemon/node/initiator.hpp"
#include "daemon/node/sg_server_state.hpp"

namespace storctl::node {
namespace {

constexpr auto end_limit = std::chrono::seconds(5);
constexpr size_t most_opens = 1024;
constexpr unsigned most_identifying = 16;

}  // namespace

uint64_t sg_transfer_limit() {
    constexpr int init = 1;
    return ProcessMemory::permitted(init) ? sg_most_data_bytes : sg_most_data_bytes_in_legs;
}

std::shared_ptr<SgBuffers> SgBuffers::make() {
    std::shared_ptr<SgBuffers> out(new SgBuffers);
    void* const memory =
        ::mmap(nullptr, bytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    out->memory_ = static_cast<std::byte*>(memory);
    for (size_t i = count; i-- > 0;) out->free_.push_back(out->memory_ + i * bytes);
    return out;
}

SgBuffers::~SgBuffers() {
    if (memory_ != nullptr) ::munmap(memory_, bytes * count);
}

std::shared_ptr<std::byte> SgBuffers::take() {
    const std::scoped_lock lock(mutex_);
    if (free_.empty()) return nullptr;
    std::byte* const start = free_.back();
    free_.pop_back();
    return {start, [self = shared_from_this()](std::byte* given_back) {
                const std::scoped_lock inner(self->mutex_);
                self->free_.push_back(given_back);
            }};
}

// ---- start and end

SgServer::SgServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<SgServer>> SgServer::start(SgServerOptions options, std::shared_ptr<ScsiUnit> unit,
                                                  std::shared_ptr<ReactorPort> port, std::function<void()> closed) {
    auto state = std::make_shared<State>();
    state->options = std::move(options);
    state->unit = std::move(unit);
    state->port = std::move(port);
    state->closed = std::move(closed);
    TRY(state->start());
    return std::unique_ptr<SgServer>(new SgServer(std::move(state)));
}

SgServer::~SgServer() {
    if (state_->threads->end(end_limit)) {
        state_->threads.reset();  // which has the state, too
    } else {
        log::warning("node {}: a thread of '{}' does not come back from a consumer's memory, ending without it",
                     state_->options.name, state_->path);
    }
}

const std::string& SgServer::path() const { return state_->path; }

Result<void> SgServer::State::start() {
    auto channel = TRY(CuseChannel::create(
        {.name = options.device_name, .major = options.major, .minor = options.minor, .device = "/dev/cuse"}));
    path = channel->path();
    buffers = SgBuffers::make();
    const auto self = shared_from_this();
    threads = CuseThreads::make(options.name, std::move(channel),
                                {.serve = [self](CuseTurn& turn) { self->serve(turn); },
                                 .give_up = [self](CuseTurn& turn) { self->unit->give_up(turn.context); },
                                 .closed = [self] { self->closed(); }});
    return threads->start();
}

// ---- requests

void SgServer::State::serve(CuseTurn& turn) {
    using Kind = CuseRequest::Kind;
    const CuseRequest& request = turn.request();
    CuseChannel& channel = threads->channel();
    std::shared_ptr<SgOpen> file;
    if (request.kind != Kind::open && request.kind != Kind::other) {
        file = file_of(request);
        if (file == nullptr) {
            log::error("node {}: the kernel speaks of a file of '{}' that is not open", options.name, path);
            channel.answer_error(request.unique, EBADF);
            return;
        }
    }
    // as many threads as there may be are busy, and somebody has to take the next request
    const bool may_wait = request.kind != Kind::poll && request.kind != Kind::release;
    if (turn.last() && may_wait) {
        // SG_IO: "the queue is full", which an initiator takes for a reason to try again
        const bool command = request.kind == Kind::ioctl && request.command == SG_IO;
        if (turn.may_answer()) channel.answer_error(request.unique, command ? EDOM : EBUSY);
        return;
    }
    switch (request.kind) {
        case Kind::open:
            return open(turn);
        case Kind::release:
            return release(*file, request);
        case Kind::ioctl:
            return ioctl(turn, *file);
        case Kind::write:
            return write(turn, *file);
        case Kind::read:
            return read(turn, *file);
        case Kind::poll:
            return poll(*file, request);
        case Kind::other:
            channel.answer_error(request.unique, ENOSYS);
            return;
        case Kind::interrupt:
            return;
    }
}

std::shared_ptr<SgOpen> SgServer::State::file_of(const CuseRequest& request) {
    const std::scoped_lock lock(opens_mutex);
    const auto found = opens.find(request.handle);
    return found == opens.end() ? nullptr : found->second;
}

void SgServer::State::open(CuseTurn& turn) {
    const CuseRequest& request = turn.request();
    CuseChannel& channel = threads->channel();
    const auto refuse = [&](int error_number) {
        if (turn.may_answer()) channel.answer_error(request.unique, error_number);
    };
    Opener opener = identify_holder(request.thread_id);
    opener.writes = (request.open_flags & O_ACCMODE) != O_RDONLY;
    const Opener asking = opener;
    // who it is stands in its own memory, which may take any time to come: not for everybody at once
    if (identifying.fetch_add(1) >= most_identifying) {
        identifying.fetch_sub(1);
        return refuse(EBUSY);
    }
    auto nexus = unit->attach(initiator_of(asking.pid, options.host));
    identifying.fetch_sub(1);
    if (!nexus) {
        log::warning("node {}: '{}' (pid {}) cannot be an initiator: {}", options.name,
                     escape_unprintable(asking.program), asking.pid, nexus.error().message());
        return refuse(EINVAL);
    }
    const OpenDecision decision = port->open(std::move(opener));
    switch (decision.verdict) {
        case OpenVerdict::granted:
            break;
        case OpenVerdict::read_only:
            return refuse(EROFS);
        case OpenVerdict::closed:
            return refuse(ENXIO);
        case OpenVerdict::busy:
            log::notice("node {}: '{}' (pid {}) may not open '{}' for writing: '{}' (pid {}) writes since {}",
                        options.name, escape_unprintable(asking.program), asking.pid, path,
                        escape_unprintable(decision.blocker->program), decision.blocker->pid,
                        format_time(decision.blocker->since));
            return refuse(EBUSY);
    }
    auto file = std::make_shared<SgOpen>(decision.handle, channel);
    file->writes = asking.writes;
    file->uid = request.uid;
    file->gid = request.gid;
    file->nexus = *std::move(nexus);
    bool room = false;
    {
        const std::scoped_lock lock(opens_mutex);
        room = opens.size() < most_opens;
        if (room) opens[decision.handle] = std::move(file);
    }
    // the consumer may be gone by now: then the kernel sends no release, so the open is taken back here
    if (room && turn.may_answer() && channel.answer_open(request.unique, decision.handle)) return;
    {
        const std::scoped_lock lock(opens_mutex);
        opens.erase(decision.handle);
    }
    port->release(decision.handle);
    if (!room) refuse(ENFILE);
}

void SgServer::State::release(SgOpen& file, const CuseRequest& request) {
    {
        const std::scoped_lock lock(opens_mutex);
        opens.erase(file.handle);
    }
    port->release(file.handle);
    threads->channel().answer_error(request.unique, 0);
}

}  // namespace storctl::node
