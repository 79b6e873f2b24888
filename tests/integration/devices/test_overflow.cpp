// A real overflow: this kernel's own event socket with the smallest buffer there is, flooded with "change" events of a
// loop device that nobody reads. The kernel then reports ENOBUFS, and discovery must enumerate again. Exit status 77:
// skipped, the last line says why.

#include <chrono>
#include <iostream>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.hpp"
#include "daemon/discovery.hpp"

namespace {

using namespace storctl;

int fail(const std::string& why) {
    std::cerr << "FAIL: " << why << "\n";
    return 1;
}

int skip(const std::string& why) {
    std::cout << "SKIP: " << why << "\n";
    return 77;
}

}  // namespace

int main() {
    constexpr int events = 2000;
    const std::string device = "/sys/block/loop0/uevent";
    if (::access(device.c_str(), W_OK) != 0) return skip("needs write access to " + device + " (root, module loop)");
    if (::access("/run/udev/control", F_OK) == 0) return skip("udevd runs here, and would be flooded as well");
    auto loop = EventLoop::create();
    if (!loop) return fail(loop.error().message());
    size_t full = 0, found = 0;
    auto discovery = Discovery::open(*loop, {.monitor_buffer_bytes = 1}, [&](const DiscoveryBatch& batch) {
        if (!batch.full) return;
        ++full;
        found = batch.present.size();
    });
    if (!discovery) return fail(discovery.error().message());
    if (auto done = (*discovery)->coldplug(); !done) return fail(done.error().message());
    const size_t at_start = found;
    if (full != 1 || at_start == 0) return fail("nothing was found at start");

    const auto fd = open_file(device, O_WRONLY);
    if (!fd) return fail(fd.error().message());
    for (int i = 0; i < events; ++i) {
        if (::write(fd->get(), "change", 6) != 6) return fail("cannot send an event: " + device);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (full < 2) {
        if (std::chrono::steady_clock::now() > deadline) {
            return fail("no enumeration after " + std::to_string((*discovery)->overflows()) + " overflows");
        }
        if (auto turn = loop->run_once(std::chrono::milliseconds(100)); !turn) return fail(turn.error().message());
    }
    if ((*discovery)->overflows() == 0) return fail("the buffer did not overflow");
    if (found != at_start) return fail("the second enumeration found other devices");
    if (!(*discovery)->monitoring()) return fail("events are no longer heard");
    std::cout << (*discovery)->overflows() << " overflows, " << full - 1 << " enumerations of " << found
              << " devices\n";
    return 0;
}
