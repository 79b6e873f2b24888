#pragma once
// A consumer of a USB node for the fuzzer: what of its memory one ioctl names. The naming is worked out from the bytes
// that were handed out, without the code under test but wire.hpp's decoding.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <linux/usbdevice_fs.h>

#include "daemon/node/usbfs/wire.hpp"
#include "tests/fuzz/caller_pages.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace storctl::fuzz {

/// What a URB that was submitted allows its reap to write.
struct SubmittedUrb {
    uint64_t address = 0;
    node::usbfs::Layout layout{};
    node::usbfs::UrbType type{};
    size_t packets = 0;
    Range data;  ///< to the caller

    bool may_write(uint64_t at, uint64_t size) const {
        const auto offsets = node::usbfs::urb_offsets(layout);
        for (const size_t field : {offsets.status, offsets.actual_length, offsets.error_count}) {
            if (at == address + field && size == 4) return true;
        }
        for (size_t i = 0; i < packets; ++i) {
            if (Range{address + offsets.packets + i * node::usbfs::iso_packet_bytes + 4, 8}.contains(at, size))
                return true;
        }
        return data.contains(at, size) && data.length > 0;
    }
};

/// One ioctl's part of the caller's memory.
class NamedMemory {
 public:
    NamedMemory(uint32_t number, uint64_t argument, node::usbfs::Layout layout)
        : argument_(argument), layout_(layout), shape_(node::usbfs::decode_command(number, layout)) {
        if (!shape_) return;
        if (shape_->fetched) reads_.push_back({argument, shape_->header_bytes});
        if (!shape_->fetched || is(node::usbfs::Command::get_driver))
            writes_.push_back({argument, shape_->header_bytes});
        if (is(node::usbfs::Command::get_driver)) reads_.front().length = 4;
    }

    bool is(node::usbfs::Command command) const { return shape_ && shape_->command == command; }
    bool reaps() const { return is(node::usbfs::Command::reap_urb) || is(node::usbfs::Command::reap_urb_no_delay); }

    /// In order, and nothing twice.
    void fetch(uint64_t address, std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        for (size_t i = 0; i < reads_.size(); ++i) {
            auto& range = reads_[i];
            if (range.address + range.fetched != address || bytes.size() > range.length - range.fetched) continue;
            range.fetched += bytes.size();
            kept_.resize(std::max(kept_.size(), i + 1));
            if (kept_[i].size() < 4096) kept_[i].insert(kept_[i].end(), bytes.begin(), bytes.end());
            if (range.fetched == range.length) complete(i);
            return;
        }
        FUZZ_CHECK(!"the request does not name what is read, or it was read before");
    }
    bool may_write(uint64_t address, uint64_t size) const {
        return size == 0 || std::any_of(writes_.begin(), writes_.end(),
                                        [&](const Range& range) { return range.contains(address, size); });
    }
    const SubmittedUrb& urb() const { return urb_; }

 private:
    void name_data(uint64_t address, uint64_t length, bool to_host) {
        (to_host ? writes_ : reads_).push_back({address, length});
    }
    std::span<const std::byte> kept(size_t index, size_t size) const { return std::span(kept_[index]).first(size); }

    void complete(size_t index) {
        using node::usbfs::Command;
        if (index == 0 && is(Command::control)) {
            const auto transfer = node::usbfs::decode_control(kept(0, shape_->header_bytes), layout_);
            name_data(transfer.data, transfer.length, (transfer.setup[0] & 0x80) != 0);
        } else if (index == 0 && is(Command::bulk)) {
            const auto transfer = node::usbfs::decode_bulk(kept(0, shape_->header_bytes), layout_);
            name_data(transfer.data, transfer.length, (transfer.endpoint & 0x80) != 0);
        } else if (index == 0 && (is(Command::alloc_streams) || is(Command::free_streams))) {
            uint32_t endpoints = 0;
            std::memcpy(&endpoints, kept_[0].data() + 4, sizeof endpoints);
            name_data(argument_ + shape_->header_bytes, endpoints, false);
        } else if (is(Command::submit_urb)) {
            complete_urb(index);
        }
    }

    void complete_urb(size_t index) {
        using node::usbfs::UrbType;
        if (index == 0) {
            const auto header = node::usbfs::decode_urb(kept(0, shape_->header_bytes), layout_);
            if (!header || header->buffer_length < 0) return;
            header_ = *header;
            urb_ = {.address = argument_, .layout = layout_, .type = header->type};
            const auto length = static_cast<uint64_t>(header->buffer_length);
            if (header->type == UrbType::isochronous) {
                urb_.packets = static_cast<size_t>(std::clamp(header->number_of_packets, 0, 128));
                name_data(argument_ + shape_->header_bytes, urb_.packets * node::usbfs::iso_packet_bytes, false);
            } else if (header->type == UrbType::control) {
                name_data(header->buffer, std::min<uint64_t>(length, 8), false);
            } else {
                name_urb_data(header->buffer, length, (header->endpoint & 0x80) != 0);
            }
        } else if (index == 1 && header_.type == UrbType::isochronous) {
            uint64_t length = 0;
            for (size_t i = 0; i < urb_.packets; ++i) {
                uint32_t packet = 0;
                std::memcpy(&packet, kept_[1].data() + i * node::usbfs::iso_packet_bytes, sizeof packet);
                length += packet;
            }
            name_urb_data(header_.buffer, length, (header_.endpoint & 0x80) != 0);
        } else if (index == 1 && header_.type == UrbType::control && kept_[1].size() == 8) {
            const auto length = std::to_integer<uint64_t>(kept_[1][6]) | std::to_integer<uint64_t>(kept_[1][7]) << 8;
            const auto room = static_cast<uint64_t>(header_.buffer_length) - 8;
            name_urb_data(header_.buffer + 8, std::min(length, room), (std::to_integer<int>(kept_[1][0]) & 0x80) != 0);
        }
    }
    void name_urb_data(uint64_t address, uint64_t length, bool to_host) {
        if (to_host) {
            urb_.data = {address, length};
        } else {
            name_data(address, length, false);
        }
    }

    uint64_t argument_;
    node::usbfs::Layout layout_;
    std::optional<node::usbfs::CommandShape> shape_;
    std::vector<Range> reads_, writes_;
    std::vector<std::vector<std::byte>> kept_;  ///< what was fetched of each, from the start
    node::usbfs::UrbHeader header_;
    SubmittedUrb urb_;
};

}  // namespace storctl::fuzz
