#include "daemon/node/caller/process_memory.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include <sys/uio.h>

namespace storctl::node {
namespace {

constexpr size_t pieces_per_call = 256;  // the kernel takes 1024 (UIO_MAXIOV)

iovec at(uint64_t address, size_t length) { return {reinterpret_cast<void*>(address), length}; }

int outcome(ssize_t moved, size_t wanted) {
    if (moved < 0) return -errno;
    return static_cast<size_t>(moved) == wanted ? 0 : -EFAULT;
}

}  // namespace

bool ProcessMemory::permitted(int thread_id) {
    if (thread_id <= 0) return false;
    // the kernel looks at the permission before the address, and at nothing for a length of 0
    std::byte byte{};
    const iovec local{&byte, 1};
    const iovec remote = at(0, 1);
    if (::process_vm_readv(thread_id, &local, 1, &remote, 1, 0) >= 0) return true;
    return errno == EFAULT || errno == ESRCH;
}

int ProcessMemory::read(uint64_t address, std::span<std::byte> into) {
    const iovec local{into.data(), into.size()};
    const iovec remote = at(address, into.size());
    return outcome(::process_vm_readv(thread_id_, &local, 1, &remote, 1, 0), into.size());
}

int ProcessMemory::announce_write(uint64_t /*address*/, size_t /*length*/) { return 0; }

int ProcessMemory::write(uint64_t address, std::span<const std::byte> from) {
    const Piece piece{.address = address, .bytes = from};
    return write_all({&piece, 1});
}

int ProcessMemory::write_all(std::span<const Piece> pieces) {
    while (!pieces.empty()) {
        const auto now = pieces.first(std::min(pieces.size(), pieces_per_call));
        std::array<iovec, pieces_per_call> local;
        std::array<iovec, pieces_per_call> remote;
        size_t wanted = 0;
        for (size_t i = 0; i < now.size(); ++i) {
            local[i] = {const_cast<std::byte*>(now[i].bytes.data()), now[i].bytes.size()};
            remote[i] = at(now[i].address, now[i].bytes.size());
            wanted += now[i].bytes.size();
        }
        const ssize_t moved = ::process_vm_writev(thread_id_, local.data(), now.size(), remote.data(), now.size(), 0);
        if (const int failed = outcome(moved, wanted); failed != 0) return failed;
        pieces = pieces.subspan(now.size());
    }
    return 0;
}

size_t ProcessMemory::write_limit() const { return std::numeric_limits<size_t>::max(); }

}  // namespace storctl::node
