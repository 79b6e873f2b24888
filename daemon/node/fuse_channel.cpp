#define FUSE_USE_VERSION 312
#include "daemon/node/fuse_channel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace storctl::node {
namespace {

constexpr size_t page_bytes = 4096;

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

/// A dead node's mount answers ENOTCONN; a lazy unmount clears it, whoever still has a file open there.
Result<void> prepare_mount_point(const std::string& path) {
    struct stat status {};
    for (int layers = 0; ::stat(path.c_str(), &status) != 0 && errno == ENOTCONN; ++layers) {
        if (layers == 16 || ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
            return errno_error(fmt::format("cannot take a dead node's mount off '{}'", path));
        }
    }
    TRY(make_directories(dir_name(path)));
    const UniqueFd file = TRY(open_file(path, O_RDONLY | O_CREAT | O_NOFOLLOW, 0600));
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
        return make_error(std::errc::invalid_argument, fmt::format("'{}' is not a regular file to mount on", path));
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<FuseChannel>> FuseChannel::mount(const std::string& path, const std::string& name,
                                                        bool read_only) {
    TRY(prepare_mount_point(path));
    std::unique_ptr<FuseChannel> channel(new FuseChannel);
    channel->path_ = path;
    const std::string mount_options = fmt::format(
        "allow_other,default_permissions,nosuid,nodev,noatime,fsname=storctl:{},subtype=storctl,max_read={}{}", name,
        fuse_max_transfer_bytes, read_only ? ",ro" : "");
    std::array<std::string, 3> words{"stor-node", "-o", mount_options};
    std::array<char*, 3> argv{words[0].data(), words[1].data(), words[2].data()};
    fuse_args args = FUSE_ARGS_INIT(static_cast<int>(argv.size()), argv.data());
    fuse_lowlevel_ops no_operations{};  // libfuse only mounts; requests never reach it
    channel->session_ = fuse_session_new(&args, &no_operations, sizeof no_operations, nullptr);
    fuse_opt_free_args(&args);
    if (channel->session_ == nullptr) {
        return make_error(std::errc::io_error, fmt::format("cannot prepare a FUSE mount on '{}'", path));
    }
    if (fuse_session_mount(channel->session_, path.c_str()) != 0) {
        return errno_error(fmt::format("cannot mount on '{}' (is /dev/fuse there, and the module fuse loaded?)", path));
    }
    channel->mounted_ = true;
    channel->fd_ = fuse_session_fd(channel->session_);
    channel->allocate_slots();
    return channel;
}

FuseChannel::~FuseChannel() {
    unmount();
    if (session_ != nullptr) fuse_session_destroy(session_);
}

void FuseChannel::unmount() {
    if (!std::exchange(mounted_, false)) return;
    if (::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) {
        log::warning("cannot unmount '{}', left as it is: {}", path_, errno_error("").message());
    }
    ::unlink(path_.c_str());
}

void FuseChannel::allocate_slots() {
    constexpr size_t bytes = fuse_slots * fuse_max_transfer_bytes;
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = {static_cast<std::byte*>(memory), [](std::byte* start) { ::munmap(start, bytes); }};
    slots_ = std::vector<FuseSlot>(fuse_slots);
    for (size_t i = fuse_slots; i-- > 0;) {
        FuseSlot& slot = slots_[i];
        slot.channel = this;
        slot.receive.slot = slot.reply.slot = &slot;
        slot.receive.done = &FuseChannel::received;
        slot.reply.done = &FuseChannel::replied;
        slot.data = memory_.get() + i * fuse_max_transfer_bytes;
        slot.in = {iovec{slot.head.data(), slot.head.size()}, iovec{slot.data, fuse_max_transfer_bytes}};
        free_.push_back(&slot);
    }
}

Result<void> FuseChannel::negotiate() {
    FuseSlot& slot = slots_[0];
    ssize_t got = -1;
    do {
        got = ::readv(fd_, slot.in.data(), slot.in.size());
    } while (got < 0 && (errno == EINTR || errno == EAGAIN));
    if (got < static_cast<ssize_t>(sizeof(fuse_in_header)))
        return errno_error(fmt::format("no FUSE handshake on '{}'", path_));
    slot.received = static_cast<size_t>(got);
    const auto header = slot.header();
    const auto offer = slot.body<fuse_init_in>();
    if (header.opcode != FUSE_INIT || offer.major != FUSE_KERNEL_VERSION) {
        return make_error(std::errc::protocol_error,
                          fmt::format("the kernel speaks FUSE {}.{} on '{}', this program {}.{}", offer.major,
                                      offer.minor, path_, FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION));
    }
    // ASYNC_DIO: one client's requests run at the same time. MAX_PAGES: 1 MiB instead of 128 KiB. Not ATOMIC_O_TRUNC:
    // with it the kernel takes the file for empty after an open with O_TRUNC, and asynchronous reads end at once.
    constexpr uint32_t wanted =
        FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS;
    fuse_init_out answer{};
    answer.major = FUSE_KERNEL_VERSION;
    answer.minor = std::min<uint32_t>(FUSE_KERNEL_MINOR_VERSION, offer.minor);
    answer.max_readahead = offer.max_readahead;
    answer.flags = offer.flags & wanted;
    answer.max_background = fuse_slots;
    answer.congestion_threshold = fuse_slots;
    answer.max_write = fuse_max_transfer_bytes;
    answer.max_pages = static_cast<uint16_t>(fuse_max_transfer_bytes / page_bytes);
    answer.time_gran = 1;
    const fuse_out_header out{.len = sizeof out + sizeof answer, .error = 0, .unique = header.unique};
    const std::array<iovec, 2> parts{iovec{const_cast<fuse_out_header*>(&out), sizeof out},
                                     iovec{&answer, sizeof answer}};
    if (::writev(fd_, parts.data(), parts.size()) < 0)
        return errno_error(fmt::format("no FUSE handshake on '{}'", path_));
    if (::fcntl(fd_, F_SETFL, O_NONBLOCK) != 0) return errno_error("cannot prepare the FUSE descriptor");
    return {};
}

void FuseChannel::serve(IoRing& ring, unsigned file_index, Handler handler, std::function<void()> on_closed) {
    ring_ = &ring;
    file_index_ = file_index;
    handler_ = std::move(handler);
    on_closed_ = std::move(on_closed);
    poll_.done = &FuseChannel::poll_failed;
    poll_.silent = true;
    receiving_ = true;
    arm();
}

FuseSlot* FuseChannel::take_slot() {
    if (free_.empty()) return nullptr;
    FuseSlot* const slot = free_.back();
    free_.pop_back();
    return slot;
}

void FuseChannel::give_back(FuseSlot& slot) {
    free_.push_back(&slot);
    if (!armed_ && receiving_) arm();
}

/// A poll linked to a read: one wait of the reactor covers both, so a lone request costs no system call to be read.
void FuseChannel::arm() {
    FuseSlot* const slot = take_slot();
    if (slot == nullptr) return;  // give_back arms again
    armed_ = true;
    poll_.slot = slot;
    const auto fd = static_cast<int>(file_index_);
    ring_->reserve(2);
    io_uring_sqe* const poll = ring_->entry(poll_);
    io_uring_prep_poll_add(poll, fd, POLLIN);
    poll->flags |= IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe* const read = ring_->entry(slot->receive);
    io_uring_prep_readv(read, fd, slot->in.data(), slot->in.size(), 0);
    read->flags |= IOSQE_FIXED_FILE;
}

void FuseChannel::stop_receiving() {
    receiving_ = false;
    restart_receiving();
}

void FuseChannel::restart_receiving() {
    if (armed_) ring_->cancel(poll_);
}

/// The linked read is not carried out then, and says nothing of its own (io_uring: a failed request that skips its
/// completion takes its links' along).
void FuseChannel::poll_failed(IoCompletion& self, int result) {
    FuseSlot& slot = *static_cast<Poll&>(self).slot;
    slot.channel->ring_->abandon(slot.receive);
    received(slot.receive, result);
}

void FuseChannel::received(IoCompletion& self, int result) {
    FuseSlot& slot = *static_cast<FuseSlot::Completion&>(self).slot;
    FuseChannel& channel = *slot.channel;
    channel.armed_ = false;
    if (result == -ENODEV || result == -ECONNABORTED) {
        channel.receiving_ = false;
        channel.give_back(slot);
        return channel.on_closed_();
    }
    // ENOENT: the request was interrupted before we read it
    const bool passing = result == -ENOENT || result == -EAGAIN || result == -EINTR || result == -ECANCELED;
    if (result < 0 && !passing) {
        log::error("'{}' cannot be served any more: {}", channel.path_, errno_error("", -result).message());
        channel.receiving_ = false;
        channel.give_back(slot);
        return channel.on_closed_();
    }
    if (result < 0) return channel.give_back(slot);
    channel.accept(slot, static_cast<size_t>(result));
    // With others in flight there may be more to read: fetch it at once and submit all their I/O in one call.
    if (channel.in_flight_ > 1) channel.drain();
    if (!channel.armed_ && channel.receiving_) channel.arm();
}

void FuseChannel::drain() {
    while (receiving_) {
        FuseSlot* const slot = take_slot();
        if (slot == nullptr) return;
        const ssize_t got = ::readv(fd_, slot->in.data(), slot->in.size());
        if (got < 0) return free_.push_back(slot);
        accept(*slot, static_cast<size_t>(got));
        ring_->submit_batch();
    }
}

void FuseChannel::accept(FuseSlot& slot, size_t bytes) {
    slot.received = bytes;
    ++in_flight_;
    handler_(slot);
}

void FuseChannel::reply_error(FuseSlot& slot, int error_number) {
    slot.out_header = {.len = sizeof(fuse_out_header), .error = -error_number, .unique = slot.header().unique};
    slot.out[0] = {&slot.out_header, sizeof slot.out_header};
    send(slot, 1);
}

void FuseChannel::reply_data(FuseSlot& slot, const std::byte* data, size_t bytes) {
    slot.out_header = {
        .len = static_cast<uint32_t>(sizeof(fuse_out_header) + bytes), .error = 0, .unique = slot.header().unique};
    slot.out[0] = {&slot.out_header, sizeof slot.out_header};
    slot.out[1] = {const_cast<std::byte*>(data), bytes};
    send(slot, bytes == 0 ? 1 : 2);
}

void FuseChannel::send(FuseSlot& slot, unsigned parts) {
    io_uring_sqe* const write = ring_->entry(slot.reply);
    io_uring_prep_writev(write, static_cast<int>(file_index_), slot.out.data(), parts, 0);
    write->flags |= IOSQE_FIXED_FILE;
}

void FuseChannel::replied(IoCompletion& self, int result) {
    FuseSlot& slot = *static_cast<FuseSlot::Completion&>(self).slot;
    FuseChannel& channel = *slot.channel;
    // ENOENT: the client was killed meanwhile and nobody waits for the answer
    if (result < 0 && result != -ENOENT && result != -ENODEV && result != -ECONNABORTED) {
        log::error("a FUSE reply on '{}' failed: {}", channel.path_, errno_error("", -result).message());
        // the client would wait for ever: let the kernel have at least an error
        if (slot.out_header.error == 0) return channel.reply_error(slot, EIO);
    }
    channel.no_reply(slot);
}

void FuseChannel::no_reply(FuseSlot& slot) {
    --in_flight_;
    give_back(slot);
}

void FuseChannel::notify_attributes_changed() {
    // FUSE_NOTIFY_INVAL_INODE with a negative offset: attributes only, no data (there is none in the page cache)
    const fuse_notify_inval_inode_out body{.ino = FUSE_ROOT_ID, .off = -1, .len = 0};
    const fuse_out_header out{.len = sizeof out + sizeof body, .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0};
    const std::array<iovec, 2> parts{iovec{const_cast<fuse_out_header*>(&out), sizeof out},
                                     iovec{const_cast<fuse_notify_inval_inode_out*>(&body), sizeof body}};
    if (::writev(fd_, parts.data(), parts.size()) < 0 && errno != ENOENT) {
        log::warning("cannot tell the kernel that '{}' has another size, consumers see it at their next look: {}",
                     path_, errno_error("").message());
    }
}

}  // namespace storctl::node
