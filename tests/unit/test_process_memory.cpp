#include <cerrno>
#include <cstring>
#include <functional>

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.hpp"
#include "daemon/node/caller/process_memory.hpp"

namespace {

using namespace storctl;
using namespace storctl::node;

constexpr size_t page = 4096;
constexpr size_t area_bytes = 64 * page;  // the page behind it is taken away

std::byte* map_area() {
    void* area = ::mmap(nullptr, area_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(area != MAP_FAILED);
    return static_cast<std::byte*>(area);
}

/// A process that holds a copy of our memory and then waits to be told; its area lies at the same address as ours.
class Child {
 public:
    /// `prepare` runs in it first, `check` when it is told: its result is the exit status.
    Child(const std::function<void()>& prepare, const std::function<int()>& check) {
        int go[2], ready[2];
        REQUIRE(::pipe(go) == 0);
        REQUIRE(::pipe(ready) == 0);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            char byte = 0;
            prepare();
            const bool told = ::write(ready[1], &byte, 1) == 1 && ::read(go[0], &byte, 1) == 1;
            ::_exit(told ? check() : 99);
        }
        go_.reset(go[1]);
        ::close(go[0]);
        ::close(ready[1]);
        const UniqueFd answer(ready[0]);
        char byte = 0;
        REQUIRE(::read(answer.get(), &byte, 1) == 1);
    }
    int pid() const { return pid_; }
    int finish() {
        CHECK(::write(go_.get(), "x", 1) == 1);
        int status = 0;
        CHECK(::waitpid(pid_, &status, 0) == pid_);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

 private:
    UniqueFd go_;
    int pid_ = -1;
};

uint64_t address(const std::byte* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

TEST_CASE("another process's memory is read and written, whole or with a fault") {
    std::byte* area = map_area();
    Child child(
        [&] {
            std::memset(area, 0x5a, area_bytes);
            ::munmap(area + area_bytes, page);
            ::mprotect(area + area_bytes - page, page, PROT_READ);
        },
        [&] {
            const bool first = std::memcmp(area, "first", 5) == 0 && area[5] == std::byte{0x5a};
            const bool second = std::memcmp(area + 3 * page - 2, "second", 6) == 0;
            return first && second ? 0 : 1;
        });
    REQUIRE(ProcessMemory::permitted(child.pid()));
    ProcessMemory memory(child.pid());

    std::vector<std::byte> got(area_bytes);
    CHECK(memory.read(address(area), got) == 0);
    CHECK(got == std::vector<std::byte>(area_bytes, std::byte{0x5a}));
    CHECK(memory.read(address(area) + page, got) == -EFAULT);  // its last page is not there
    CHECK(memory.read(8, std::span(got).first(4)) == -EFAULT);
    CHECK(memory.read(address(area), std::span(got).first(0)) == 0);

    CHECK(memory.announce_write(address(area), 5) == 0);
    CHECK(memory.write_limit() > size_t{1} << 40);
    CHECK(memory.write(address(area), std::as_bytes(std::span("first", 5))) == 0);
    CHECK(memory.write(address(area) + 3 * page - 2, std::as_bytes(std::span("second", 6))) == 0);
    CHECK(memory.write(address(area) + area_bytes - page, std::as_bytes(std::span("x", 1))) == -EFAULT);
    CHECK(child.finish() == 0);
    ::munmap(area, area_bytes + page);
}

TEST_CASE("many pieces are written in their order, up to the first that cannot be") {
    constexpr size_t count = 600;  // more than one call takes
    std::byte* area = map_area();
    Child child([&] { ::munmap(area + area_bytes, page); },
                [&] {
                    for (size_t i = 0; i < count; ++i) {
                        if (area[i * 100] != static_cast<std::byte>(i)) return 1;
                    }
                    return area[50] == std::byte{} ? 0 : 2;
                });
    ProcessMemory memory(child.pid());
    std::vector<std::byte> values(count);
    std::vector<CallerMemory::Piece> pieces;
    for (size_t i = 0; i < count; ++i) {
        values[i] = static_cast<std::byte>(i);
        pieces.push_back({.address = address(area) + i * 100, .bytes = std::span(values).subspan(i, 1)});
    }
    CHECK(memory.write_all(pieces) == 0);
    CHECK(memory.write_all({}) == 0);
    pieces.push_back({.address = address(area) + area_bytes, .bytes = std::span(values).first(1)});
    CHECK(memory.write_all(pieces) == -EFAULT);
    CHECK(child.finish() == 0);
    ::munmap(area, area_bytes + page);
}

TEST_CASE("a process that has ended is told apart from one that may not be reached") {
    CHECK_FALSE(ProcessMemory::permitted(0));
    CHECK_FALSE(ProcessMemory::permitted(-1));
    Child ended([] {}, [] { return 0; });
    REQUIRE(ended.finish() == 0);
    CHECK(ProcessMemory::permitted(ended.pid()));
    std::byte byte{};
    CHECK(ProcessMemory(ended.pid()).read(address(&byte), {&byte, 1}) == -ESRCH);
    CHECK(ProcessMemory(ended.pid()).write(address(&byte), {&byte, 1}) == -ESRCH);

    if (::getuid() != 0) {
        MESSAGE("not root: nobody's reach of a root's process is not tried");
        return;
    }
    const int root = ::getpid();
    Child nobody(
        [] {},
        [&] {
            if (::setresuid(65534, 65534, 65534) != 0) return 2;
            return ProcessMemory::permitted(root) || ProcessMemory(root).read(address(&byte), {&byte, 1}) != -EPERM ? 1
                                                                                                                    : 0;
        });
    CHECK(nobody.finish() == 0);
}
