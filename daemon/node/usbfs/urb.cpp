#include "daemon/node/usbfs/urb.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include <linux/usbdevice_fs.h>

namespace storctl::node::usbfs {

static_assert(sizeof(usbdevfs_iso_packet_desc) == iso_packet_bytes);

// ---- buffers

BufferPool::~BufferPool() { trim(); }

BufferPool::Buffer BufferPool::take(size_t length) {
    const std::scoped_lock lock(mutex_);
    if (in_use_bytes_ + length > most_in_use || taken_ == most_taken) return {};
    const size_t capacity = std::bit_ceil(std::max<size_t>(length, 64));
    const auto kept = std::find_if(kept_.begin(), kept_.end(), [&](const Buffer& b) { return b.capacity == capacity; });
    Buffer buffer{.capacity = capacity};
    if (kept != kept_.end()) {
        buffer = *kept;
        kept_.erase(kept);
        kept_bytes_ -= capacity;
    } else if (!shut_ && capacity >= smallest_mapped && mapped_bytes_ + capacity <= most_mapped) {
        buffer.memory = device_.map(capacity);
        buffer.mapped = buffer.memory != nullptr;
        if (buffer.mapped) mapped_bytes_ += capacity;
    }
    if (buffer.memory == nullptr) buffer.memory = new (std::nothrow) std::byte[capacity];
    if (buffer.memory == nullptr) return {};
    buffer.length = length;
    in_use_bytes_ += length;
    ++taken_;
    return buffer;
}

void BufferPool::give(Buffer buffer) {
    const std::scoped_lock lock(mutex_);
    in_use_bytes_ -= buffer.length;
    --taken_;
    if (shut_ || kept_bytes_ + buffer.capacity > most_kept) return free(buffer);
    kept_bytes_ += buffer.capacity;
    kept_.push_back(buffer);
}

bool BufferPool::trim() {
    const std::scoped_lock lock(mutex_);
    for (const auto& buffer : kept_) free(buffer);
    kept_bytes_ = 0;
    return !std::exchange(kept_, {}).empty();
}

void BufferPool::shut() {
    {
        const std::scoped_lock lock(mutex_);
        shut_ = true;
    }
    trim();
}

void BufferPool::free(const Buffer& buffer) {
    if (!buffer.mapped) {
        delete[] buffer.memory;
        return;
    }
    mapped_bytes_ -= buffer.capacity;
    device_.unmap(buffer.memory, buffer.capacity);
}

// ---- URBs

Urb::Urb(BufferPool& pool, BufferPool::Buffer buffer, const UrbHeader& header, std::vector<IsoPacket> packets,
         Layout layout, uint64_t user_address, bool to_host)
    : pool_(pool),
      buffer_(buffer),
      header_(header),
      layout_(layout),
      user_address_(user_address),
      to_host_(to_host),
      storage_(std::make_unique<std::byte[]>(sizeof(usbdevfs_urb) + packets.size() * iso_packet_bytes)),
      kernel_(new (storage_.get()) usbdevfs_urb{}) {
    kernel_->type = static_cast<unsigned char>(header.type);
    kernel_->endpoint = header.endpoint;
    kernel_->flags = header.flags;
    kernel_->buffer = buffer.memory;
    kernel_->buffer_length = static_cast<int>(buffer.length);
    kernel_->start_frame = header.start_frame;
    kernel_->number_of_packets = header.number_of_packets;
    // signr stays 0: the signal would be ours
    kernel_->usercontext = this;
    for (size_t i = 0; i < packets.size(); ++i) kernel_->iso_frame_desc[i].length = packets[i].length;
}

Urb::~Urb() { drop_buffer(); }

void Urb::drop_buffer() {
    if (buffer_.memory == nullptr) return;
    pool_.give(std::exchange(buffer_, {}));
    kernel_->buffer = nullptr;
    kernel_->actual_length = 0;
}

Traffic Urb::traffic() const {
    switch (header_.type) {
        case UrbType::isochronous:
            return Traffic::isochronous;
        case UrbType::interrupt:
            return Traffic::interrupt;
        case UrbType::control:
            return Traffic::control;
        case UrbType::bulk:
            return Traffic::bulk;
    }
    return Traffic::bulk;
}

void Urb::complete(int status, size_t actual_length) {
    kernel_->status = status;
    kernel_->actual_length = static_cast<int>(actual_length);
}

int Urb::status() const { return kernel_->status; }

size_t Urb::actual_length() const { return static_cast<size_t>(std::max(kernel_->actual_length, 0)); }

const std::vector<CallerMemory::Piece>& Urb::result(uint64_t pointer_address, Layout reap_layout) {
    const UrbOffsets offsets = urb_offsets(layout_);
    const auto field = [this](size_t offset, const auto& value) {
        pieces_.push_back({user_address_ + offset, std::as_bytes(std::span(&value, 1))});
    };
    pieces_.clear();
    const bool isochronous = header_.type == UrbType::isochronous;
    const size_t setup = header_.type == UrbType::control ? setup_bytes : 0;
    const size_t room = buffer_.length - std::min(setup, buffer_.length);
    const size_t moved = isochronous ? (actual_length() > 0 ? room : 0) : std::min(actual_length(), room);
    if (to_host_ && moved > 0) {
        pieces_.push_back({header_.buffer + setup, std::span(buffer_.memory + setup, moved)});
    }
    field(offsets.status, kernel_->status);
    field(offsets.actual_length, kernel_->actual_length);
    field(offsets.error_count, kernel_->error_count);
    for (int i = 0; isochronous && i < kernel_->number_of_packets; ++i) {
        // actual_length and status stand side by side
        const auto& packet = kernel_->iso_frame_desc[i];
        pieces_.push_back({user_address_ + offsets.packets + static_cast<size_t>(i) * iso_packet_bytes +
                               offsetof(usbdevfs_iso_packet_desc, actual_length),
                           std::as_bytes(std::span(&packet.actual_length, 2))});
    }
    pointer_ = encode_pointer(user_address_, reap_layout);
    pieces_.push_back({pointer_address, pointer_});
    return pieces_;
}

}  // namespace storctl::node::usbfs
