#pragma once
// The messages of a CUSE connection as bytes (include/uapi/linux/fuse.h): requests from the kernel, and the heads of
// what goes back. An answer's data follow its head in the same write. Pure.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "daemon/node/cuse_channel.hpp"

namespace storctl::node {

/// The first request of a connection.
struct CuseOffer {
    uint64_t unique = 0;
    uint32_t major = 0, minor = 0;  ///< of the protocol
    uint32_t flags = 0;
};
/// Error: not a CUSE_INIT.
Result<CuseOffer> decode_cuse_offer(std::span<const std::byte> message);
std::vector<std::byte> encode_cuse_accept(const CuseOffer& offer, const CuseOptions& options);

/// One read's bytes, whole. Nothing: cut off, or lengths in it that do not agree.
std::optional<CuseRequest> decode_cuse_request(std::span<const std::byte> message);
/// The kernel waits for no answer to it, and takes none (an interrupt takes one: interrupt_again).
bool wants_no_answer(const CuseRequest& request);

class CuseHead {
 public:
    std::span<const std::byte> bytes() const { return {bytes_.data(), size_}; }

 private:
    friend struct CuseHeadWriter;
    std::array<std::byte, 40> bytes_{};
    size_t size_ = 0;
};

/// A positive errno or 0. Two kinds are changed: ENOSYS, which the kernel takes for "never ask again" (and a poll is
/// always ready from then on), and what no errno can be, which it refuses while its caller goes on waiting.
CuseHead encode_error(uint64_t unique, int error_number);
CuseHead encode_open(uint64_t unique, uint64_t handle);
CuseHead encode_data(uint64_t unique, size_t data_bytes);
CuseHead encode_written(uint64_t unique, uint32_t bytes);
CuseHead encode_poll(uint64_t unique, uint32_t revents);
CuseHead encode_ioctl(uint64_t unique, int32_t result, size_t data_bytes);
/// Followed by the segments, the in-segments first (`encode_segments`).
CuseHead encode_retry(uint64_t unique, size_t in_segments, size_t out_segments);
std::vector<std::byte> encode_segments(std::span<const CallerSegment> in, std::span<const CallerSegment> out);
CuseHead encode_interrupt_again(uint64_t interrupt_unique);
CuseHead encode_poll_notice(uint64_t poll_handle);

/// How sysfs writes a device's name: "storctl!usb!token".
std::string sysfs_device_name(std::string name);
/// One to 200 characters, made of parts that are good file names, apart by '/'. Not below bus/usb: there libusb takes
/// numbers from the path.
Result<void> check_device_name(const std::string& name);

}  // namespace storctl::node
