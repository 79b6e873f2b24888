#include "daemon/node/cuse_channel.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/node/cuse_wire.hpp"

namespace storctl::node {
namespace {

constexpr auto device_limit = std::chrono::seconds(5);
constexpr auto device_look = std::chrono::milliseconds(5);

iovec part(std::span<const std::byte> bytes) { return {const_cast<std::byte*>(bytes.data()), bytes.size()}; }

Result<UniqueFd> open_cuse(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd) return fd;
    switch (errno) {
        case ENOENT:
        case ENODEV:
        case ENXIO:
            return make_error(std::errc::not_supported,
                              fmt::format("no '{}': the kernel's module for character devices in user space is not "
                                          "loaded (modprobe cuse)",
                                          path));
        case EACCES:
        case EPERM:
            return make_error(std::errc::operation_not_permitted,
                              fmt::format("cannot open '{}': mediated USB nodes are served by root", path));
        default:
            return errno_error(fmt::format("cannot open '{}'", path));
    }
}

/// What the kernel did not accept, from what is there now: it says so by ending the connection, without a reason.
Error registration_error(const CuseOptions& options) {
    struct stat status {};
    const std::string number = fmt::format("{}:{}", options.major, options.minor);
    const std::string name = "/sys/class/cuse/" + sysfs_device_name(options.name);
    const bool name_taken = ::stat(name.c_str(), &status) == 0;
    const bool number_taken = options.major != 0 && ::stat(("/sys/dev/char/" + number).c_str(), &status) == 0;
    if (name_taken) {
        return make_error(
            std::errc::address_in_use,
            fmt::format("cannot create '/dev/{}': another process serves a device of this name", options.name));
    }
    return make_error(std::errc::address_in_use,
                      fmt::format("cannot create '/dev/{}': the kernel refuses device number {}{}", options.name,
                                  number, number_taken ? ", which another device has" : " (taken by a driver?)"));
}

/// The device's number as sysfs and its node agree on it.
bool device_there(const CuseOptions& options) {
    const std::string number = read_attribute("/sys/class/cuse/" + sysfs_device_name(options.name) + "/dev");
    struct stat status {};
    if (number.empty() || ::stat(("/dev/" + options.name).c_str(), &status) != 0 || !S_ISCHR(status.st_mode))
        return false;
    if (options.major != 0 && number != fmt::format("{}:{}", options.major, options.minor)) return false;
    return number == fmt::format("{}:{}", major(status.st_rdev), minor(status.st_rdev));
}

}  // namespace

Result<std::unique_ptr<CuseChannel>> CuseChannel::create(const CuseOptions& options) {
    TRY(check_device_name(options.name));
    std::unique_ptr<CuseChannel> channel(new CuseChannel);
    channel->fd_ = TRY(open_cuse(options.device));
    channel->path_ = "/dev/" + options.name;
    TRY(channel->negotiate(options));
    TRY(channel->wait_for_device(options));
    const std::string abort_path = "/sys/class/cuse/" + sysfs_device_name(options.name) + "/abort";
    channel->abort_fd_ = TRY(open_file(abort_path, O_WRONLY));
    return channel;
}

Result<void> CuseChannel::negotiate(const CuseOptions& options) {
    std::vector<std::byte> message(buffer_bytes);
    ssize_t got = -1;
    do {
        got = ::read(fd_.get(), message.data(), message.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error(fmt::format("no CUSE handshake for '{}'", path_));
    const CuseOffer offer = TRY(decode_cuse_offer(std::span(message).first(static_cast<size_t>(got))));
    const auto accept = encode_cuse_accept(offer, options);
    // the kernel makes the device within this write (6.1), or ends the connection
    if (::write(fd_.get(), accept.data(), accept.size()) < 0) {
        return errno_error(fmt::format("no CUSE handshake for '{}'", path_));
    }
    return {};
}

Result<void> CuseChannel::wait_for_device(const CuseOptions& options) {
    const auto deadline = std::chrono::steady_clock::now() + device_limit;
    for (;;) {
        const bool there = device_there(options);  // looked at first: a taken name's device is there as well
        pollfd ended{.fd = fd_.get(), .events = 0, .revents = 0};
        const auto patience = there ? std::chrono::milliseconds(0) : device_look;
        if (::poll(&ended, 1, static_cast<int>(patience.count())) > 0) return registration_error(options);
        if (there) return {};
        if (std::chrono::steady_clock::now() > deadline) {
            return make_error(std::errc::timed_out,
                              fmt::format("'{}' does not appear (is a devtmpfs mounted on /dev, and nothing else of "
                                          "that name in it?)",
                                          path_));
        }
    }
}

CuseChannel::~CuseChannel() { abort(); }

Result<std::optional<CuseRequest>> CuseChannel::receive(std::span<std::byte> buffer) {
    for (;;) {
        const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
        if (got < 0) {
            // EINTR: a signal meant for what this thread did before. ENOENT: the request was given up while it was
            // read.
            if (errno == EINTR || errno == ENOENT) continue;
            if (errno == ENODEV || errno == ECONNABORTED) return std::optional<CuseRequest>();
            return errno_error(fmt::format("cannot receive requests of '{}'", path_));
        }
        const auto request = decode_cuse_request(buffer.first(static_cast<size_t>(got)));
        if (!request) {
            return make_error(std::errc::protocol_error,
                              fmt::format("'{}': a request of {} bytes that cannot be read", path_, got));
        }
        if (!wants_no_answer(*request)) return request;
    }
}

bool CuseChannel::send(std::span<const iovec> parts) {
    for (;;) {
        if (::writev(fd_.get(), parts.data(), static_cast<int>(parts.size())) >= 0) return true;
        if (errno == EINTR) continue;
        // ENOENT: whoever asked is gone, or the connection has ended
        if (errno != ENOENT && errno != ENODEV && errno != ECONNABORTED) {
            log::error("'{}': the kernel does not take an answer: {}", path_, errno_error("").message());
        }
        return false;
    }
}

bool CuseChannel::answer_error(uint64_t unique, int error_number) {
    const auto head = encode_error(unique, error_number);
    return send(std::array{part(head.bytes())});
}

bool CuseChannel::answer_open(uint64_t unique, uint64_t handle) {
    const auto head = encode_open(unique, handle);
    return send(std::array{part(head.bytes())});
}

bool CuseChannel::answer_data(uint64_t unique, std::span<const std::byte> data) {
    const auto head = encode_data(unique, data.size());
    return send(std::array{part(head.bytes()), part(data)});
}

bool CuseChannel::answer_written(uint64_t unique, uint32_t bytes) {
    const auto head = encode_written(unique, bytes);
    return send(std::array{part(head.bytes())});
}

bool CuseChannel::answer_poll(uint64_t unique, uint32_t revents) {
    const auto head = encode_poll(unique, revents);
    return send(std::array{part(head.bytes())});
}

bool CuseChannel::answer_ioctl(uint64_t unique, int32_t result, std::span<const iovec> out) {
    std::array<iovec, most_segments + 1> parts;
    if (out.size() > most_segments) return answer_error(unique, EIO);
    size_t bytes = 0;
    for (size_t i = 0; i < out.size(); ++i) {
        parts[i + 1] = out[i];
        bytes += out[i].iov_len;
    }
    const auto head = encode_ioctl(unique, result, bytes);
    parts[0] = part(head.bytes());
    return send(std::span(parts).first(out.size() + 1));
}

bool CuseChannel::answer_retry(uint64_t unique, std::span<const CallerSegment> in, std::span<const CallerSegment> out) {
    const auto head = encode_retry(unique, in.size(), out.size());
    const auto segments = encode_segments(in, out);
    return send(std::array{part(head.bytes()), part(segments)});
}

bool CuseChannel::interrupt_again(uint64_t interrupt_unique) {
    const auto head = encode_interrupt_again(interrupt_unique);
    return send(std::array{part(head.bytes())});
}

void CuseChannel::notify_poll(uint64_t poll_handle) {
    const auto head = encode_poll_notice(poll_handle);
    [[maybe_unused]] const bool connected = send(std::array{part(head.bytes())});
}

void CuseChannel::abort() {
    if (!abort_fd_ || ::write(abort_fd_.get(), "1", 1) == 1 || errno == ENODEV) return;
    log::warning("cannot end the connection of '{}': {}", path_, errno_error("").message());
}

}  // namespace storctl::node
