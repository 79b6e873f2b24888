#pragma once
// The caller's memory by process_vm_readv and process_vm_writev: one leg for any size. The caller is parked in its
// ioctl meanwhile, so its thread id stays its own and its addresses mean what they meant. Any thread.

#include "daemon/node/caller/memory.hpp"

namespace storctl::node {

class ProcessMemory : public CallerMemory {
 public:
    /// `thread_id` as a CUSE request carries it. May only be used where `permitted`.
    explicit ProcessMemory(int thread_id) : thread_id_(thread_id) {}

    /// Whether this process may reach the memory of that thread at all: not of one in a pid namespace that we do not
    /// see (0), nor without CAP_SYS_PTRACE, nor where Yama forbids all tracing. A caller that has just ended is no
    /// reason to doubt it: what is asked of its memory fails by itself.
    static bool permitted(int thread_id);

    int read(uint64_t address, std::span<std::byte> into) override;
    int announce_write(uint64_t address, size_t length) override;
    int write(uint64_t address, std::span<const std::byte> from) override;
    /// In as few system calls as there may be.
    int write_all(std::span<const Piece> pieces) override;
    size_t write_limit() const override;

 private:
    int thread_id_;
};

}  // namespace storctl::node
