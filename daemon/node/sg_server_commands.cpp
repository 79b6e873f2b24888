// What a SCSI server does with the ioctls, writes and reads of its consumers.

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <scsi/sg.h>

#include "base/file.hpp"
#include "base/io_ring.hpp"
#include "base/text.hpp"
#include "daemon/node/caller/process_memory.hpp"
#include "daemon/node/sg_server_state.hpp"

namespace storctl::node {

using Clock = std::chrono::steady_clock;

struct SgServer::State::Run {
    explicit Run(ScsiUnit& the_unit) : unit(the_unit) {}
    ~Run() { drop(); }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    void drop() {
        if (task != nullptr) unit.given(*task);
        task.reset();
    }

    ScsiUnit& unit;
    sg::Command command;
    std::shared_ptr<ScsiCommand> task;
    sg::Outcome outcome;
};

namespace {

constexpr uint8_t synchronize_cache_10 = 0x35;
/// Of one open; with as many that nobody waits for the next is "queue full".
constexpr unsigned most_left_behind = 16;

scsi::ByteView cdb_of(const sg::Command& command) {
    return {reinterpret_cast<const uint8_t*>(command.cdb_bytes.data()), command.cdb_length};
}

uint64_t most_data_bytes(bool direct) { return direct ? sg_most_data_bytes : sg_most_data_bytes_in_legs; }

sg::Layout layout_of(const CuseRequest& request) { return request.compat ? sg::Layout::bits32 : sg::Layout::bits64; }

}  // namespace

// ---- a command

namespace {

/// Counted until the layers have done with it.
void leave_behind(SgOpen& file, ScsiCommand& task) {
    file.left_behind->fetch_add(1);
    task.left_behind = std::shared_ptr<void>(nullptr, [count = file.left_behind](void*) { count->fetch_sub(1); });
}

}  // namespace

/// What the command needs: memory, and its data.
int SgServer::State::prepare(SgOpen& file, CallerMemory& memory, Run& work) {
    if (*file.left_behind >= most_left_behind) return -EDOM;
    const sg::Command& command = work.command;
    const auto shape = unit->shape(cdb_of(command));
    auto task = std::make_shared<ScsiCommand>();
    task->opener = file.nexus;
    task->nexus = file.nexus.get();
    task->take_cdb(cdb_of(command));
    task->writable = file.writes;
    task->use_view = !memory.in_legs();  // there the data are looked at from here
    if (command.data_bytes > 0 || shape.scratch_bytes > 0) {
        const auto buffer = buffers->take();
        if (buffer == nullptr) return -EDOM;
        if (shape.scratch_bytes > sg_scratch_bytes) return -ENOMEM;
        task->memory = buffer;
        task->scratch = {buffer.get() + SgBuffers::data_bytes, sg_scratch_bytes};
        const std::span data{buffer.get(), command.data_bytes};
        // what the header says goes to the device must not be read from a buffer that is still another's, and the other
        // way round
        const bool out = command.direction == sg::Direction::to_device;
        if (out) {
            if (const int failed = sg::fetch_data(memory, command, data); failed != 0) return failed;
        }
        if (out == (shape.direction == scsi::Direction::out)) task->data = data;
    }
    work.drop();
    work.task = std::move(task);
    return 0;
}

/// 0, or -EINTR: its consumer is being killed.
int SgServer::State::execute(CuseTurn& turn, SgOpen& file, Run& work) {
    ScsiCommand& task = *work.task;
    sg::Outcome& outcome = work.outcome = {};
    const auto began = Clock::now();
    file.in_flight.fetch_add(1);
    const auto end = unit->run(work.task, began + std::chrono::milliseconds(work.command.timeout_ms), turn.context);
    file.in_flight.fetch_sub(1);
    outcome.duration_ms =
        static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began).count());
    switch (end) {
        case ScsiUnit::End::done:
            break;
        case ScsiUnit::End::timed_out:
            leave_behind(file, task);
            outcome.host_status = sg::host_timed_out;
            return 0;
        case ScsiUnit::End::given_up:
            leave_behind(file, task);
            return -EINTR;
    }
    outcome.status = static_cast<uint8_t>(task.status);
    outcome.sense = std::as_bytes(std::span(task.sense));
    if (work.command.direction == sg::Direction::from_device) {
        const auto source = task.in_place.empty() ? std::span<const std::byte>(task.data) : task.in_place;
        outcome.data = source.first(std::min<uint64_t>(task.data_in_bytes, source.size()));
        outcome.moved = outcome.data.size();
    } else if (task.status == scsi::Status::good) {
        outcome.moved = std::min<uint64_t>(task.data.size(), unit->shape(task.cdb).bytes);
    }
    return 0;
}

/// SG_IO.
int SgServer::State::transfer(CuseTurn& turn, SgOpen& file, CallerMemory& memory) {
    const CuseRequest& request = turn.request();
    Run work(*unit);
    if (const int failed =
            sg::fetch(memory, request.argument, layout_of(request), most_data_bytes(!memory.in_legs()), work.command);
        failed != 0) {
        return failed;
    }
    if (const int failed = prepare(file, memory, work); failed != 0) return failed;
    if (const int failed = sg::announce(memory, work.command); failed != 0) return failed;
    if (const int failed = memory.ready(); failed != 0) return failed;
    if (const int failed = execute(turn, file, work); failed != 0) return failed;
    const int given = sg::give(memory, work.command, work.outcome);
    if (given != -EFAULT || work.task->in_place.empty()) return given;
    // the consumer's memory is at fault, or the backing was truncated below what lies in it: read it as others do
    if (const int failed = prepare(file, memory, work); failed != 0) return failed;
    work.task->use_view = false;
    if (const int failed = execute(turn, file, work); failed != 0) return failed;
    return sg::give(memory, work.command, work.outcome);
}

int SgServer::State::flush(CuseTurn& turn, SgOpen& file) {
    Run work(*unit);
    work.task = std::make_shared<ScsiCommand>();
    work.task->opener = file.nexus;
    work.task->nexus = file.nexus.get();
    work.task->take_cdb(std::array<uint8_t, 10>{synchronize_cache_10});
    if (const int failed = execute(turn, file, work); failed != 0) return failed;
    return work.task->status == scsi::Status::good ? 0 : -EIO;
}

int SgServer::State::control(CuseTurn& turn, SgOpen& file, CallerMemory& memory) {
    const CuseRequest& request = turn.request();
    const auto geometry = unit->geometry();
    const sg::UnitFacts facts{.blocks = geometry.blocks,
                              .block_bytes = geometry.block_bytes,
                              .physical_block_bytes = geometry.physical_block_bytes,
                              .read_only = geometry.read_only || options.read_only,
                              .most_data_bytes = std::min(most_data_bytes(!memory.in_legs()), sg_transfer_limit()),
                              .host_number = 0,
                              .in_flight = file.in_flight};
    auto action = sg::ControlAction::none;
    // on a copy: the consumer's memory may take any time, and whoever polls must not wait for it
    sg::Controls controls;
    {
        const std::scoped_lock lock(file.mutex);
        controls = file.controls;
    }
    const int result = controls.control(request.command, request.argument, layout_of(request), facts, memory, action);
    if (result >= 0) {
        const std::scoped_lock lock(file.mutex);
        file.controls.take_settings(controls);
    }
    if (result < 0) return result;
    switch (action) {
        case sg::ControlAction::none:
            return result;
        case sg::ControlAction::reset_unit:
            if (!file.writes) return -EPERM;
            unit->reset();
            return result;
        case sg::ControlAction::flush:
            return flush(turn, file);
    }
    __builtin_unreachable();
}

void SgServer::State::ioctl(CuseTurn& turn, SgOpen& file) {
    const bool command = turn.request().command == SG_IO;
    file.calls.ioctl(turn, [&](CallerMemory& memory) {
        return command ? transfer(turn, file, memory) : control(turn, file, memory);
    });
}

// ---- write() and read()

/// The command is carried out within the write, while the pointers in its header mean what they say; its header waits
/// for a read.
void SgServer::State::write(CuseTurn& turn, SgOpen& file) {
    const CuseRequest& request = turn.request();
    CuseChannel& channel = threads->channel();
    const auto refuse = [&](int error_number) {
        if (turn.may_answer()) channel.answer_error(request.unique, error_number);
    };
    // the kernel moves nothing but the header for a write
    if (!file.calls.direct(request.thread_id)) return refuse(EOPNOTSUPP);
    if (!file.is_opener(request)) return refuse(EPERM);
    {
        const std::scoped_lock lock(file.mutex);
        if (file.controls.full()) return refuse(EDOM);
    }
    ProcessMemory reached(request.thread_id);
    TurnMemory memory(reached, turn);
    constexpr size_t header_32 = 64;  // struct compat_sg_io_hdr; who writes is not told
    const auto layout = request.in.size() == header_32 ? sg::Layout::bits32 : sg::Layout::bits64;
    Run work(*unit);
    int result = sg::fetch_written(memory, request.in, layout, sg_most_data_bytes, work.command);
    if (result == 0) result = prepare(file, memory, work);
    if (result == 0) result = execute(turn, file, work);
    if (result == 0) result = sg::give_written(memory, work.command, work.outcome);
    if (result == -EFAULT && work.task && !work.task->in_place.empty()) {
        result = prepare(file, memory, work);
        work.task->use_view = false;
        if (result == 0) result = execute(turn, file, work);
        if (result == 0) result = sg::give_written(memory, work.command, work.outcome);
    }
    if (result != 0) return refuse(-result);
    uint64_t poller = 0;
    {
        const std::scoped_lock lock(file.mutex);
        file.controls.keep(
            {.pack_id = work.command.pack_id, .header = sg::answered_header(request.in, work.command, work.outcome)});
        file.answers_changed.notify_all();
        poller = file.poll_handle;
    }
    if (turn.may_answer()) channel.answer_written(request.unique, static_cast<uint32_t>(request.in.size()));
    if (poller != 0) channel.notify_poll(poller);
}

namespace {

/// The system call that a thread waits in: number and arguments (proc(5)). On its way into the wait it still runs.
std::vector<std::string> system_call_of(int thread_id) {
    constexpr auto patience = std::chrono::seconds(1);
    const auto deadline = Clock::now() + patience;
    for (;;) {
        auto words = split(read_attribute(fmt::format("/proc/{}/syscall", thread_id)), ' ');
        if (words.empty() || words[0] != "running" || Clock::now() > deadline) return words;
        std::this_thread::yield();
    }
}

/// The pack id in the buffer that the thread has given to its read(2), which is all that tells where that buffer is.
/// Nothing: it cannot be said.
std::optional<int32_t> wanted_pack_id(int thread_id, CallerMemory& memory) {
    constexpr std::string_view read_64 = "0", read_32 = "3";
    const auto words = system_call_of(thread_id);
    if (words.size() < 3 || (words[0] != read_64 && words[0] != read_32)) return std::nullopt;
    const uint64_t buffer = std::strtoull(words[2].c_str(), nullptr, 16);
    const uint64_t offset = words[0] == read_64 ? offsetof(sg_io_hdr, pack_id) : 36;  // struct compat_sg_io_hdr
    int32_t pack_id = 0;
    const auto into = std::as_writable_bytes(std::span(&pack_id, 1));
    if (memory.read(buffer + offset, into) != 0) return std::nullopt;
    return pack_id;
}

}  // namespace

void SgServer::State::read(CuseTurn& turn, SgOpen& file) {
    constexpr auto look_up = std::chrono::milliseconds(100);
    constexpr int32_t any = -1;
    constexpr uint32_t shortest_header = 64;  // struct compat_sg_io_hdr
    const CuseRequest& request = turn.request();
    CuseChannel& channel = threads->channel();
    std::unique_lock lock(file.mutex);
    int32_t pack_id = any;
    if (request.size < shortest_header) {
        lock.unlock();
        if (turn.may_answer()) channel.answer_error(request.unique, EINVAL);
        return;
    }
    if (file.controls.force_pack_id() && file.is_opener(request)) {
        lock.unlock();
        ProcessMemory reached(request.thread_id);
        TurnMemory memory(reached, turn);
        pack_id = wanted_pack_id(request.thread_id, memory).value_or(any);
        lock.lock();
    }
    std::optional<sg::Controls::Answer> answer;
    while (!(answer = file.controls.take(pack_id))) {
        if ((request.open_flags & O_NONBLOCK) != 0) {
            lock.unlock();
            if (turn.may_answer()) channel.answer_error(request.unique, EAGAIN);
            return;
        }
        file.answers_changed.wait_for(lock, look_up);
        if (turn.answered()) return;
    }
    lock.unlock();
    if (!turn.may_answer()) return;
    if (request.size < answer->header.size()) {
        channel.answer_error(request.unique, EINVAL);
        return;
    }
    channel.answer_data(request.unique, answer->header);
}

void SgServer::State::poll(SgOpen& file, const CuseRequest& request) {
    uint32_t events = POLLOUT | POLLWRNORM;
    {
        const std::scoped_lock lock(file.mutex);
        file.poll_handle = request.poll_handle;  // before the look: what happens after it is told
        if (file.controls.any()) events |= POLLIN | POLLRDNORM;
    }
    threads->channel().answer_poll(request.unique, events);
}

}  // namespace storctl::node
