#include "tests/lab/sg_client/guarded_buffer.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

#include "tests/lab/sg_client/report.hpp"

namespace storctl::sg_client {
namespace {

constexpr size_t page_bytes = 4096;
constexpr std::byte canary{0x5c};

std::byte* map(size_t bytes, int protection) {
    void* address = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) give_up("mmap", -errno);
    return static_cast<std::byte*>(address);
}

bool all_canaries(const std::byte* from, const std::byte* to) {
    return std::all_of(from, to, [](std::byte one) { return one == canary; });
}

}  // namespace

GuardedBuffer::GuardedBuffer(size_t room)
    : mapped_((before + room + page_bytes + page_bytes - 1) / page_bytes * page_bytes) {
    base_ = map(mapped_ + page_bytes, PROT_READ | PROT_WRITE);
    if (mprotect(base_ + mapped_, page_bytes, PROT_NONE) != 0) give_up("mprotect", -errno);
}

GuardedBuffer::~GuardedBuffer() { munmap(base_, mapped_ + page_bytes); }

std::span<std::byte> GuardedBuffer::use(size_t bytes, size_t behind, std::byte fill) {
    if (before + bytes + behind > mapped_) std::abort();
    used_ = {base_ + mapped_ - behind - bytes, bytes};
    std::memset(used_.data() - before, static_cast<int>(canary), before);
    std::memset(used_.data(), static_cast<int>(fill), bytes);
    std::memset(used_.data() + bytes, static_cast<int>(canary), behind);
    return used_;
}

bool GuardedBuffer::intact() const {
    return all_canaries(used_.data() - before, used_.data()) &&
           all_canaries(used_.data() + used_.size(), base_ + mapped_);
}

void* untouchable_page() {
    static void* const address = map(page_bytes, PROT_NONE);
    return address;
}

void* read_only_page() {
    static void* const address = map(page_bytes, PROT_READ);
    return address;
}

}  // namespace storctl::sg_client
