#include "daemon/node/caller/retry_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace storctl::node {

bool RetryMemory::begin(std::span<const std::byte> in, size_t room) {
    size_t expected_in = 0, expected_room = 0;
    for (const auto& segment : in_) expected_in += segment.length;
    for (const auto& segment : out_) expected_room += segment.length;
    if (in.size() != expected_in || room != expected_room) return false;
    for (const auto& segment : in_) {
        // a segment is the next part of the first that is not whole yet
        const auto part = std::find_if(fetched_.begin(), fetched_.end(),
                                       [](const Fetched& one) { return one.bytes.size() < one.whole.length; });
        if (part == fetched_.end()) break;  // asked for in vain, see plan_next
        part->bytes.insert(part->bytes.end(), in.begin(), in.begin() + static_cast<ptrdiff_t>(segment.length));
        in = in.subspan(segment.length);
    }
    in_.clear();
    announced_.clear();
    written_.assign(room, std::byte{});
    written_end_ = 0;
    return true;
}

bool RetryMemory::plan_next() {
    in_.clear();
    size_t left = leg_bytes_;
    for (const auto& one : fetched_) {
        const size_t missing = std::min(one.whole.length - one.bytes.size(), left);
        if (missing == 0) continue;
        in_.push_back({one.whole.address + one.bytes.size(), missing});
        left -= missing;
    }
    // Linux up to 6.1 at least: once a leg has brought data, one that brings none has the request's own head taken from
    // the caller's pages (fs/fuse/ioctl.c leaves in_pages set). So it brings a byte that we have already.
    if (in_.empty() && !fetched_.empty()) in_.push_back({fetched_.front().whole.address, 1});
    out_ = announced_;
    size_t room = 0;
    for (const auto& segment : out_) room += segment.length;
    return room <= leg_bytes_ && in_.size() + out_.size() <= most_segments_;
}

int RetryMemory::read(uint64_t address, std::span<std::byte> into) {
    if (into.empty()) return 0;
    const Segment wanted{address, into.size()};
    const auto have =
        std::find_if(fetched_.begin(), fetched_.end(), [&](const Fetched& one) { return one.whole == wanted; });
    if (have == fetched_.end()) {
        if (wanted.length > most_fetched - fetching_) return -ENOMEM;
        fetching_ += wanted.length;
        fetched_.push_back({.whole = wanted, .bytes = {}});
        return again;
    }
    if (have->bytes.size() < wanted.length) return again;
    std::memcpy(into.data(), have->bytes.data(), into.size());
    return 0;
}

int RetryMemory::announce_write(uint64_t address, size_t length) {
    if (length > 0) announced_.push_back({address, length});
    return 0;
}

int RetryMemory::ready() { return announced_ == out_ ? 0 : again; }

int RetryMemory::write(uint64_t address, std::span<const std::byte> from) {
    size_t at = 0;
    for (const auto& segment : out_) {
        if (segment.address == address && from.size() <= segment.length) {
            std::memcpy(written_.data() + at, from.data(), from.size());
            written_end_ = std::max(written_end_, at + from.size());
            return 0;
        }
        at += segment.length;
    }
    return from.empty() ? 0 : -EFAULT;
}

}  // namespace storctl::node
