#include "daemon/node/holder.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/text.hpp"

namespace storctl::node {
namespace {

/// "Tgid:\t1234" of /proc/TID/status: the process that a thread belongs to. 0 when it is gone.
int thread_group(int thread_id) {
    const auto status = read_file(fmt::format("/proc/{}/status", thread_id));
    if (!status) return 0;
    constexpr std::string_view key = "\nTgid:";
    const auto at = status->find(key);
    if (at == std::string::npos) return 0;
    const std::string_view rest = std::string_view(*status).substr(at + key.size());
    const auto pid = parse_unsigned(trim(rest.substr(0, rest.find('\n'))), "Tgid");
    return pid ? static_cast<int>(*pid) : 0;
}

}  // namespace

Opener identify_holder(int thread_id) {
    Opener opener{.pid = thread_id > 0 ? thread_group(thread_id) : 0, .program = "unknown", .since = wall_now()};
    if (opener.pid == ::getpid()) {
        opener.program = "loop device";
    } else if (opener.pid != 0) {
        opener.program = read_attribute(fmt::format("/proc/{}/comm", opener.pid));
    }
    return opener;
}

}  // namespace storctl::node
