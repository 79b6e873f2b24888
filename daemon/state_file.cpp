// Two timers lead to one write: `when_idle_` runs after everything else of the turn; `deadline_` runs before clients,
// in case they keep the loop busy. Writing takes at most a tenth of the time: after a write that took t, the next one
// waits for 9 t (a fraction of a millisecond for some disks, half a second for ten thousand).

#include "daemon/state_file.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/priorities.hpp"

namespace storctl {
namespace {

constexpr mode_t file_mode = 0644;
constexpr std::chrono::milliseconds busy_loop_deadline{250};
constexpr std::chrono::seconds retry_delay{1};
constexpr int rest_factor = 9;

}  // namespace

Result<std::unique_ptr<StateFile>> StateFile::open(EventLoop& loop, std::string path, Contents contents) {
    std::unique_ptr<StateFile> file(new StateFile(std::move(path), std::move(contents)));
    const auto run = [raw = file.get()] { raw->write_if_pending(); };
    file->when_idle_ = TRY(loop.add_timer(std::chrono::microseconds(0), priority::state_file, run));
    file->deadline_ = TRY(loop.add_timer(std::chrono::microseconds(0), priority::state_file_deadline, run));
    return file;
}

void StateFile::touch() {
    if (pending_) return;
    pending_ = true;
    const auto rest = std::max(Clock::duration::zero(), not_before_ - Clock::now());
    const auto delay = std::chrono::duration_cast<std::chrono::microseconds>(rest);
    when_idle_.arm(delay);
    deadline_.arm(delay + busy_loop_deadline);
}

void StateFile::write_if_pending() {
    if (!pending_) return;
    const auto done = write();
    const std::string problem = done ? "" : done.error().message();
    if (!done && problem != last_problem_) log::error("{}; readers see an old state until it works", problem);
    last_problem_ = problem;
    if (done) return;
    not_before_ = std::max(not_before_, Clock::now() + retry_delay);
    touch();
}

Result<void> StateFile::write() {
    pending_ = false;
    const auto start = Clock::now();
    const nlohmann::json contents = contents_();
    const std::string text = contents.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    auto done = write_file_atomic(path_, text, file_mode, false);
    if (done && on_written_) on_written_(contents);
    const auto end = Clock::now();
    not_before_ = end + rest_factor * (end - start);
    return done;
}

}  // namespace storctl
