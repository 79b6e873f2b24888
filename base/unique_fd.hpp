#pragma once
// UniqueFd owns a file descriptor; CHandle owns what a C library hands out. Any thread, one owner.

#include <memory>
#include <utility>

#include <unistd.h>

namespace storctl {

class UniqueFd {
 public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    ~UniqueFd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset(int fd = -1) {
        const int old = std::exchange(fd_, fd);
        if (old >= 0) ::close(old);
    }

 private:
    int fd_ = -1;
};

template <auto release>
struct CRelease {
    template <class T>
    void operator()(T* handle) const {
        release(handle);
    }
};

/// `CHandle<udev, udev_unref>`: a C handle released by the function that its library names for it.
template <class T, auto release>
using CHandle = std::unique_ptr<T, CRelease<release>>;

}  // namespace storctl
