#include <cerrno>
#include <csignal>
#include <deque>
#include <functional>

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

constexpr size_t in_flight = 4;

/// Opened, claimed, with URBs that nothing completes.
struct Busy {
    explicit Busy(const std::string& path) : device(path) {
        for (size_t count = 0; count < in_flight; ++count) {
            Urb& urb = urbs.emplace_back(device.incoming(16384));
            if (const long result = device.node().submit(urb); result != 0) give_up("submit", result);
        }
    }
    RawDevice device;
    std::deque<Urb> urbs;
};

void next_client(const std::string& name, const std::string& path) {
    const RawNode node(path);
    report(name + ".driver", node.driver(0));
    report(name + ".claim", outcome(node.claim(0)));
    report(name + ".release", outcome(node.release(0)));
    RawDevice device(path);
    Urb urb = device.incoming(64);
    report(name + ".submit", outcome(device.node().submit(urb)));
    report(name + ".discard", outcome(device.node().discard(urb)));
    report(name + ".reap", outcome(device.node().next()->status));
}

/// A child that is busy and then ends, by itself or by a signal from here.
void a_death(const std::string& name, const std::string& path, const std::function<void(const RawNode&)>& in_child,
             int signal) {
    int ready[2];
    if (pipe(ready) != 0) give_up("pipe", -errno);
    const pid_t child = fork();
    if (child < 0) give_up("fork", -errno);
    if (child == 0) {
        Busy busy(path);
        if (write(ready[1], "", 1) != 1) _exit(9);
        if (in_child) in_child(busy.device.node());
        while (true) pause();
    }
    close(ready[1]);
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1) give_up("the child of " + name, -EIO);
    close(ready[0]);
    if (signal != 0) kill(child, signal);
    int status = 0;
    if (waitpid(child, &status, 0) != child) give_up("waitpid", -errno);
    report(name, WIFSIGNALED(status) ? fmt::format("killed by {}", WTERMSIG(status))
                                     : fmt::format("ended with {}", WEXITSTATUS(status)));
    next_client(name, path);
}

/// The disk is left in the middle of a command.
void mid_command(const std::string& path) {
    {
        RawDisk disk(path);
        Urb command = disk.outgoing(read_sectors(0, 2048)), data = disk.incoming(size_t{2048} * sector_bytes);
        report("mid_command.submit", all_of({outcome(disk.node().submit(command)), outcome(disk.node().submit(data))}));
    }
    RawDisk disk(path);
    report("mid_command.reset", outcome(disk.node().call(USBDEVFS_RESET, nullptr)));
    disk.claim();
    report("mid_command.inquiry", disk.inquire());
}

}  // namespace

void disk_lifetime_cases(const std::string& path) { mid_command(path); }

void lifetime_cases(const std::string& path) {
    {
        Busy busy(path);
        busy.device.node().close();
        report("close_in_flight", "closed");
    }
    next_client("close_in_flight", path);
    {
        Busy busy(path);
        report("release_in_flight", outcome(busy.device.node().release(0)));
        for (size_t count = 0; count < in_flight; ++count)
            report(fmt::format("release_in_flight.{}", count), outcome(busy.device.node().next()->status));
    }
    {
        Busy busy(path);
        report("reset_in_flight", outcome(busy.device.node().call(USBDEVFS_RESET, nullptr)));
        for (size_t count = 0; count < in_flight; ++count)
            report(fmt::format("reset_in_flight.{}", count), outcome(busy.device.node().next()->status));
        busy.device.claim();
    }
    a_death(
        "exit_in_flight", path, [](const RawNode&) { _exit(3); }, 0);
    a_death("killed_in_flight", path, {}, SIGKILL);
    a_death(
        "killed_in_reap", path, [](const RawNode& node) { node.reap(true); }, SIGKILL);
}

void unplug_cases(const std::string& path, const std::string& stimulus) {
    Busy busy(path);
    const RawNode& node = busy.device.node();
    report("unplug.stimulus", std::to_string(std::system(stimulus.c_str())));
    std::string revents;
    do revents = node.poll(POLLIN, std::chrono::seconds{20});
    while (revents == outcome(-EINTR));
    report("unplug.poll_errors", revents);
    report("unplug.poll", node.poll(POLLOUT | POLLIN, std::chrono::seconds{0}));
    for (size_t count = 0; count < in_flight; ++count) {
        const RawNode::Reaped reaped = node.reap(false);
        report(fmt::format("unplug.reap_{}", count),
               reaped.result < 0 ? outcome(reaped.result) : outcome(reaped.urb->status));
    }
    report("unplug.reap_nothing", outcome(node.reap(false).result));
    report("unplug.reap_blocking", outcome(node.reap(true).result));
    report("unplug.poll_empty", node.poll(POLLOUT | POLLIN, std::chrono::seconds{0}));
    Urb urb = busy.device.incoming(512);
    report("unplug.submit", outcome(node.submit(urb)));
    report("unplug.discard", outcome(node.discard(urb)));
    std::vector<std::byte> data(18);
    report("unplug.control", outcome(node.control(0x80, 6, 0x100, 0, data)));
    report("unplug.claim", outcome(node.claim(0)));
    report("unplug.release", outcome(node.release(0)));
    report("unplug.reset", outcome(node.call(USBDEVFS_RESET, nullptr)));
    report("unplug.speed", outcome(node.call(USBDEVFS_GET_SPEED, nullptr)));
    const ssize_t got = ::read(node.fd(), data.data(), data.size());
    report("unplug.read", outcome(got < 0 ? -errno : got));
    report("unplug.open", outcome(RawNode::try_open(path, O_RDWR)));
}

}  // namespace storctl::usbfs_client
