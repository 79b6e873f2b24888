#pragma once
// What a policy has denied, each sentence once, so that a consumer cannot fill the log. Any thread.

#include <mutex>
#include <set>
#include <string>

namespace storctl::node::usbfs {

class DenialLog {
 public:
    static constexpr size_t most_told = 256;

    /// What is to be logged; empty: nothing, since that was.
    std::string note(const std::string& what);

 private:
    std::mutex mutex_;
    std::set<std::string> told_;
    bool full_ = false;
};

}  // namespace storctl::node::usbfs
