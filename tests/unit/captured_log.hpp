#pragma once
// What is logged, for a test to read. Whatever else the process writes to standard error is in it too.

#include <string>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/unique_fd.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace storctl::test {

/// Standard error goes to a file as long as this lives: what is logged.
class CapturedLog {
 public:
    CapturedLog() : saved_(::dup(STDERR_FILENO)) {
        const UniqueFd file = std::move(*open_file(folder_ / "log", O_CREAT | O_WRONLY | O_APPEND));
        ::dup2(file.get(), STDERR_FILENO);
    }
    CapturedLog(const CapturedLog&) = delete;
    CapturedLog& operator=(const CapturedLog&) = delete;
    ~CapturedLog() { ::dup2(saved_.get(), STDERR_FILENO); }
    std::string text() const { return *read_file(folder_ / "log"); }
    bool has(std::string_view part) const { return text().find(part) != std::string::npos; }

 private:
    TemporaryFolder folder_;
    UniqueFd saved_;
};

}  // namespace storctl::test
