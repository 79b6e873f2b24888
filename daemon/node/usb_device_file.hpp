#pragma once
// An open file of the real usbfs node, as a session's device. Its number stays the same until it is destroyed, whatever
// becomes of the device: `close` and `reopen` put another file under it, so that a thread in a call never meets a
// stranger's file.

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "daemon/node/usbfs/device.hpp"

namespace storctl::node {

class UsbDeviceFile final : public usbfs::Device {
 public:
    /// Waits for the device that was at `left` to enumerate again and says where; empty: it did not come.
    using FindAgain = std::function<std::string(const std::string& left)>;

    /// Blocks while the device wakes up. `flags`: O_RDWR or O_RDONLY.
    static Result<std::unique_ptr<UsbDeviceFile>> open(const std::string& path, int flags, FindAgain find_again);

    int fd() const { return file_.get(); }
    int ioctl(unsigned long number, void* argument) override;
    uint32_t poll() override;
    int wait(int limit_ms) override;
    void wake() override;
    std::byte* map(size_t length) override;
    void unmap(std::byte* memory, size_t length) override;
    void close() override;
    int reopen() override;

 private:
    UsbDeviceFile(std::string path, UniqueFd file, UniqueFd wake, int flags, FindAgain find_again)
        : path_(std::move(path)),
          file_(std::move(file)),
          wake_(std::move(wake)),
          flags_(flags),
          find_again_(std::move(find_again)) {}

    std::string path_;
    UniqueFd file_, wake_;
    int flags_;
    FindAgain find_again_;
    std::atomic<bool> closed_{false};
};

}  // namespace storctl::node
