#include "daemon/crash_point.hpp"

#include <cstdlib>
#include <optional>

#include <signal.h>
#include <unistd.h>

namespace storctl {
namespace {

std::optional<CrashPoint> read_environment() {
    const char* const value = ::getuid() == 0 ? ::secure_getenv("STORCTL_CRASH_AT") : nullptr;
    return value != nullptr ? from_text<CrashPoint>(value) : std::nullopt;
}

}  // namespace

void crash_point(CrashPoint here) {
    static const std::optional<CrashPoint> chosen = read_environment();
    if (chosen == here) ::raise(SIGKILL);
}

}  // namespace storctl
