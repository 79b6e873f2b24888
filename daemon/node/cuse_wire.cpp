#include "daemon/node/cuse_wire.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <linux/fuse.h>

#include "base/text.hpp"

namespace storctl::node {

struct CuseHeadWriter {
    template <class Body>
    static CuseHead with(uint64_t unique, const Body& body, size_t data_bytes = 0) {
        return add(bare(unique, 0, sizeof body + data_bytes), body);
    }
    template <class Body>
    static CuseHead add(CuseHead head, const Body& body) {
        static_assert(sizeof(fuse_out_header) + sizeof body <= sizeof CuseHead::bytes_);
        std::memcpy(head.bytes_.data() + head.size_, &body, sizeof body);
        head.size_ += sizeof body;
        return head;
    }
    static CuseHead bare(uint64_t unique, int32_t error, size_t following_bytes = 0) {
        CuseHead head;
        const fuse_out_header out{
            .len = static_cast<uint32_t>(sizeof(fuse_out_header) + following_bytes), .error = error, .unique = unique};
        std::memcpy(head.bytes_.data(), &out, sizeof out);
        head.size_ = sizeof out;
        return head;
    }
};

namespace {

constexpr size_t longest_device_name = 200;
constexpr int highest_errno = 511;  // fs/fuse/dev.c, fuse_dev_do_write

/// The next structure of a message; nothing: the message ends before.
template <class T>
std::optional<T> take(std::span<const std::byte>& bytes) {
    if (bytes.size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    bytes = bytes.subspan(sizeof value);
    return value;
}

template <class T>
void append(std::vector<std::byte>& bytes, const T& value) {
    const auto* start = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), start, start + sizeof value);
}

bool decode_open(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_open_in>(body);
    if (!in) return false;
    request.kind = CuseRequest::Kind::open;
    request.open_flags = in->flags;
    return true;
}

bool decode_release(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_release_in>(body);
    if (!in) return false;
    request.kind = CuseRequest::Kind::release;
    request.handle = in->fh;
    request.open_flags = in->flags;
    return true;
}

bool decode_read(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_read_in>(body);
    if (!in) return false;
    request.kind = CuseRequest::Kind::read;
    request.handle = in->fh;
    request.open_flags = in->flags;
    request.size = in->size;
    return true;
}

bool decode_write(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_write_in>(body);
    if (!in || in->size != body.size()) return false;
    request.kind = CuseRequest::Kind::write;
    request.handle = in->fh;
    request.open_flags = in->flags;
    request.in = body;
    request.in_size = in->size;
    return true;
}

bool decode_ioctl(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_ioctl_in>(body);
    if (!in || in->in_size != body.size()) return false;
    request.kind = CuseRequest::Kind::ioctl;
    request.handle = in->fh;
    request.command = in->cmd;
    request.argument = in->arg;
    request.compat = (in->flags & (FUSE_IOCTL_32BIT | FUSE_IOCTL_COMPAT)) != 0;
    request.in = body;
    request.in_size = in->in_size;
    request.out_size = in->out_size;
    return true;
}

bool decode_poll(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_poll_in>(body);
    if (!in) return false;
    request.kind = CuseRequest::Kind::poll;
    request.handle = in->fh;
    request.poll_handle = in->kh;
    request.notify = (in->flags & FUSE_POLL_SCHEDULE_NOTIFY) != 0;
    request.events = in->events;
    return true;
}

bool decode_interrupt(std::span<const std::byte> body, CuseRequest& request) {
    const auto in = take<fuse_interrupt_in>(body);
    if (!in) return false;
    request.kind = CuseRequest::Kind::interrupt;
    request.interrupted = in->unique;
    return true;
}

bool good_part(std::string_view part) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return !part.empty() && part[0] != '.' && part.find_first_not_of(allowed) == std::string_view::npos;
}

}  // namespace

Result<CuseOffer> decode_cuse_offer(std::span<const std::byte> message) {
    const auto header = take<fuse_in_header>(message);
    const auto in = take<cuse_init_in>(message);
    if (!header || !in || header->opcode != CUSE_INIT) {
        return make_error(std::errc::protocol_error, fmt::format("the kernel does not begin with CUSE_INIT but with {}",
                                                                 header ? header->opcode : 0));
    }
    if (in->major != FUSE_KERNEL_VERSION) {
        return make_error(std::errc::protocol_error,
                          fmt::format("the kernel speaks FUSE {}.{}, this program {}.{}", in->major, in->minor,
                                      FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION));
    }
    if ((in->flags & CUSE_UNRESTRICTED_IOCTL) == 0) {
        return make_error(std::errc::not_supported, "the kernel's CUSE has no unrestricted ioctls");
    }
    return CuseOffer{.unique = header->unique, .major = in->major, .minor = in->minor, .flags = in->flags};
}

std::vector<std::byte> encode_cuse_accept(const CuseOffer& offer, const CuseOptions& options) {
    // the kernel moves at most leg_bytes a request, whatever these say, and wants a read to have room for max_write
    const cuse_init_out body{.major = FUSE_KERNEL_VERSION,
                             .minor = std::min<uint32_t>(FUSE_KERNEL_MINOR_VERSION, offer.minor),
                             .flags = CUSE_UNRESTRICTED_IOCTL,
                             .max_read = CuseChannel::leg_bytes,
                             .max_write = CuseChannel::leg_bytes,
                             .dev_major = options.major,
                             .dev_minor = options.minor};
    const std::string info = "DEVNAME=" + options.name;
    const fuse_out_header header{.len = static_cast<uint32_t>(sizeof header + sizeof body + info.size() + 1),
                                 .error = 0,
                                 .unique = offer.unique};
    std::vector<std::byte> message;
    append(message, header);
    append(message, body);
    const auto text = std::as_bytes(std::span(info.c_str(), info.size() + 1));
    message.insert(message.end(), text.begin(), text.end());
    return message;
}

std::optional<CuseRequest> decode_cuse_request(std::span<const std::byte> message) {
    auto body = message;
    const auto header = take<fuse_in_header>(body);
    if (!header || header->len != message.size()) return std::nullopt;
    // extensions, for file systems with security labels, come last
    const size_t extension_bytes = size_t{header->total_extlen} * 8;
    if (extension_bytes > body.size()) return std::nullopt;
    body = body.first(body.size() - extension_bytes);

    CuseRequest request{.opcode = header->opcode,
                        .unique = header->unique,
                        .thread_id = static_cast<int>(header->pid),
                        .uid = header->uid,
                        .gid = header->gid};
    bool good = true;
    switch (header->opcode) {
        case FUSE_OPEN:
            good = decode_open(body, request);
            break;
        case FUSE_RELEASE:
            good = decode_release(body, request);
            break;
        case FUSE_READ:
            good = decode_read(body, request);
            break;
        case FUSE_WRITE:
            good = decode_write(body, request);
            break;
        case FUSE_IOCTL:
            good = decode_ioctl(body, request);
            break;
        case FUSE_POLL:
            good = decode_poll(body, request);
            break;
        case FUSE_INTERRUPT:
            good = decode_interrupt(body, request);
            break;
        default:
            break;
    }
    return good ? std::optional(request) : std::nullopt;
}

bool wants_no_answer(const CuseRequest& request) {
    return request.opcode == FUSE_FORGET || request.opcode == FUSE_BATCH_FORGET || request.opcode == FUSE_NOTIFY_REPLY;
}

CuseHead encode_error(uint64_t unique, int error_number) {
    if (error_number < 0 || error_number > highest_errno) error_number = EIO;
    return CuseHeadWriter::bare(unique, error_number == ENOSYS ? -ENOTTY : -error_number);
}

CuseHead encode_open(uint64_t unique, uint64_t handle) {
    return CuseHeadWriter::with(unique, fuse_open_out{.fh = handle});
}

CuseHead encode_data(uint64_t unique, size_t data_bytes) { return CuseHeadWriter::bare(unique, 0, data_bytes); }

CuseHead encode_written(uint64_t unique, uint32_t bytes) {
    return CuseHeadWriter::with(unique, fuse_write_out{.size = bytes});
}

CuseHead encode_poll(uint64_t unique, uint32_t revents) {
    return CuseHeadWriter::with(unique, fuse_poll_out{.revents = revents});
}

CuseHead encode_ioctl(uint64_t unique, int32_t result, size_t data_bytes) {
    return CuseHeadWriter::with(unique, fuse_ioctl_out{.result = result}, data_bytes);
}

CuseHead encode_retry(uint64_t unique, size_t in_segments, size_t out_segments) {
    return CuseHeadWriter::with(unique,
                                fuse_ioctl_out{.flags = FUSE_IOCTL_RETRY,
                                               .in_iovs = static_cast<uint32_t>(in_segments),
                                               .out_iovs = static_cast<uint32_t>(out_segments)},
                                (in_segments + out_segments) * sizeof(fuse_ioctl_iovec));
}

std::vector<std::byte> encode_segments(std::span<const CallerSegment> in, std::span<const CallerSegment> out) {
    std::vector<std::byte> bytes;
    bytes.reserve((in.size() + out.size()) * sizeof(fuse_ioctl_iovec));
    for (const auto& segments : {in, out}) {
        for (const CallerSegment& segment : segments) {
            append(bytes, fuse_ioctl_iovec{.base = segment.address, .len = segment.length});
        }
    }
    return bytes;
}

CuseHead encode_interrupt_again(uint64_t interrupt_unique) { return CuseHeadWriter::bare(interrupt_unique, -EAGAIN); }

CuseHead encode_poll_notice(uint64_t poll_handle) {
    // what is not an answer has no unique, and its code in the place of the error
    const auto head = CuseHeadWriter::bare(0, FUSE_NOTIFY_POLL, sizeof(fuse_notify_poll_wakeup_out));
    return CuseHeadWriter::add(head, fuse_notify_poll_wakeup_out{.kh = poll_handle});
}

std::string sysfs_device_name(std::string name) {
    std::replace(name.begin(), name.end(), '/', '!');
    return name;
}

Result<void> check_device_name(const std::string& name) {
    bool good = !name.empty() && name.size() <= longest_device_name && !name.starts_with("bus/usb");
    for (size_t start = 0; good && start <= name.size();) {
        const size_t end = std::min(name.find('/', start), name.size());
        good = good_part(std::string_view(name).substr(start, end - start));
        start = end + 1;
    }
    if (good) return {};
    return make_error(std::errc::invalid_argument,
                      fmt::format("'{}' cannot name a device below /dev", escape_unprintable(name)));
}

}  // namespace storctl::node
