#pragma once
// A usbfs node by its ioctls, for what libusb does not reach: one open of it, and a URB with its buffer.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <sys/ioctl.h>

#include "base/unique_fd.hpp"

namespace storctl::usbfs_client {

class Urb {
 public:
    Urb(uint8_t type, uint8_t endpoint, size_t bytes, int packets = 0);
    usbdevfs_urb* operator->() { return header(); }
    usbdevfs_urb* header() { return reinterpret_cast<usbdevfs_urb*>(storage_.data()); }
    std::span<std::byte> data() { return data_; }
    std::span<std::byte> received() { return data().first(static_cast<size_t>(header()->actual_length)); }

 private:
    std::vector<std::byte> storage_;  ///< the header with its packets behind it
    std::vector<std::byte> data_;
};

class RawNode {
 public:
    /// Ends the run when it does not open.
    explicit RawNode(const std::string& path, int flags = O_RDWR);
    static long try_open(const std::string& path, int flags);  ///< 0 or -errno; closed again

    int fd() const { return fd_.get(); }
    void close() { fd_.reset(); }

    /// What the ioctl returned, or -errno.
    long call(unsigned long request, void* argument) const;
    long claim(unsigned interface) const;
    long release(unsigned interface) const;
    long submit(Urb& urb) const { return call(USBDEVFS_SUBMITURB, urb.header()); }
    long discard(Urb& urb) const { return call(USBDEVFS_DISCARDURB, urb.header()); }
    /// The name of the interface's driver, or -errno's.
    std::string driver(unsigned interface) const;
    long detach(unsigned interface) const;

    struct Reaped {
        long result = 0;
        usbdevfs_urb* urb = nullptr;
    };
    Reaped reap(bool block) const;
    /// The next completed URB, waited for with poll; gives up after 20 s.
    usbdevfs_urb* next() const;
    /// revents as text, "0" when the time is up.
    std::string poll(short events, std::chrono::milliseconds limit) const;
    /// Synchronous: USBDEVFS_CONTROL and USBDEVFS_BULK.
    long control(uint8_t type, uint8_t request, uint16_t value, uint16_t index, std::span<std::byte> data,
                 unsigned timeout_ms = 1000) const;
    long bulk(uint8_t endpoint, std::span<std::byte> data, unsigned timeout_ms = 5000) const;

 private:
    UniqueFd fd_;
};

/// A page that may not be touched, and one that may not be written.
void* untouchable_page();
void* read_only_page();

}  // namespace storctl::usbfs_client
