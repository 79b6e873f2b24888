// A job waits in `waiting`, runs as a process in `running`, and is there until both its answer has come and its process
// has ended. The answer alone, or the end without one, is the job's end for who asked.
//
// A job that an earlier stord abandoned may still run. It is found by its standard input, a file in memory of a certain
// name, and is in `running` without a callback: what is asked for meanwhile waits for it as for one of our own.
//
//   run ──► waiting ──limit and order allow──► running ──answer──► reaped ──end──► (gone)
//                   ──cannot be started─────► (gone)     ──end──► (gone)

#include "daemon/actuator.hpp"

#include <list>
#include <optional>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/process_watch.hpp"
#include "daemon/spawn.hpp"
#include "usbarb/actuation_socket.hpp"

namespace storctl {

static_assert(spawn_channel == usbarb::actuation_socket);

namespace {

using usbarb::Job;
using usbarb::Outcome;

bool is_at_or_below(const std::string& path, const std::string& above) {
    return path.starts_with(above) && (path.size() == above.size() || path[above.size()] == '/');
}

bool meet(const std::string& one, const std::string& other) {
    return is_at_or_below(one, other) || is_at_or_below(other, one);
}

constexpr const char* job_file_name = "storctl-actuation";  // of the file in memory
constexpr size_t longest_job = 4 << 20;

/// The job of a process, if it has one of ours. One that cannot be read is nothing that could be waited for.
std::optional<Job> job_of(const std::string& process) {
    const std::string input = process + "/fd/0";
    if (!read_link(input).starts_with(std::string("/memfd:") + job_file_name)) return std::nullopt;
    const auto text = read_file(input, longest_job);
    if (!text) return std::nullopt;
    auto job = usbarb::parse_job(*text);
    if (!job) return std::nullopt;
    return std::move(*job);
}

/// A job's text as an open file: it is there as a whole, whatever becomes of stord.
Result<UniqueFd> as_file(const std::string& text) {
    UniqueFd file(::memfd_create(job_file_name, MFD_CLOEXEC));
    if (!file) return errno_error("cannot create a file in memory");
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        return errno_error("cannot write to a file in memory");
    }
    ::lseek(file.get(), 0, SEEK_SET);
    return file;
}

}  // namespace

std::string actuate_program() {
    const std::string built = dir_name(dir_name(read_link("/proc/self/exe"))) + "/usbarb/stor-actuate";
    return ::access(built.c_str(), X_OK) == 0 ? built : STOR_ACTUATE_PROGRAM;
}

bool must_wait(const Job& second, const Job& first) {
    for (const auto& one : second.devices) {
        for (const auto& other : first.devices) {
            if (meet(one, other)) return true;
        }
    }
    for (const auto& one : second.hubs) {
        for (const auto& other : first.hubs) {
            if (one.devnode == other.devnode) return true;
        }
    }
    for (const auto& one : second.functions) {
        for (const auto& other : first.functions) {
            if (one.path == other.path) return true;
        }
    }
    const auto carries = [](const Job& functions, const Job& devices) {
        for (const auto& function : functions.functions) {
            for (const auto& device : devices.devices) {
                if ((device + "/").find("/" + function.path + "/") != std::string::npos) return true;
            }
        }
        return false;
    };
    return carries(first, second) || carries(second, first);
}

struct Actuator::State : std::enable_shared_from_this<State> {
    struct Entry {
        Job job;
        std::vector<UniqueFd> in;
        Done done;               ///< empty: it has been called, or there is nobody to call
        bool abandoned = false;  ///< by an earlier stord
        UniqueFd socket;
        EventSource source;
        std::optional<ProcessWatch> process;
    };
    using Entries = std::list<Entry>;

    State(EventLoop& event_loop, Options the_options) : loop(event_loop), options(std::move(the_options)) {}

    void find_abandoned();
    size_t own_running() const;
    void pump();
    bool may_start(Entries::const_iterator candidate) const;
    Result<void> start(Entries::iterator entry);
    void read_answer(Entries::iterator entry);
    void ended(Entries::iterator entry, const ExitStatus& status);
    void finish(Entry& entry, Outcome outcome, std::vector<UniqueFd> held);

    EventLoop& loop;
    Options options;
    Entries waiting, running;
    EventSource pump_soon;
    bool closed = false;  ///< its Actuator is gone; a callback that runs just now keeps this alive
};

size_t Actuator::State::own_running() const {
    size_t count = 0;
    for (const auto& entry : running) count += entry.abandoned ? 0 : 1;
    return count;
}

void Actuator::State::find_abandoned() {
    for (const auto& name : list_directory("/proc")) {
        const auto pid = parse_unsigned(name, "process");
        if (!pid) continue;
        auto job = job_of("/proc/" + name);
        if (!job) continue;
        running.push_back({.job = std::move(*job), .abandoned = true});
        const auto entry = std::prev(running.end());
        auto process = ProcessWatch::open(loop, static_cast<pid_t>(*pid), options.priority,
                                          [this, entry](const ExitStatus& status) { ended(entry, status); });
        if (process) {
            log::notice("process {} still works for an earlier stord ({})", *pid, to_text(entry->job.action));
            entry->process = std::move(*process);
        } else {
            running.erase(entry);  // it has ended just now
        }
    }
}

bool Actuator::State::may_start(Entries::const_iterator candidate) const {
    for (const auto& entry : running) {
        if ((entry.done || entry.abandoned) && must_wait(candidate->job, entry.job)) return false;
    }
    for (auto entry = waiting.begin(); entry != candidate; ++entry) {
        if (must_wait(candidate->job, entry->job)) return false;
    }
    return true;
}

void Actuator::State::pump() {
    const auto keep = shared_from_this();
    Entries failed;
    std::vector<std::string> reasons;
    for (auto entry = waiting.begin(); entry != waiting.end();) {
        const auto next = std::next(entry);
        if (own_running() >= options.max_running) break;
        if (may_start(entry)) {
            running.splice(running.end(), waiting, entry);
            if (auto started = start(entry); !started) {
                failed.splice(failed.end(), running, entry);
                reasons.push_back(started.error().message());
            }
        }
        entry = next;
    }
    while (waiting.size() > options.max_waiting) {
        failed.splice(failed.end(), waiting, std::prev(waiting.end()));
        reasons.push_back(fmt::format("{} jobs wait already: try again later", options.max_waiting));
    }
    // callbacks last: they may call run, or end all this
    size_t index = 0;
    for (auto& entry : failed) finish(entry, {.message = reasons[index++]}, {});
}

Result<void> Actuator::State::start(Entries::iterator entry) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return errno_error("cannot create a pair of sockets");
    }
    entry->socket.reset(ends[0]);
    const UniqueFd theirs(ends[1]);
    const UniqueFd job = TRY(as_file(job_text(entry->job)));
    if (!entry->in.empty()) {
        TRY(usbarb::send_message(entry->socket.get(), {.text = "in", .descriptors = std::move(entry->in)}));
    }
    entry->source = TRY(
        loop.add_io(entry->socket.get(), EPOLLIN, options.priority, [this, entry](uint32_t) { read_answer(entry); }));
    const pid_t pid = TRY(spawn({.program = options.program, .input = job.get(), .channel = theirs.get()}));
    auto process = ProcessWatch::open(loop, pid, options.priority,
                                      [this, entry](const ExitStatus& status) { ended(entry, status); });
    if (!process) {
        // its socket still says when it has ended; without a watch nobody else reaps it
        log::warning("{}; its answer is waited for all the same", process.error().message());
        return {};
    }
    entry->process = std::move(*process);
    return {};
}

void Actuator::State::read_answer(Entries::iterator entry) {
    const auto keep = shared_from_this();
    auto message = usbarb::receive_message(entry->socket.get());
    if (!message && message.error().code == std::errc::resource_unavailable_try_again) return;
    entry->source.reset();
    if (!message && entry->process) return;  // its end, which comes next, says more
    Outcome outcome;
    if (!message) {
        outcome.message = "stor-actuate ended without an answer: look at the devices as they are now";
    } else if (auto parsed = usbarb::parse_outcome(message->text); parsed) {
        outcome = std::move(*parsed);
    } else {
        outcome.message = "cannot read the answer of stor-actuate: " + parsed.error().message();
        message->descriptors.clear();
    }
    Entry ending;
    if (entry->process) {
        ending.done = std::exchange(entry->done, nullptr);
    } else {
        ending = std::move(*entry);
        running.erase(entry);
    }
    pump_soon.arm(std::chrono::microseconds(0));
    finish(ending, std::move(outcome), message ? std::move(message->descriptors) : std::vector<UniqueFd>());
}

void Actuator::State::ended(Entries::iterator entry, const ExitStatus& status) {
    const auto keep = shared_from_this();
    // an answer may have come in the same turn
    if (entry->done) read_answer(entry);
    if (closed) return;
    Entry ending = std::move(*entry);
    running.erase(entry);
    pump_soon.arm(std::chrono::microseconds(0));
    if (!ending.done) return;
    finish(
        ending,
        {.message = fmt::format("stor-actuate {} in the middle of its work ({}): look at the devices as they are now",
                                status.describe(), to_text(ending.job.action))},
        {});
}

void Actuator::State::finish(Entry& entry, Outcome outcome, std::vector<UniqueFd> held) {
    const Done done = std::exchange(entry.done, nullptr);
    if (done && !closed) done(std::move(outcome), std::move(held));
}

Actuator::Actuator(std::shared_ptr<State> state) : state_(std::move(state)) {}

Actuator::~Actuator() {
    state_->closed = true;
    state_->waiting.clear();
    state_->running.clear();
    state_->pump_soon.reset();
}

Result<std::unique_ptr<Actuator>> Actuator::open(EventLoop& loop, Options options) {
    auto state = std::make_shared<State>(loop, std::move(options));
    state->pump_soon = TRY(
        loop.add_timer(std::chrono::microseconds(0), state->options.priority, [raw = state.get()] { raw->pump(); }));
    state->find_abandoned();
    return std::unique_ptr<Actuator>(new Actuator(std::move(state)));
}

void Actuator::run(Job job, std::vector<UniqueFd> in, Done done) {
    state_->waiting.push_back({.job = std::move(job), .in = std::move(in), .done = std::move(done)});
    state_->pump_soon.arm(std::chrono::microseconds(0));
}

size_t Actuator::running() const { return state_->own_running(); }
size_t Actuator::waiting() const { return state_->waiting.size(); }

}  // namespace storctl
