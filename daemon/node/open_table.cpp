#include "daemon/node/open_table.hpp"

namespace storctl::node {

OpenDecision OpenTable::open(Opener opener) {
    if (closed_) return {.verdict = OpenVerdict::closed, .blocker = std::nullopt};
    if (opener.writes) {
        switch (policy_) {
            case OpenPolicy::read_only:
                return {.verdict = OpenVerdict::read_only, .blocker = std::nullopt};
            case OpenPolicy::single_writer:
                for (const auto& [handle, other] : open_) {
                    // pid 0 is "unknown", never "the same": two of them are two holders
                    const bool same_holder = other.pid == opener.pid && opener.pid != 0;
                    if (other.writes && !same_holder) return {.verdict = OpenVerdict::busy, .blocker = other};
                }
                break;
            case OpenPolicy::shared:
                break;
        }
    }
    const uint64_t handle = next_handle_++;
    open_.emplace(handle, std::move(opener));
    return {.verdict = OpenVerdict::granted, .handle = handle, .blocker = std::nullopt};
}

bool OpenTable::release(uint64_t handle) { return open_.erase(handle) > 0; }

std::vector<Opener> OpenTable::openers() const {
    std::vector<Opener> all;
    all.reserve(open_.size());
    for (const auto& [handle, opener] : open_) all.push_back(opener);
    return all;
}

}  // namespace storctl::node
