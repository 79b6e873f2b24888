#include "daemon/service_manager.hpp"

#include <ctime>

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

namespace storctl {

void notify_ready(const std::string& status) { sd_notify(0, fmt::format("READY=1\nSTATUS={}", status).c_str()); }

void notify_reloading() {
    // the time lets systemd tell this reload from an earlier one (Type=notify-reload)
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const auto microseconds = static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
    sd_notify(0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Reading the configuration", microseconds).c_str());
}

void notify_stopping() { sd_notify(0, "STOPPING=1\nSTATUS=Stopping; nodes keep running"); }

void notify_status(const std::string& status) { sd_notify(0, fmt::format("STATUS={}", status).c_str()); }

}  // namespace storctl
