#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "daemon/instance_lock.hpp"
#include "daemon/process_watch.hpp"
#include "daemon/state_file.hpp"
#include "tests/unit/temporary_folder.hpp"
#include "tests/unit/wait_for.hpp"

using namespace storctl;
using namespace storctl::test;

TEST_CASE("a directory is locked by one process, which the refusal names") {
    TemporaryFolder folder;
    {
        const auto lock = InstanceLock::take(folder.path(), "run directory");
        REQUIRE(lock.has_value());
        const auto second = InstanceLock::take(folder.path(), "run directory");
        REQUIRE_FALSE(second.has_value());
        CHECK(second.error().code == std::errc::device_or_resource_busy);
        const std::string message = second.error().message();
        CHECK(message.find("pid " + std::to_string(::getpid())) != std::string::npos);
        CHECK(message.find("run directory '" + folder.path() + "'") != std::string::npos);
    }
    CHECK(InstanceLock::take(folder.path(), "run directory").has_value());
    CHECK_FALSE(InstanceLock::take(folder / "none", "run directory").has_value());
}

TEST_CASE("the state file is written once for many changes of one turn, readable by all") {
    TemporaryFolder folder;
    const std::string path = folder / "state.json";
    auto loop = EventLoop::create();
    int written = 0;
    auto file = StateFile::open(*loop, path, [&] { return nlohmann::json{{"written", ++written}}; });
    REQUIRE(file.has_value());
    for (int i = 0; i < 100; ++i) (*file)->touch();
    REQUIRE(wait_for(*loop, [&] { return written > 0; }));
    CHECK(written == 1);
    CHECK(*read_file(path) == "{\"written\":1}\n");
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0644);
    (*file)->touch();
    REQUIRE(wait_for(*loop, [&] { return written > 1; }));
    CHECK(*read_file(path) == "{\"written\":2}\n");
}

TEST_CASE("a state file that cannot be written is written when it can") {
    TemporaryFolder folder;
    auto loop = EventLoop::create();
    int written = 0;
    auto file = StateFile::open(*loop, folder / "later/state.json", [&] {
        return nlohmann::json{{"written", ++written}};
    });
    REQUIRE(file.has_value());
    (*file)->touch();
    REQUIRE(wait_for(*loop, [&] { return written == 1; }));
    REQUIRE(make_directories(folder / "later").has_value());
    CHECK(wait_for(*loop, [&] { return ::access((folder / "later/state.json").c_str(), F_OK) == 0; }));
}

TEST_CASE("a child's end is told with its status, and it is reaped") {
    auto loop = EventLoop::create();
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(7);
    std::optional<ExitStatus> seen;
    auto watch = ProcessWatch::open(*loop, pid, 0, [&](ExitStatus status) { seen = status; });
    REQUIRE(watch.has_value());
    REQUIRE(wait_for(*loop, [&] { return seen.has_value(); }));
    CHECK(seen->code == 7);
    CHECK_FALSE(seen->signal.has_value());
    CHECK(seen->describe() == "exited with status 7");
    CHECK(::waitpid(pid, nullptr, 0) == -1);
}

TEST_CASE("a killed child is told with its signal") {
    auto loop = EventLoop::create();
    const pid_t pid = ::fork();
    if (pid == 0) {
        for (;;) ::pause();
    }
    std::optional<ExitStatus> seen;
    auto watch = ProcessWatch::open(*loop, pid, 0, [&](ExitStatus status) { seen = status; });
    REQUIRE(watch.has_value());
    watch->kill(SIGKILL);
    REQUIRE(wait_for(*loop, [&] { return seen.has_value(); }));
    CHECK(seen->signal == SIGKILL);
    CHECK(seen->describe() == "was killed by signal 9 (Killed)");
}

TEST_CASE("a process that has ended cannot be followed") {
    auto loop = EventLoop::create();
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(0);
    REQUIRE(::waitpid(pid, nullptr, 0) == pid);
    const auto watch = ProcessWatch::open(*loop, pid, 0, [](ExitStatus) {});
    REQUIRE_FALSE(watch.has_value());
    CHECK(watch.error().code == std::errc::no_such_process);
}
