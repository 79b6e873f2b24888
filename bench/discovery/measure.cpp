// One measurement: starts the device service as stord does, on whatever sysfs the process sees, and prints as JSON how
// long the first full scan took, what it holds in memory, and what the things cost that happen afterwards.

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "daemon/device_service.hpp"

namespace {

using namespace storctl;
using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Of this process, in user and kernel mode: what other load on the machine does not change.
double cpu_milliseconds() {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

/// What the process has in memory now, after the allocator has given back what it can.
double resident_kib() {
    ::malloc_trim(0);
    size_t total = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> total >> resident;
    return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1024;
}

int fail(const Error& error) {
    std::cerr << "measure: " << error.message() << "\n";
    return 1;
}

int run(const std::string& folder) {
    auto loop = EventLoop::create();
    if (!loop) return fail(loop.error());
    auto db = StateDb::open(folder + "/state.db");
    if (!db) return fail(db.error());
    EventHub hub;
    size_t changes = 0;
    hub.listen([&](const Event&) { ++changes; });
    auto opened = DeviceService::open(*loop, *db, hub, {.host = "bench"});
    if (!opened) return fail(opened.error());
    DeviceService& service = **opened;

    const double before_kib = resident_kib();
    const double before_cpu_ms = cpu_milliseconds();
    auto start = Clock::now();
    if (auto done = service.coldplug(); !done) return fail(done.error());
    const double scan_ms = milliseconds_since(start);
    const double scan_cpu_ms = cpu_milliseconds() - before_cpu_ms;
    const double held_kib = resident_kib() - before_kib;

    start = Clock::now();
    const auto described = service.describe_all();
    const double describe_ms = milliseconds_since(start);

    start = Clock::now();
    const auto match = described.empty() ? DeviceMatch{} : service.find(described.back()["name"].get<std::string>());
    const double find_ms = milliseconds_since(start);

    nlohmann::json out{{"devices", service.total()},
                       {"shared", service.shared()},
                       {"conflicts", service.conflicts()},
                       {"scan_ms", scan_ms},
                       {"scan_cpu_ms", scan_cpu_ms},
                       {"held_kib", held_kib},
                       {"describe_ms", describe_ms},
                       {"find_ms", find_ms},
                       {"found", match.outcome == DeviceMatch::Outcome::found},
                       {"events", changes}};
    std::cout << out.dump() << "\n";
    return 0;
}

}  // namespace

int main() {
    std::string folder = std::filesystem::temp_directory_path() / "measure.XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) return fail(errno_error("cannot make a temporary folder"));
    const int code = run(folder);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    return code;
}
