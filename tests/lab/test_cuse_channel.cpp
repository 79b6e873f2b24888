// CuseChannel on the real kernel: what a consumer of the device gets, and what the server sees of it. Needs root and
// /dev/cuse. The test answers each request itself; consumers run on threads, or as processes where they are killed.

#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <numeric>
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "daemon/node/cuse_channel.hpp"

namespace {

using namespace storctl;
using namespace storctl::node;
using Kind = CuseRequest::Kind;
using Bytes = std::vector<std::byte>;

constexpr auto patience = std::chrono::seconds(20);
constexpr unsigned test_major = 189, test_minor = 8192 + 40;
constexpr uint64_t test_handle = 0x700000001;
constexpr uint32_t test_command = 0x8038550a;  // wrong direction bits, as usbfs has them

struct Seen {
    CuseRequest request;
    Bytes in;
};

/// Two threads receive; the test takes what they got, in order, and answers.
class Server {
 public:
    explicit Server(std::unique_ptr<CuseChannel> channel) : channel_(std::move(channel)) {
        for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { run(); });
    }
    ~Server() {
        channel_->abort();
        for (std::thread& thread : threads_) thread.join();
    }
    CuseChannel& channel() { return *channel_; }

    Seen next(Kind kind) {
        std::unique_lock lock(mutex_);
        REQUIRE(changed_.wait_for(lock, patience, [&] { return !seen_.empty(); }));
        Seen first = std::move(seen_.front());
        seen_.pop_front();
        REQUIRE(first.request.kind == kind);
        return first;
    }
    void accept_open() { CHECK(channel_->answer_open(next(Kind::open).request.unique, test_handle)); }
    void accept_release() { CHECK(channel_->answer_error(next(Kind::release).request.unique, 0)); }
    void wait_for_end() {
        std::unique_lock lock(mutex_);
        REQUIRE(changed_.wait_for(lock, patience, [&] { return ended_ == threads_.size(); }));
    }

 private:
    void run() {
        Bytes buffer(CuseChannel::buffer_bytes);
        for (;;) {
            const auto got = channel_->receive(buffer);
            const std::lock_guard lock(mutex_);
            if (!got || !*got) {
                ++ended_;
                return changed_.notify_all();
            }
            Seen one{.request = **got, .in = {(*got)->in.begin(), (*got)->in.end()}};
            one.request.in = {};
            seen_.push_back(std::move(one));
            changed_.notify_all();
        }
    }

    std::unique_ptr<CuseChannel> channel_;
    std::mutex mutex_;  // guards seen_, ended_
    std::condition_variable changed_;
    std::deque<Seen> seen_;
    size_t ended_ = 0;
    std::vector<std::thread> threads_;
};

std::unique_ptr<CuseChannel> make_channel(const std::string& name = "storctl/usb/test", unsigned minor = test_minor) {
    auto channel = CuseChannel::create({.name = name, .major = test_major, .minor = minor});
    if (!channel) FAIL(channel.error().message());
    return *std::move(channel);
}

template <class F>
auto in_background(F work) {
    return std::async(std::launch::async, std::move(work));
}

template <class T>
T outcome(std::future<T>& future) {
    REQUIRE(future.wait_for(patience) == std::future_status::ready);
    return future.get();
}

struct Outcome {
    long result = 0;
    int error = 0;
    bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(long result) { return {result, result < 0 ? errno : 0}; }

UniqueFd open_device(Server& server, int flags = O_RDWR) {
    auto opening = in_background([path = server.channel().path(), flags] { return ::open(path.c_str(), flags); });
    server.accept_open();
    UniqueFd fd(outcome(opening));
    REQUIRE(fd);
    return fd;
}

void close_device(Server& server, UniqueFd fd) {
    auto closing = in_background([fd = fd.release()] { return ::close(fd); });
    server.accept_release();
    CHECK(outcome(closing) == 0);
}

Outcome ioctl_with(int fd, void* argument) { return outcome_of(::ioctl(fd, test_command, argument)); }

Bytes pattern(size_t size) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 4096);
    return bytes;
}

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

TEST_CASE("the device is there with its number when it is made, and gone when its channel is") {
    struct stat status {};
    {
        const auto channel = make_channel();
        CHECK(channel->path() == "/dev/storctl/usb/test");
        REQUIRE(::stat(channel->path().c_str(), &status) == 0);
        CHECK(S_ISCHR(status.st_mode));
        CHECK(major(status.st_rdev) == test_major);
        CHECK(minor(status.st_rdev) == test_minor);
    }
    CHECK(::stat("/dev/storctl/usb/test", &status) == -1);
    CHECK(errno == ENOENT);
}

TEST_CASE("open, read and write arrive as they were asked for") {
    Server server(make_channel());
    std::atomic<int> client = 0;
    auto opening = in_background([&] {
        client = ::gettid();
        return ::open(server.channel().path().c_str(), O_RDONLY | O_NONBLOCK);
    });
    const auto request = server.next(Kind::open).request;
    CHECK((request.open_flags & O_ACCMODE) == O_RDONLY);
    CHECK((request.open_flags & O_NONBLOCK) != 0);
    CHECK(request.thread_id == client);
    SUBCASE("refused") {
        CHECK(server.channel().answer_error(request.unique, EBUSY));
        CHECK(outcome(opening) == -1);
    }
    SUBCASE("granted, read") {
        CHECK(server.channel().answer_open(request.unique, test_handle));
        UniqueFd fd(outcome(opening));
        Bytes got(100);
        auto reading = in_background([&] { return outcome_of(::pread(fd.get(), got.data(), got.size(), 18)); });
        const auto read = server.next(Kind::read).request;
        CHECK(read.handle == test_handle);
        CHECK(read.size == 100);
        CHECK(server.channel().answer_data(read.unique, pattern(18)));
        CHECK(outcome(reading) == Outcome{18});
        got.resize(18);
        CHECK(got == pattern(18));
        close_device(server, std::move(fd));
    }
    SUBCASE("granted for writing, written in legs") {
        CHECK(server.channel().answer_error(request.unique, EACCES));
        CHECK(outcome(opening) == -1);
        UniqueFd fd = open_device(server, O_WRONLY);
        const Bytes data = pattern(CuseChannel::leg_bytes + 4096);
        auto writing = in_background([&] { return outcome_of(::write(fd.get(), data.data(), data.size())); });
        Bytes arrived;
        while (arrived.size() < data.size()) {
            const Seen write = server.next(Kind::write);
            REQUIRE_FALSE(write.in.empty());
            arrived.insert(arrived.end(), write.in.begin(), write.in.end());
            CHECK(server.channel().answer_written(write.request.unique, write.request.in_size));
        }
        CHECK(outcome(writing) == Outcome{static_cast<long>(data.size())});
        CHECK(arrived == data);
        close_device(server, std::move(fd));
    }
}

TEST_CASE("an ioctl's data go by further legs, to and from where the server says") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    struct Header {
        uint64_t data;
        uint32_t value;
    };
    std::array<char, 8> target{};
    Header header{.data = address(target.data()), .value = 42};
    auto calling = in_background([&] { return ioctl_with(fd.get(), &header); });

    Seen leg = server.next(Kind::ioctl);
    CHECK(leg.request.command == test_command);
    CHECK(leg.request.argument == address(&header));
    CHECK_FALSE(leg.request.compat);
    CHECK(leg.request.in_size == 0);
    const std::array first{CallerSegment{leg.request.argument, sizeof header}};
    CHECK(server.channel().answer_retry(leg.request.unique, first, {}));

    leg = server.next(Kind::ioctl);
    REQUIRE(leg.in.size() == sizeof header);
    Header seen{};
    std::memcpy(&seen, leg.in.data(), sizeof seen);
    CHECK(seen.value == 42);
    const std::array out{CallerSegment{seen.data + 4, 4}, CallerSegment{leg.request.argument + 8, 4}};
    CHECK(server.channel().answer_retry(leg.request.unique, first, out));

    leg = server.next(Kind::ioctl);
    CHECK(leg.request.in_size == sizeof header);
    CHECK(leg.request.out_size == 8);
    const uint32_t answer = 77;
    const std::array parts{iovec{const_cast<char*>("good"), 4}, iovec{const_cast<uint32_t*>(&answer), 4}};
    CHECK(server.channel().answer_ioctl(leg.request.unique, 3, parts));
    CHECK(outcome(calling) == Outcome{3});
    CHECK(std::string(target.data(), 8) == std::string("\0\0\0\0good", 8));
    CHECK(header.value == 77);
    close_device(server, std::move(fd));
}

TEST_CASE("a leg carries 128 KiB each way and no more") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    const Bytes source = pattern(CuseChannel::leg_bytes + 1);
    Bytes target(CuseChannel::leg_bytes + 1);
    auto calling = in_background([&] { return ioctl_with(fd.get(), nullptr); });
    const auto unique = server.next(Kind::ioctl).request.unique;
    SUBCASE("that much, in 256 segments") {
        std::vector<CallerSegment> in, out;
        for (size_t i = 0; i < CuseChannel::most_segments / 2; ++i) {
            in.push_back({address(source.data()) + i * 1024, 1024});
            out.push_back({address(target.data()) + i * 1024, 1024});
        }
        CHECK(server.channel().answer_retry(unique, in, out));
        const Seen leg = server.next(Kind::ioctl);
        CHECK(leg.request.out_size == CuseChannel::leg_bytes);
        REQUIRE(leg.in.size() == CuseChannel::leg_bytes);
        const std::array whole{iovec{const_cast<std::byte*>(leg.in.data()), leg.in.size()}};
        CHECK(server.channel().answer_ioctl(leg.request.unique, 0, whole));
        CHECK(outcome(calling) == Outcome{0});
        target.back() = source.back();
        CHECK(target == source);
    }
    SUBCASE("one byte more to read") {
        const std::array in{CallerSegment{address(source.data()), CuseChannel::leg_bytes + 1}};
        CHECK(server.channel().answer_retry(unique, in, {}));
        CHECK(outcome(calling) == Outcome{-1, ENOMEM});
    }
    SUBCASE("one byte more to write") {
        const std::array out{CallerSegment{address(target.data()), CuseChannel::leg_bytes + 1}};
        CHECK(server.channel().answer_retry(unique, {}, out));
        CHECK(outcome(calling) == Outcome{-1, ENOMEM});
    }
    SUBCASE("memory that is not there") {
        const std::array in{CallerSegment{8, 16}};
        CHECK(server.channel().answer_retry(unique, in, {}));
        CHECK(outcome(calling) == Outcome{-1, EFAULT});
    }
    close_device(server, std::move(fd));
}

TEST_CASE("errors reach the consumer, and no answer leaves it waiting") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    for (const auto& [given, expected] : {std::pair{EBUSY, EBUSY}, {ENOSYS, ENOTTY}, {512, EIO}}) {
        auto calling = in_background([&] { return ioctl_with(fd.get(), nullptr); });
        const auto unique = server.next(Kind::ioctl).request.unique;
        CHECK(server.channel().answer_error(unique, given));
        CHECK(outcome(calling) == Outcome{-1, expected});
        CHECK_FALSE(server.channel().answer_error(unique, EBUSY));  // answered already
    }
    close_device(server, std::move(fd));
}

TEST_CASE("a 32-bit caller is told apart") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    void* low = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    REQUIRE(low != MAP_FAILED);
    std::memcpy(low, "low", 4);
    auto calling = in_background([&] {
        int result = 54;  // ioctl of the 32-bit table
        asm volatile("int $0x80"
                     : "+a"(result)
                     : "b"(fd.get()), "c"(test_command), "d"(static_cast<uint32_t>(address(low)))
                     : "memory", "r8", "r9", "r10", "r11");
        return result;
    });
    auto leg = server.next(Kind::ioctl);
    CHECK(leg.request.compat);
    CHECK(leg.request.command == test_command);
    CHECK(leg.request.argument == address(low));
    const std::array in{CallerSegment{leg.request.argument, 4}};
    CHECK(server.channel().answer_retry(leg.request.unique, in, {}));
    leg = server.next(Kind::ioctl);
    CHECK(leg.in.size() == 4);
    CHECK(server.channel().answer_ioctl(leg.request.unique, 5));
    CHECK(outcome(calling) == 5);
    ::munmap(low, 4096);
    close_device(server, std::move(fd));
}

TEST_CASE("whoever polls is woken by the notice and asks again") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    auto polling = in_background([&] {
        pollfd wanted{.fd = fd.get(), .events = POLLOUT, .revents = 0};
        const int ready = ::poll(&wanted, 1, std::chrono::milliseconds(patience).count());
        return std::pair(ready, wanted.revents);
    });
    const auto first = server.next(Kind::poll).request;
    CHECK(first.handle == test_handle);
    CHECK(first.notify);
    CHECK((first.events & POLLOUT) != 0);
    CHECK(server.channel().answer_poll(first.unique, 0));
    server.channel().notify_poll(first.poll_handle);
    const auto second = server.next(Kind::poll).request;
    CHECK(second.poll_handle == first.poll_handle);
    CHECK(server.channel().answer_poll(second.unique, POLLOUT | POLLERR | POLLHUP));
    CHECK(outcome(polling) == std::pair<int, short>(1, POLLOUT | POLLERR | POLLHUP));
    close_device(server, std::move(fd));
    server.channel().notify_poll(first.poll_handle);  // nobody there any more: harmless
}

TEST_CASE("one request that waits keeps no other waiting") {
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    auto slow = in_background([&] { return ioctl_with(fd.get(), nullptr); });
    const auto held = server.next(Kind::ioctl).request.unique;
    auto quick = in_background([&] {
        pollfd wanted{.fd = fd.get(), .events = POLLOUT, .revents = 0};
        return ::poll(&wanted, 1, 0);
    });
    const auto poll = server.next(Kind::poll).request;
    CHECK_FALSE(poll.notify);
    CHECK(server.channel().answer_poll(poll.unique, POLLOUT));
    CHECK(outcome(quick) == 1);
    CHECK(server.channel().answer_ioctl(held, 0));
    CHECK(outcome(slow) == Outcome{0});
    close_device(server, std::move(fd));
}

TEST_CASE("a signal becomes an interrupt, which may be put off") {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    REQUIRE(::sigaction(SIGUSR1, &action, nullptr) == 0);
    Server server(make_channel());
    UniqueFd fd = open_device(server);
    std::promise<pthread_t> thread;
    auto calling = in_background([&] {
        thread.set_value(::pthread_self());
        return ioctl_with(fd.get(), nullptr);
    });
    const auto unique = server.next(Kind::ioctl).request.unique;
    ::pthread_kill(thread.get_future().get(), SIGUSR1);
    auto interrupt = server.next(Kind::interrupt).request;
    CHECK(interrupt.interrupted == unique);
    CHECK(server.channel().interrupt_again(interrupt.unique));
    interrupt = server.next(Kind::interrupt).request;
    CHECK(interrupt.interrupted == unique);
    CHECK(server.channel().answer_error(unique, EINTR));
    CHECK(outcome(calling) == Outcome{-1, EINTR});
    CHECK_FALSE(server.channel().interrupt_again(interrupt.unique));  // nothing to interrupt any more
    close_device(server, std::move(fd));
}

TEST_CASE("a consumer that is killed ends with the answer, and its file is released") {
    const pid_t child = ::fork();
    if (child == 0) {
        // waits for the device, which is made by the parent's threads that a child does not have
        for (int fd = -1;;) {
            if (fd < 0) fd = ::open("/dev/storctl/usb/test", O_RDWR);
            if (fd >= 0) ::ioctl(fd, test_command, nullptr);
            ::sched_yield();
        }
    }
    Server server(make_channel());
    server.accept_open();
    const auto held = server.next(Kind::ioctl).request;
    CHECK(held.thread_id == child);
    ::kill(child, SIGKILL);
    CHECK(server.next(Kind::interrupt).request.interrupted == held.unique);
    int status = 0;
    CHECK(::waitpid(child, &status, WNOHANG) == 0);  // a request that was taken holds it
    CHECK(server.channel().answer_error(held.unique, EINTR));
    const auto release = server.next(Kind::release).request;
    CHECK(release.handle == test_handle);
    CHECK(server.channel().answer_error(release.unique, 0));
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("a name or a number that is taken is refused, and its owner goes on") {
    Server server(make_channel());
    const auto refused = [](const std::string& name, unsigned major, unsigned minor, const char* why) {
        const auto other = CuseChannel::create({.name = name, .major = major, .minor = minor});
        REQUIRE_FALSE(other.has_value());
        CHECK(other.error().code == std::errc::address_in_use);
        CAPTURE(other.error().message());
        CHECK(other.error().message().find(why) != std::string::npos);
    };
    refused("storctl/usb/test", test_major, test_minor + 1, "of this name");
    refused("storctl/usb/other", test_major, test_minor, "which another device has");
    refused("storctl/usb/other", 1, 77, "taken by a driver");  // /dev/mem's
    UniqueFd fd = open_device(server);
    close_device(server, std::move(fd));
    const auto beside = make_channel("storctl/usb/other", test_minor + 1);
    CHECK(beside->path() == "/dev/storctl/usb/other");
}

TEST_CASE("an abort frees who is inside and who receives; the name is free again with a file still open") {
    auto server = std::make_unique<Server>(make_channel());
    UniqueFd fd = open_device(*server);
    auto calling = in_background([&] { return ioctl_with(fd.get(), nullptr); });
    const auto held = server->next(Kind::ioctl).request.unique;
    server->channel().abort();
    server->wait_for_end();
    CHECK(outcome(calling).error == ECONNABORTED);
    CHECK_FALSE(server->channel().answer_ioctl(held, 0));
    CHECK(ioctl_with(fd.get(), nullptr) == Outcome{-1, ENOTCONN});
    pollfd wanted{.fd = fd.get(), .events = POLLOUT, .revents = 0};
    CHECK(::poll(&wanted, 1, 0) == 1);
    CHECK(wanted.revents == POLLERR);
    server->channel().abort();  // again: nothing left to do
    server.reset();
    Server next(make_channel());
    UniqueFd second = open_device(next);
    CHECK(ioctl_with(fd.get(), nullptr) == Outcome{-1, ENOTCONN});
    close_device(next, std::move(second));
}

TEST_CASE("what is missing is said") {
    const auto none = CuseChannel::create({.name = "storctl/usb/test", .device = "/dev/storctl-none"});
    REQUIRE_FALSE(none.has_value());
    CHECK(none.error().code == std::errc::not_supported);
    CHECK(none.error().message().find("modprobe cuse") != std::string::npos);
    ::setfsuid(65534);  // of this thread; takes DAC_OVERRIDE along
    const auto forbidden = CuseChannel::create({.name = "storctl/usb/test"});
    ::setfsuid(0);
    REQUIRE_FALSE(forbidden.has_value());
    CHECK(forbidden.error().code == std::errc::operation_not_permitted);
    CHECK(forbidden.error().message().find("root") != std::string::npos);
}
