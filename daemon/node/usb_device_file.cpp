#include "daemon/node/usb_device_file.hpp"

#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.hpp"

namespace storctl::node {

Result<std::unique_ptr<UsbDeviceFile>> UsbDeviceFile::open(const std::string& path, int flags, FindAgain find_again) {
    auto file = TRY(open_file(path, flags | O_CLOEXEC));
    UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) return errno_error("cannot create an eventfd");
    return std::unique_ptr<UsbDeviceFile>(
        new UsbDeviceFile(path, std::move(file), std::move(wake), flags, std::move(find_again)));
}

int UsbDeviceFile::ioctl(unsigned long number, void* argument) {
    if (closed_) return -ENODEV;
    const int result = ::ioctl(file_.get(), number, argument);
    if (result >= 0) return result;
    const int error = errno;
    return closed_ ? -ENODEV : -error;  // not what the file says that has taken its place
}

uint32_t UsbDeviceFile::poll() {
    if (closed_) return POLLHUP;
    pollfd file{.fd = file_.get(), .events = POLLOUT | POLLWRNORM, .revents = 0};
    return ::poll(&file, 1, 0) < 0 ? POLLERR : static_cast<uint32_t>(file.revents);
}

int UsbDeviceFile::wait(int limit_ms) {
    std::array<pollfd, 2> files{
        {{.fd = file_.get(), .events = POLLOUT, .revents = 0}, {.fd = wake_.get(), .events = POLLIN, .revents = 0}}};
    if (closed_) return 0;
    if (::poll(files.data(), files.size(), limit_ms) < 0) return -errno;
    uint64_t count = 0;
    if (files[1].revents != 0 && !closed_) [[maybe_unused]]
        const auto taken = ::read(wake_.get(), &count, sizeof count);
    return 0;
}

void UsbDeviceFile::wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

std::byte* UsbDeviceFile::map(size_t length) {
    if (closed_) return nullptr;
    void* const memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

void UsbDeviceFile::unmap(std::byte* memory, size_t length) { ::munmap(memory, length); }

void UsbDeviceFile::close() {
    if (closed_.exchange(true)) return;
    ::dup3(wake_.get(), file_.get(), O_CLOEXEC);
    wake();
}

int UsbDeviceFile::reopen() {
    const std::string path = find_again_(path_);
    if (path.empty()) return -ENODEV;
    auto file = open_file(path, flags_ | O_CLOEXEC);
    if (!file) return -file.error().value();
    if (closed_) return -ENODEV;
    path_ = path;
    if (::dup3(file->get(), file_.get(), O_CLOEXEC) < 0) return -errno;
    if (!closed_) return 0;
    ::dup3(wake_.get(), file_.get(), O_CLOEXEC);  // closed at this moment, with the former file under the number
    return -ENODEV;
}

}  // namespace storctl::node
