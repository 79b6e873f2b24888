#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

constexpr int threads = 6, patience_ms = 20'000;
constexpr uint32_t blocks = 64;

/// Never returns: reads and writes as they are, on all threads, and one thread by write() and read(). Each thread says
/// by a byte that it is at it.
[[noreturn]] void work(const std::string& path, int said) {
    const SgNode node(path);
    const uint32_t block_bytes = node.capacity().block_bytes;
    const auto at_it = [&] { return write(said, "x", 1) == 1; };
    const auto loop = [&](int number) {
        std::vector<std::byte> data(blocks * block_bytes);
        const auto block = static_cast<uint64_t>(number) * blocks;
        for (unsigned round = 0;; ++round) {
            const bool back = round % 4 == 3;
            const Answer answer = node.send({.cdb = transfer(back ? write10 : read10, block, blocks),
                                             .direction = back ? Direction::to_device : Direction::from_device,
                                             .data = data,
                                             .pieces = {}});
            if (!answer.good() || (round == 0 && !at_it())) _exit(3);
        }
    };
    std::vector<std::thread> workers;
    for (int number = 1; number < threads; ++number) workers.emplace_back(loop, number);
    loop(0);
    _exit(4);
}

bool readable(int fd) {
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&one, 1, patience_ms) == 1 && (one.revents & POLLIN) != 0;
}

/// How the child ended, once it has been killed in the middle of its work.
std::string killed_one(const std::string& path) {
    std::array<int, 2> said{};
    if (pipe2(said.data(), O_CLOEXEC) != 0) give_up("pipe", -errno);
    const UniqueFd from(said[0]);
    UniqueFd to(said[1]);
    const pid_t child = fork();
    if (child < 0) give_up("fork", -errno);
    if (child == 0) work(path, to.get());
    to.reset();
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
    std::array<char, 1> byte{};
    for (int count = 0; count < threads; ++count)
        if (!readable(from.get()) || read(from.get(), byte.data(), 1) != 1) return "does not work";
    kill(child, SIGKILL);
    if (!readable(process.get())) return "does not end";
    int status = 0;
    if (waitpid(child, &status, 0) != child) give_up("wait for a child", -errno);
    return WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                               : fmt::format("status {}", WEXITSTATUS(status));
}

}  // namespace

void killed_cases(const std::string& path, unsigned times) {
    for (unsigned time = 0; time < times; ++time) expect(fmt::format("killed.{}", time), killed_one(path), "signal 9");
    const SgNode node(path);
    std::vector<std::byte> data(node.capacity().block_bytes);
    node.send_good({.cdb = transfer(read10, 0, 1), .direction = Direction::from_device, .data = data, .pieces = {}});
    report("alive", "GOOD");
}

}  // namespace storctl::sg_client
