#pragma once
// A backing that the page cache keeps anyway, mapped for reading: its bytes can go to a consumer without a copy of our
// own. Only for a file without O_DIRECT: what another host writes to a shared disk would not be seen. Any thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "daemon/node/backing.hpp"

namespace storctl::node {

class BackingView {
 public:
    /// Null for a backing that must not be read like that.
    static Result<std::shared_ptr<const BackingView>> map(const Backing& backing);
    ~BackingView();
    BackingView(const BackingView&) = delete;
    BackingView& operator=(const BackingView&) = delete;

    /// Empty: not all of it is inside. Only to be handed to the kernel as a source: a file that was truncated since
    /// makes that fail with EFAULT, and a look from here a SIGBUS.
    std::span<const std::byte> at(uint64_t offset, uint64_t length) const {
        if (offset > bytes_ || length > bytes_ - offset) return {};
        return {start_ + offset, static_cast<size_t>(length)};
    }

 private:
    BackingView(const std::byte* start, uint64_t bytes) : start_(start), bytes_(bytes) {}
    const std::byte* start_;
    uint64_t bytes_;
};

}  // namespace storctl::node
