#include "daemon/node/end_watch.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace storctl::node {

EndWatch::EndWatch(std::string name, std::string mount_path, unsigned connection, std::chrono::milliseconds limit)
    : name_(std::move(name)), mount_path_(std::move(mount_path)), connection_(connection), thread_([this, limit] {
          std::unique_lock lock(mutex_);
          if (changed_.wait_for(lock, limit, [this] { return ended_; })) return;
          log::warning("node {}: its last requests are unanswered after {} ms, ending all the same", name_,
                       limit.count());
          abort();
          ::_exit(1);
      }) {}

EndWatch::~EndWatch() {
    {
        const std::lock_guard lock(mutex_);
        ended_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

/// Through fusectl, which also reaches a mount that was taken away lazily; else by a forced unmount.
void EndWatch::abort() const {
    const std::string control = fmt::format("/sys/fs/fuse/connections/{}/abort", connection_);
    const UniqueFd fd(::open(control.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd && ::write(fd.get(), "1", 1) == 1) return;
    ::umount2(mount_path_.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW);
}

}  // namespace storctl::node
