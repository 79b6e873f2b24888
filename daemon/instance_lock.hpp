#pragma once
// One stord per state directory and per run directory: an flock(2) on DIR/stord.lock, held for the process's life.

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

class InstanceLock {
 public:
    /// `purpose` names the directory in the refusal: "state directory". device_or_resource_busy: another process has
    /// it.
    static Result<InstanceLock> take(const std::string& directory, const std::string& purpose);

 private:
    explicit InstanceLock(UniqueFd file) : file_(std::move(file)) {}
    UniqueFd file_;
};

}  // namespace storctl
