#pragma once
// A fuzzer's bytes as numbers; zeros when they are over.

#include <cstdint>
#include <cstring>
#include <span>

class ByteReader {
 public:
    ByteReader(const uint8_t* data, size_t size) : rest_(data, size) {}

    bool over() const { return rest_.empty(); }
    template <class T>
    T take() {
        T value{};
        const size_t size = sizeof value < rest_.size() ? sizeof value : rest_.size();
        if (size > 0) std::memcpy(&value, rest_.data(), size);
        rest_ = rest_.subspan(size);
        return value;
    }
    std::span<const uint8_t> take_bytes(size_t size) {
        const auto out = rest_.first(size < rest_.size() ? size : rest_.size());
        rest_ = rest_.subspan(out.size());
        return out;
    }

 private:
    std::span<const uint8_t> rest_;
};
