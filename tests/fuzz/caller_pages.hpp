#pragma once
// The memory of a process that makes ioctls, for fuzz targets: pages may be absent, and content may change after each
// read.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace storctl::fuzz {

class CallerPages {
 public:
    static constexpr uint64_t base = 0x10000;
    static constexpr size_t page_bytes = 4096, pages = 320;
    enum class Access : uint8_t { read_write, read_only, absent };

    bool racing = false;  ///< what was read is something else at once

    /// One at a time: the pages are kept from run to run, because making them anew is most of a short run's time.
    CallerPages() : content_(all_pages()) {}
    ~CallerPages() {
        for (size_t page = 0; page < pages; ++page) {
            if (dirty_[page]) std::memset(content_.data() + page * page_bytes, 0, page_bytes);
        }
    }
    CallerPages(const CallerPages&) = delete;
    CallerPages& operator=(const CallerPages&) = delete;

    void set_access(size_t page, Access access) { access_[page % pages] = access; }
    void poke(uint64_t address, std::span<const uint8_t> bytes) {
        for (size_t i = 0; i < bytes.size() && inside(address + i, 1); ++i) change(address + i) = bytes[i];
    }
    int read(uint64_t address, std::span<std::byte> into) {
        if (!allows(address, into.size(), Access::read_only)) return -EFAULT;
        if (into.empty()) return 0;
        std::memcpy(into.data(), &at(address), into.size());
        if (!racing) return 0;
        for (size_t i = 0; i < into.size(); ++i) change(address + i) ^= 0x81;
        return 0;
    }
    int write(uint64_t address, std::span<const std::byte> from) {
        if (!allows(address, from.size(), Access::read_write)) return -EFAULT;
        for (size_t i = 0; i < from.size(); i += page_bytes) change(address + i);
        if (!from.empty()) change(address + from.size() - 1);
        if (!from.empty()) std::memcpy(&at(address), from.data(), from.size());
        return 0;
    }

 private:
    static bool inside(uint64_t address, size_t length) {
        return address >= base && address - base <= pages * page_bytes &&
               length <= pages * page_bytes - (address - base);
    }
    uint8_t& at(uint64_t address) { return content_[address - base]; }
    uint8_t& change(uint64_t address) {
        dirty_[(address - base) / page_bytes] = true;
        return at(address);
    }
    static std::vector<uint8_t>& all_pages() {
        static std::vector<uint8_t> content(pages * page_bytes);
        return content;
    }
    bool allows(uint64_t address, size_t length, Access least) const {
        if (length == 0) return true;
        if (!inside(address, length)) return false;
        const size_t first = (address - base) / page_bytes, last = (address - base + length - 1) / page_bytes;
        return std::all_of(access_.begin() + static_cast<ptrdiff_t>(first),
                           access_.begin() + static_cast<ptrdiff_t>(last) + 1,
                           [&](Access access) { return access <= least; });
    }

    std::vector<uint8_t>& content_;
    std::vector<bool> dirty_ = std::vector<bool>(pages);
    std::vector<Access> access_ = std::vector<Access>(pages, Access::read_write);
};

/// A part of the caller's memory. Addresses wrap around.
struct Range {
    uint64_t address = 0, length = 0;
    uint64_t fetched = 0;  ///< of reads: so far, from the start

    bool contains(uint64_t at, uint64_t size) const {
        const uint64_t offset = at - address;
        return offset <= length && size <= length - offset;
    }
};

}  // namespace storctl::fuzz
