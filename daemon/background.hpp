#pragma once
// Background mode: the calling process returns when the daemon is ready, or says why it is not. Before any thread,
// descriptor or loop exists.

#include <optional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

class Background {
 public:
    /// Forks. In the caller: does not return but exits, 0 once the daemon is ready, 1 after printing its error.
    /// In the daemon: a session of its own, standard input and output on /dev/null.
    static Result<Background> enter();

    /// Lets the caller go with success; from then on standard error goes to `log_path`.
    Result<void> ready(const std::string& log_path);
    /// Lets the caller go with this error.
    void failed(const std::string& message);

 private:
    explicit Background(UniqueFd report) : report_(std::move(report)) {}
    UniqueFd report_;
};

}  // namespace storctl
