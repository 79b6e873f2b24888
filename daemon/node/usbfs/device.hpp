#pragma once
// One open file of the real usbfs node, as a session drives it: the kernel's, or a test's. Any thread; a call may wait
// in the kernel, and a signal without a handler's restart ends such a wait with -EINTR.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace storctl::node::usbfs {

class Device {
 public:
    virtual ~Device() = default;

    /// ioctl(2): its result, or a negative errno; -ENODEV when closed.
    virtual int ioctl(unsigned long number, void* argument) = 0;
    /// POLL* as they are now; never waits, takes no lock.
    virtual uint32_t poll() = 0;
    /// Until a URB has been completed, the device is gone, `wake` was called or the time is up (-1: never): 0, or
    /// -EINTR.
    virtual int wait(int limit_ms) = 0;
    virtual void wake() = 0;
    /// Memory that a URB may name without the kernel copying it (usbfs mmap); null: there is none.
    virtual std::byte* map(size_t length) = 0;
    virtual void unmap(std::byte* memory, size_t length) = 0;
    /// The device itself is let go: URBs in flight end, claims of interfaces are given back. From here on -ENODEV.
    virtual void close() = 0;
    /// The same device enumerated again after a reset, within a limit of seconds: this is a new open file of it now.
    /// -ENODEV: it did not.
    virtual int reopen() = 0;
};

}  // namespace storctl::node::usbfs
