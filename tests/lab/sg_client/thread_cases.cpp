#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned rounds = 16;
constexpr uint32_t region_blocks = 64;
constexpr uint16_t host_timed_out = 3;

template <typename Work>
void on_threads(unsigned count, const Work& work) {
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (unsigned number = 0; number < count; ++number) threads.emplace_back(work, number);
    for (auto& thread : threads) thread.join();
}

/// Writes its region and reads it back, in pieces that other threads' commands come between.
void work_on_region(const SgNode& node, unsigned number, uint32_t block_bytes, std::atomic<unsigned>& wrong) {
    GuardedBuffer buffer(region_blocks * block_bytes);
    for (unsigned round = 0; round < rounds; ++round) {
        const uint32_t blocks = 1 + (round * 7 + number) % region_blocks;
        const uint64_t block = uint64_t{number} * region_blocks;
        const auto mark = static_cast<std::byte>(number * rounds + round);
        const auto send = [&](uint8_t opcode, Direction direction, std::span<std::byte> data) {
            return node.send(
                {.cdb = transfer(opcode, block, blocks), .direction = direction, .data = data, .pieces = {}});
        };
        const Answer written = send(write10, Direction::to_device, buffer.use(blocks * block_bytes, 0, mark));
        const auto data = buffer.use(blocks * block_bytes);
        const Answer read = send(read16, Direction::from_device, data);
        const bool right = written.good() && read.good() && buffer.intact() &&
                           std::all_of(data.begin(), data.end(), [&](std::byte one) { return one == mark; });
        if (!right) {
            ++wrong;
            report("threads.wrong",
                   fmt::format("thread {} round {}: {}, {}", number, round, written.text(), read.text()));
        }
    }
}

Answer read_one(const SgNode& node, uint32_t block_bytes, uint64_t block, unsigned timeout_ms) {
    std::vector<std::byte> data(block_bytes);
    return node.send({.cdb = transfer(read10, block, 1),
                      .direction = Direction::from_device,
                      .data = data,
                      .pieces = {},
                      .timeout_ms = timeout_ms});
}

Clock::duration time_of(const auto& work) {
    const auto start = Clock::now();
    work();
    return Clock::now() - start;
}

}  // namespace

void thread_cases(const std::string& path, unsigned threads) {
    const SgNode node(path);
    const uint32_t block_bytes = node.capacity().block_bytes;
    std::atomic<unsigned> wrong = 0;
    on_threads(threads, [&](unsigned number) { work_on_region(node, number, block_bytes, wrong); });
    expect("threads", fmt::format("{} threads, {} wrong", threads, wrong.load()),
           fmt::format("{} threads, 0 wrong", threads));
}

void slow_cases(const std::string& path, unsigned threads) {
    using std::chrono::duration_cast, std::chrono::milliseconds;
    const SgNode node(path);
    const uint32_t block_bytes = node.capacity().block_bytes;
    std::atomic<unsigned> wrong = 0;
    const auto one = time_of([&] { wrong += read_one(node, block_bytes, 0, usual_timeout_ms).good() ? 0 : 1; });
    const auto all = time_of([&] {
        on_threads(threads, [&](unsigned number) {
            wrong += read_one(node, block_bytes, number * 8, usual_timeout_ms).good() ? 0 : 1;
        });
    });
    expect("slow.wrong", std::to_string(wrong.load()), "0");
    const bool overlap = threads >= 4 && all < one * threads / 2;
    expect("slow.overlap",
           overlap ? "yes"
                   : fmt::format("no: one {} ms, {} at once {} ms", duration_cast<milliseconds>(one).count(), threads,
                                 duration_cast<milliseconds>(all).count()),
           "yes");
    Answer late;
    const auto waited = time_of([&] {
        late = read_one(node, block_bytes, 0, static_cast<unsigned>(duration_cast<milliseconds>(one).count() / 4));
    });
    expect("slow.timeout", late.text(), fmt::format("host status {}", host_timed_out));
    // the kernel's sg hands a command that timed out to the error recovery, which takes its time
    report("slow.timeout_early", waited < one ? "yes" : "no");
    expect("slow.after", read_one(node, block_bytes, 0, usual_timeout_ms).text(),
           {"GOOD", "CHECK CONDITION 6/29/00", "CHECK CONDITION 6/29/03", "CHECK CONDITION 6/29/07"});
    expect("slow.again", read_one(node, block_bytes, 0, usual_timeout_ms).text(), "GOOD");
}

}  // namespace storctl::sg_client
