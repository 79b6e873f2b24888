#pragma once
// The cases, by what they are about. Each opens the node itself, and what it writes it has read before or shadows.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace storctl::sg_client {

struct CompareOptions {
    std::string file;  ///< what the node stands in front of: read before and after
    uint32_t operations = 1000;
    uint32_t seed = 1;
    bool v3 = true, v4 = false;
};
/// Reads and writes of all sizes at random places, flat and scattered; every byte compared, and the file at the end.
void compare(const std::string& path, const CompareOptions& options);

/// So many at once on one descriptor, each with blocks of its own.
void thread_cases(const std::string& path, unsigned threads);
/// Of a node whose commands take a while: they overlap, and their headers' timeouts are kept.
void slow_cases(const std::string& path, unsigned threads);

void hostile_cases(const std::string& path);
void hostile_v4_cases(const std::string& path);
void async_cases(const std::string& path);
void ioctl_cases(const std::string& path);
/// Children with commands in flight are killed; each is gone within seconds, and the node goes on.
void killed_cases(const std::string& path, unsigned times);

/// One PERSISTENT RESERVE OUT, from this process: ACTION KEY SERVICE-KEY TYPE [aptpl].
bool reserve(const std::string& path, const std::vector<std::string>& words);
/// Block 0 is read, or written as it was, or asked about: what the node answers.
bool access(const std::string& path, std::string_view what);

}  // namespace storctl::sg_client
