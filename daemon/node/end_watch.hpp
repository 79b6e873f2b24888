#pragma once
// Bounds the end of a node: a backing or loop device that never answers must not leave a process that nobody can end.
// When the time is up, the FUSE connection is aborted, which frees whoever waits in the kernel for us, and the process
// ends.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include <sys/types.h>

namespace storctl::node {

class EndWatch {
 public:
    /// `mount_path` is still mounted; `connection` is its device number's minor, which names it in fusectl.
    EndWatch(std::string name, std::string mount_path, unsigned connection, std::chrono::milliseconds limit);
    /// The end came in time.
    ~EndWatch();
    EndWatch(const EndWatch&) = delete;
    EndWatch& operator=(const EndWatch&) = delete;

 private:
    void abort() const;

    const std::string name_, mount_path_;
    const unsigned connection_;
    std::mutex mutex_;  // guards ended_
    std::condition_variable changed_;
    bool ended_ = false;
    std::thread thread_;
};

}  // namespace storctl::node
