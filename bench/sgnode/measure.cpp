// measure NODE FILE BYTES READS: a read of that many bytes at a random place, by SG_IO on the node and by pread(2) on
// what lies behind it, in turn. One line: median nanoseconds of each.
//
// measure threads NODE BYTES READS THREADS: reads by so many threads on one descriptor. One line: nanoseconds of all.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t block_bytes = 512;
constexpr unsigned patience_ms = 60'000;

void check(bool good, std::string_view what) {
    if (good) return;
    fmt::print(stderr, "measure: {}\n", what);
    std::exit(1);
}

int64_t elapsed_ns(Clock::time_point since) { return std::chrono::nanoseconds(Clock::now() - since).count(); }

/// Page-aligned, as a guest's memory is.
struct Memory {
    explicit Memory(size_t size) : bytes(size), start(static_cast<std::byte*>(std::aligned_alloc(4096, size))) {}
    ~Memory() { std::free(start); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    size_t bytes;
    std::byte* start;
};

/// READ(10).
void read_by_command(int fd, uint32_t block, const Memory& memory) {
    const auto blocks = static_cast<uint16_t>(memory.bytes / block_bytes);
    std::array<uint8_t, 10> cdb{0x28,           0, uint8_t(block >> 24), uint8_t(block >> 16), uint8_t(block >> 8),
                                uint8_t(block), 0, uint8_t(blocks >> 8), uint8_t(blocks),      0};
    std::array<uint8_t, 32> sense{};
    sg_io_hdr header{};
    header.interface_id = 'S';
    header.dxfer_direction = SG_DXFER_FROM_DEV;
    header.cmd_len = cdb.size();
    header.cmdp = cdb.data();
    header.mx_sb_len = sense.size();
    header.sbp = sense.data();
    header.dxfer_len = static_cast<unsigned>(memory.bytes);
    header.dxferp = memory.start;
    header.timeout = patience_ms;
    check(::ioctl(fd, SG_IO, &header) == 0 && header.status == 0 && header.host_status == 0, "a READ failed");
}

storctl::UniqueFd open_or_end(const char* path, int flags) {
    storctl::UniqueFd fd(::open(path, flags | O_CLOEXEC));
    check(static_cast<bool>(fd), fmt::format("cannot open {}", path));
    return fd;
}

int64_t median(std::vector<int64_t>& values) {
    std::ranges::nth_element(values, values.begin() + static_cast<long>(values.size() / 2));
    return values[values.size() / 2];
}

int compare(const char* node, const char* file, size_t bytes, int reads) {
    const auto by_command = open_or_end(node, O_RDONLY);
    struct stat status {};
    check(::stat(file, &status) == 0, "no such file");
    const bool device = S_ISBLK(status.st_mode);
    const auto by_pread = open_or_end(file, O_RDONLY | (device ? O_DIRECT : 0));  // as the node reads it
    const off_t size = ::lseek(by_pread.get(), 0, SEEK_END);
    const Memory memory(bytes);
    std::minstd_rand random(1);
    std::uniform_int_distribution<uint32_t> place(0, static_cast<uint32_t>((size - static_cast<off_t>(bytes)) / 4096));
    std::vector<int64_t> command_times, pread_times;
    for (int i = 0; i < reads; ++i) {
        const uint32_t page = place(random);
        auto start = Clock::now();
        read_by_command(by_command.get(), page * 8, memory);
        command_times.push_back(elapsed_ns(start));
        start = Clock::now();
        check(::pread(by_pread.get(), memory.start, bytes, off_t{page} * 4096) == static_cast<ssize_t>(bytes),
              "a pread failed");
        pread_times.push_back(elapsed_ns(start));
    }
    fmt::print("{} {}\n", median(command_times), median(pread_times));
    return 0;
}

int by_threads(const char* node, size_t bytes, int reads, int count) {
    const auto fd = open_or_end(node, O_RDONLY);
    std::atomic<int> left = reads;
    const auto start = Clock::now();
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            const Memory memory(bytes);
            while (left.fetch_sub(1) > 0) read_by_command(fd.get(), static_cast<uint32_t>(i) * 256, memory);
        });
    }
    for (auto& thread : threads) thread.join();
    fmt::print("{}\n", elapsed_ns(start));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 6 && std::string_view(argv[1]) == "threads")
        return by_threads(argv[2], std::strtoul(argv[3], nullptr, 10), std::atoi(argv[4]), std::atoi(argv[5]));
    check(argc == 5, "usage: measure NODE FILE BYTES READS, or measure threads NODE BYTES READS THREADS");
    return compare(argv[1], argv[2], std::strtoul(argv[3], nullptr, 10), std::atoi(argv[4]));
}
