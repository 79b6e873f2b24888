#include "daemon/process_watch.hpp"

#include <cstring>

#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace storctl {
namespace {

constexpr auto wait_by_pidfd = static_cast<idtype_t>(3);  // P_PIDFD, linux/wait.h

ExitStatus reap(int pidfd) {
    siginfo_t info{};
    if (::waitid(wait_by_pidfd, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0) return {};
    if (info.si_pid == 0) return {};
    if (info.si_code == CLD_EXITED) return {.code = info.si_status};
    return {.signal = info.si_status};
}

}  // namespace

std::string ExitStatus::describe() const {
    if (code) return fmt::format("exited with status {}", *code);
    if (signal) return fmt::format("was killed by signal {} ({})", *signal, ::strsignal(*signal));
    return "ended";
}

Result<ProcessWatch> ProcessWatch::open(EventLoop& loop, pid_t pid, int64_t priority,
                                        std::function<void(ExitStatus)> on_exit) {
    ProcessWatch watch;
    watch.pid_ = pid;
    watch.fd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // close-on-exec from birth
    if (!watch.fd_) return errno_error(fmt::format("cannot follow process {}", pid));
    watch.source_ = TRY(loop.add_pidfd(watch.fd_.get(), priority,
                                       [fd = watch.fd_.get(), on_exit = std::move(on_exit)] { on_exit(reap(fd)); }));
    return watch;
}

void ProcessWatch::kill(int signal) const { ::syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0); }

}  // namespace storctl
