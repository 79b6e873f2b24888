#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cstdlib>
#include <thread>

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.hpp"
#include "base/event_loop.hpp"
#include "base/file.hpp"
#include "base/io_ring.hpp"
#include "base/text.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace storctl;
using storctl::test::TemporaryFolder;
using namespace std::chrono_literals;

TEST_CASE("valid_utf8 follows RFC 3629") {
    struct Row {
        const char* name;
        std::string_view text;
        bool valid;
    };
    for (const Row& row : {
             Row{"plain ASCII", "disk", true},
             Row{"two, three and four bytes", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbe", true},
             Row{"a lone continuation byte", "\x80", false},
             Row{"a cut sequence", "\xe2\x82", false},
             Row{"an overlong slash", "\xc0\xaf", false},
             Row{"an overlong three-byte form", "\xe0\x80\xaf", false},
             Row{"a surrogate", "\xed\xa0\x80", false},
             Row{"above U+10FFFF", "\xf4\x90\x80\x80", false},
             Row{"0xff", "\xff", false},
         }) {
        SUBCASE(row.name) { CHECK(valid_utf8(row.text) == row.valid); }
    }
}

TEST_CASE("sizes are read and written in powers of 1024") {
    CHECK(*parse_size("512", "size") == 512);
    CHECK(*parse_size("64K", "size") == 65536);
    CHECK(*parse_size("1MiB", "size") == 1 << 20);
    CHECK(*parse_size("2GB", "size") == 2ULL << 30);
    for (const char* bad : {"", "K", "1X", "-1", "1.5G", "99999999999999999999", "20000000P"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_size(bad, "size").has_value());
    }
    CHECK(format_size(0) == "0 B");
    CHECK(format_size(1023) == "1023 B");
    CHECK(format_size(1536) == "1.5 KiB");
    CHECK(format_size(1ULL << 30) == "1 GiB");
    CHECK(format_size(256ULL << 30) == "256 GiB");
    CHECK(format_size(1023ULL << 20) == "1 GiB");
}

TEST_CASE("hexadecimal goes both ways and refuses what it is not") {
    const std::vector<uint8_t> bytes{0x00, 0x9f, 0xff};
    CHECK(hex_encode(bytes) == "009fff");
    CHECK(*hex_decode("009FfF") == bytes);
    CHECK_FALSE(hex_decode("0").has_value());
    CHECK_FALSE(hex_decode("0g").has_value());
    CHECK_FALSE(hex_decode("-1").has_value());
}

TEST_CASE("split, trim and paths") {
    CHECK(split("a,,b", ',') == std::vector<std::string>{"a", "", "b"});
    CHECK(split("", ',').empty());
    CHECK(trim(" \tx y\n") == "x y");
    CHECK(base_name("/dev/sda/") == "sda");
    CHECK(base_name("/") == "/");
    CHECK(dir_name("/dev/sda") == "/dev");
    CHECK(dir_name("/sda") == "/");
    CHECK(dir_name("sda") == ".");
}

TEST_CASE("times survive the way to text and back") {
    const WallTime time = *parse_time("2026-11-22T12:34:56Z");
    CHECK(format_time(time) == "2026-11-22T12:34:56Z");
    CHECK_FALSE(parse_time("2026-11-22 12:34:56").has_value());
    CHECK_FALSE(parse_time("2026-11-22T12:34:56Z ").has_value());
}

TEST_CASE("write_file_atomic replaces a file whole, and leaves nothing behind when it cannot") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/state";
    REQUIRE(write_file_atomic(path, "one", 0640));
    REQUIRE(write_file_atomic(path, "two", 0640));
    CHECK(*read_file(path) == "two");
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0640);
    REQUIRE(::mkdir((folder.path() + "/taken").c_str(), 0755) == 0);
    CHECK_FALSE(write_file_atomic(folder.path() + "/taken", "three").has_value());
    CHECK(list_directory(folder.path()) == std::vector<std::string>{"state", "taken"});
}

TEST_CASE("read_directory tells a folder that is not there from one that cannot be read") {
    const TemporaryFolder folder;
    REQUIRE(write_file_atomic(folder / "b", "x"));
    REQUIRE(write_file_atomic(folder / "a", "x"));
    const auto names = read_directory(folder.path());
    REQUIRE(names.has_value());
    CHECK(*names == std::vector<std::string>{"a", "b"});
    const auto none = read_directory(folder / "none");
    REQUIRE(none.has_value());
    CHECK(none->empty());
    const auto file = read_directory(folder / "a");
    REQUIRE_FALSE(file.has_value());
    CHECK(file.error().code == std::errc::not_a_directory);
}

TEST_CASE("read_file refuses what is longer than its limit") {
    const TemporaryFolder folder;
    REQUIRE(write_file_atomic(folder.path() + "/f", std::string(5000, 'x')));
    CHECK(read_file(folder.path() + "/f", 5000)->size() == 5000);
    const auto result = read_file(folder.path() + "/f", 4999);
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == std::errc::file_too_large);
}

TEST_CASE("an event source may destroy itself in its own callback") {
    EventLoop loop = *EventLoop::create();
    const UniqueFd fd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    auto source = std::make_unique<EventSource>();
    const std::string captured(100, 'x');
    size_t calls = 0;
    *source = *loop.add_io(fd.get(), 1 /* EPOLLIN */, 0, [&source, &calls, captured](uint32_t) {
        source.reset();
        calls += captured.size();  // the callback and what it holds are still there
    });
    REQUIRE(loop.run_once(1s));
    REQUIRE(loop.run_once(0s));
    CHECK(calls == 100);
}

TEST_CASE("a mailbox runs work of other threads in order") {
    EventLoop loop = *EventLoop::create();
    auto box = *Mailbox::open(loop, 0);
    std::vector<int> seen;
    std::thread other([&] {
        for (int i = 0; i < 1000; ++i) box->post([&seen, i] { seen.push_back(i); });
        box->post([&loop] { loop.exit(7); });
    });
    CHECK(*loop.run() == 7);
    other.join();
    REQUIRE(seen.size() == 1000);
    CHECK(std::is_sorted(seen.begin(), seen.end()));
}

TEST_CASE("the ring completes operations and runs posted work on its own thread") {
    if (::getenv("STORCTL_VALGRIND") != nullptr) {
        MESSAGE("skipped: valgrind 3.19 does not carry a ring's completions");
        return;
    }
    auto ring = IoRing::create(4);
    if (!ring) {
        MESSAGE("skipped: " << ring.error().message());
        return;
    }
    const TemporaryFolder folder;
    const UniqueFd file = *open_file(folder.path() + "/f", O_RDWR | O_CREAT);
    struct Write : IoCompletion {
        int result = 0;
    };
    // more operations than the ring has entries: none may be lost
    std::vector<Write> writes(64);
    std::thread::id ran_on;
    size_t open = writes.size();
    static size_t* remaining;
    remaining = &open;
    std::thread reactor([&] {
        REQUIRE((*ring)->start());
        REQUIRE((*ring)->run([&] {
            if (open == 0) (*ring)->stop();
        }));
    });
    const auto reactor_id = reactor.get_id();
    (*ring)->post([&] {
        ran_on = std::this_thread::get_id();
        for (size_t i = 0; i < writes.size(); ++i) {
            writes[i].done = [](IoCompletion& self, int result) {
                static_cast<Write&>(self).result = result;
                --*remaining;
            };
            io_uring_prep_write((*ring)->entry(writes[i]), file.get(), "x", 1, i);
        }
    });
    reactor.join();
    CHECK(ran_on == reactor_id);
    for (const Write& write : writes) CHECK(write.result == 1);
    CHECK(read_file(folder.path() + "/f")->size() == writes.size());
}

TEST_CASE("polling grows with short waits, ends with long ones, and yields to others") {
    AdaptivePoll poll(100'000);
    CHECK(poll.budget_ns(0) == 0);
    poll.waited(2'000);
    CHECK(poll.budget_ns(0) == AdaptivePoll::first_budget_ns);
    poll.waited(50'000);
    CHECK(poll.budget_ns(0) == 75'000);
    poll.waited(90'000);
    CHECK(poll.budget_ns(0) == 100'000);
    poll.waited(10'000);
    CHECK(poll.budget_ns(0) == 100'000);

    SUBCASE("a wait beyond the limit ends it") {
        poll.waited(100'001);
        CHECK(poll.budget_ns(0) == 0);
    }
    SUBCASE("losing the CPU holds it off for a while") {
        poll.preempted(7, 1'000);  // the count that it starts from
        CHECK(poll.budget_ns(1'000) == 100'000);
        poll.preempted(8, 2'000);
        CHECK(poll.budget_ns(2'000) == 0);
        CHECK(poll.budget_ns(2'000 + AdaptivePoll::hold_off_ns) == 100'000);
    }
    SUBCASE("a limit of zero never polls") {
        AdaptivePoll never(0);
        never.waited(0);
        CHECK(never.budget_ns(0) == 0);
    }
}
