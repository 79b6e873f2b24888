#include <atomic>
#include <cerrno>
#include <csignal>
#include <semaphore>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

using namespace std::chrono_literals;

void polls(RawDevice& device) {
    const RawNode& node = device.node();
    report("poll.idle", node.poll(POLLOUT | POLLIN, 0ms));
    report("poll.timeout", node.poll(POLLOUT | POLLIN, 50ms));
    Urb waiting = device.incoming(status_wrapper_bytes);
    report("poll.submit", outcome(node.submit(waiting)));
    report("poll.in_flight", node.poll(POLLOUT, 0ms));
    node.discard(waiting);
    report("poll.completed", node.poll(POLLOUT | POLLWRNORM | POLLIN, 20s));
    report("poll.other_events", node.poll(POLLIN, 0ms));
    report("poll.reap", outcome(node.reap(false).result));
    report("poll.reaped", node.poll(POLLOUT, 0ms));
}

void epoll(RawDisk& disk) {
    const RawNode& node = disk.node();
    const UniqueFd set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLOUT, .data = {}};
    report("epoll.add", outcome(epoll_ctl(set.get(), EPOLL_CTL_ADD, node.fd(), &event)));
    report("epoll.idle", outcome(epoll_wait(set.get(), &event, 1, 0)));
    Urb command = disk.outgoing(inquiry()), data = disk.incoming(36), status = disk.incoming(status_wrapper_bytes);
    node.submit(command);
    const int woken = epoll_wait(set.get(), &event, 1, 20'000);
    report("epoll.woken", fmt::format("{} {:#x}", woken, woken > 0 ? event.events : 0U));
    report("epoll.command", fmt::format("{}", node.next() == command.header()));
    node.submit(data);
    node.submit(status);
    report("epoll.data", fmt::format("{}", node.next() == data.header()));
    report("epoll.status", fmt::format("{}", node.next() == status.header()));
}

void a_signal(RawDevice& device) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 200'000},
                          .it_value = {.tv_sec = 0, .tv_usec = 200'000}};
    setitimer(ITIMER_REAL, &often, nullptr);
    report("signal.reap", outcome(device.node().reap(true).result));
    Urb waiting = device.incoming(512);
    device.node().submit(waiting);
    report("signal.reap_in_flight", outcome(device.node().reap(true).result));
    const itimerval never{};
    setitimer(ITIMER_REAL, &never, nullptr);
    device.node().discard(waiting);
    report("signal.reaped", fmt::format("{}", device.node().reap(true).urb == waiting.header()));
}

std::string describe(usbdevfs_urb* urb) {
    return fmt::format("{} {} bytes, {} errors", outcome(urb->status), urb->actual_length, urb->error_count);
}

void discarded(RawDevice& device) {
    const RawNode& node = device.node();
    Urb never = device.incoming(512);
    report("discard.never_submitted", outcome(node.discard(never)));
    report("discard.bad_pointer", outcome(node.call(USBDEVFS_DISCARDURB, untouchable_page())));
    Urb waiting = device.incoming(512);
    report("discard.submit", outcome(node.submit(waiting)));
    report("discard", outcome(node.discard(waiting)));
    report("discard.again", outcome(node.discard(waiting)));
    report("discard.reaped", node.next() == waiting.header() ? describe(waiting.header()) : "another URB");
    report("discard.after", outcome(node.discard(waiting)));
    Urb first = device.incoming(512), second = device.incoming(512);
    report("discard.two", all_of({outcome(node.submit(first)), outcome(node.submit(second))}));
    report("discard.last", outcome(node.discard(second)));
    report("discard.last_reaped", node.next() == second.header() ? describe(second.header()) : "another URB");
    report("discard.first", outcome(node.discard(first)));
    report("discard.first_reaped", node.next() == first.header() ? describe(first.header()) : "another URB");
}

void timeouts(RawDevice& device) {
    std::vector<std::byte> data(64);
    report("timeout.bulk", outcome(device.node().bulk(device.in(), data, 150)));
    report("timeout.again", outcome(device.node().bulk(device.in(), data, 50)));
}

/// One thread reaps what another submits, blocked in its call when the other makes its own.
void two_threads(RawDisk& disk) {
    constexpr uint32_t commands = 50;
    constexpr uint16_t sectors = 32;
    std::counting_semaphore<> reaped{0};
    std::atomic<int> failed = 0;
    std::thread reaper([&] {
        for (uint32_t count = 0; count < 3 * commands; ++count) {
            const RawNode::Reaped one = disk.node().reap(true);
            if (one.result < 0 || one.urb->status != 0) ++failed;
            reaped.release();
        }
    });
    int refused = 0, different = 0;
    for (uint32_t command = 0; command < commands; ++command) {
        const uint32_t first = command * sectors;
        Urb wrapper = disk.outgoing(read_sectors(first, sectors)), data = disk.incoming(sectors * sector_bytes),
            status = disk.incoming(status_wrapper_bytes);
        for (Urb* urb : {&wrapper, &data, &status}) {
            refused += disk.node().submit(*urb) != 0 ? 1 : 0;
            reaped.acquire();
        }
        different += compare_pattern(data.data(), first, 1) != "as written" ? 1 : 0;
    }
    reaper.join();
    report("threads", fmt::format("{} refused, {} failed, {} different", refused, failed.load(), different));
    report("threads.inquiry", disk.inquire());
}

}  // namespace

void waiting_cases(const std::string& path) {
    RawDisk disk(path);
    epoll(disk);
    two_threads(disk);
}

void quiet_cases(const std::string& path) {
    RawDevice device(path);
    polls(device);
    a_signal(device);
    discarded(device);
    timeouts(device);
}

}  // namespace storctl::usbfs_client
