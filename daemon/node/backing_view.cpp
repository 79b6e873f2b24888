#include "daemon/node/backing_view.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

namespace storctl::node {

Result<std::shared_ptr<const BackingView>> BackingView::map(const Backing& backing) {
    if (backing.kind() != BackingKind::file || backing.direct()) return std::shared_ptr<const BackingView>();
    const uint64_t bytes = backing.size_bytes();
    void* const start = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, backing.fd(), 0);
    if (start == MAP_FAILED) return errno_error(fmt::format("cannot map '{}'", backing.path()));
    // the process locks what it touches, but the file's pages are the page cache's
    ::munlock(start, bytes);
    return std::shared_ptr<const BackingView>(new BackingView(static_cast<const std::byte*>(start), bytes));
}

BackingView::~BackingView() { ::munmap(const_cast<std::byte*>(start_), bytes_); }

}  // namespace storctl::node
