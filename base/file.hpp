#pragma once
// Small whole-file operations for /proc, /sys and our own state. Blocking; never for a device's data.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace storctl {

inline constexpr size_t default_read_limit_bytes = 1 << 20;

/// The whole file, at most `limit_bytes`; longer is an error (file_too_large), never a silent cut.
Result<std::string> read_file(const std::string& path, size_t limit_bytes = default_read_limit_bytes);
Result<std::vector<uint8_t>> read_bytes(const std::string& path, size_t limit_bytes = default_read_limit_bytes);
/// A sysfs attribute: the file's text, trimmed; empty when it is missing or cannot be read.
std::string read_attribute(const std::string& path);
/// Replace `path` as one step: a temporary file beside it, fsync, rename, fsync of the folder.
/// `durable` false leaves both fsyncs out (for a file that need not survive a power cut).
Result<void> write_file_atomic(const std::string& path, std::string_view content, mode_t mode = 0644,
                               bool durable = true);
/// mkdir -p; existing folders keep their mode.
Result<void> make_directories(const std::string& path, mode_t mode = 0755);
Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode = 0644);
/// Last component of a path, without following links.
std::string base_name(std::string_view path);
std::string dir_name(std::string_view path);
/// realpath(3).
Result<std::string> real_path(const std::string& path);
/// Where a symbolic link leads, as its text says; empty when it is none.
std::string read_link(const std::string& path);
/// Names in a folder, sorted, without . and ..; empty when it cannot be read.
std::vector<std::string> list_directory(const std::string& path);
/// The same where what is missing would be taken for a "no": a folder that is not there has no names, every other
/// failure is an error.
Result<std::vector<std::string>> read_directory(const std::string& path);

}  // namespace storctl
