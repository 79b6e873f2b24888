#include "daemon/node/caller/leg_table.hpp"

#include <algorithm>
#include <utility>

namespace storctl::node {
namespace {

constexpr size_t most_legs = 64;
/// Legs follow each other at once. One that is older was left behind: a leg that meets a bad address is the last, and
/// nobody tells us.
constexpr auto left_behind = std::chrono::seconds(1);

}  // namespace

std::shared_ptr<RetryMemory> LegTable::take(const Key& key, bool first, std::shared_ptr<void>& lost) {
    auto now = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    auto found = legs_.find(key);
    if (!first) {
        if (found == legs_.end()) return nullptr;
        found->second.since = now;
        return std::exchange(found->second.memory, nullptr);
    }
    const bool one_of_many = std::get<0>(key) == 0;
    while (found != legs_.end() && one_of_many && now - found->second.since < left_behind) {
        ended_.wait_until(lock, found->second.since + left_behind);
        now = std::chrono::steady_clock::now();
        found = legs_.find(key);
    }
    if (found == legs_.end() && legs_.size() >= most_legs) {
        found = std::min_element(legs_.begin(), legs_.end(),
                                 [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
    }
    if (found != legs_.end()) {
        if (found->second.memory != nullptr) lost = std::move(found->second.memory->kept);
        legs_.erase(found);
    }
    legs_[key] = {.memory = nullptr, .since = now};
    return std::make_shared<RetryMemory>(leg_bytes_, most_segments_);
}

void LegTable::put(const Key& key, std::shared_ptr<RetryMemory> memory) {
    const std::scoped_lock lock(mutex_);
    if (memory == nullptr) {
        legs_.erase(key);
        ended_.notify_all();
    } else if (const auto found = legs_.find(key); found != legs_.end()) {
        found->second = {.memory = std::move(memory), .since = std::chrono::steady_clock::now()};
    }
}

void LegTable::clear() {
    const std::scoped_lock lock(mutex_);
    legs_.clear();
    ended_.notify_all();
}

}  // namespace storctl::node
