#pragma once
// What of a caller's memory one SG_IO names, for the fuzzer: worked out from the bytes that were handed out, with the
// system's own structures.

#include <optional>

#include <linux/bsg.h>
#include <scsi/sg.h>

#include "tests/fuzz/caller_pages.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace storctl::fuzz {

/// sg_io_hdr of a 32-bit program.
struct SgHeader32 {
    int32_t interface_id, dxfer_direction;
    uint8_t cmd_len, mx_sb_len;
    uint16_t iovec_count;
    uint32_t dxfer_len, dxferp, cmdp, sbp, timeout, flags;
    int32_t pack_id;
    uint32_t usr_ptr;
    uint8_t status, masked_status, msg_status, sb_len_wr;
    uint16_t host_status, driver_status;
    int32_t resid;
    uint32_t duration, info;
};
static_assert(sizeof(SgHeader32) == 64);

class NamedBySg {
 public:
    /// `legs`: what was fetched once is not fetched again for another purpose, and sense data are fetched.
    NamedBySg(uint64_t header, bool wide, bool legs) : header_(header), wide_(wide), legs_(legs) {
        expect(Part::header, header, first_bytes());
    }
    /// Of a header that came by write(): all of it is there.
    NamedBySg(std::span<const uint8_t> written, bool wide) : header_(0), wide_(wide) {
        Expected whole{.part = Part::header, .range = {}, .bytes = {written.begin(), written.end()}};
        expected_.push_back(whole);
        if (guard() == 'Q' ? written.size() >= sizeof(sg_io_v4) : written.size() >= first_bytes()) name_pointers();
    }

    void fetch(uint64_t address, std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        for (size_t i = 0; i < expected_.size(); ++i) {
            auto& one = expected_[i];
            if (one.missing() < bytes.size() || one.range.address + one.bytes.size() != address) continue;
            const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
            one.bytes.insert(one.bytes.end(), from, from + bytes.size());
            if (one.missing() == 0) complete(i);
            return;
        }
        FUZZ_CHECK(covered(reads_, address, bytes.size()));
    }
    bool may_write(uint64_t address, uint64_t size) const { return covered(writes_, address, size); }

 private:
    enum class Part : uint8_t { header, header_rest, cdb, list };
    struct Expected {
        Part part;
        Range range;
        std::vector<uint8_t> bytes;
        uint64_t missing() const { return range.length - std::min<uint64_t>(range.length, bytes.size()); }
    };

    size_t first_bytes() const { return wide_ ? sizeof(sg_io_hdr) : sizeof(SgHeader32); }

    static bool covered(const std::vector<Range>& ranges, uint64_t at, uint64_t size) {
        while (size > 0) {
            uint64_t most = 0;
            for (const auto& range : ranges) {
                if (range.contains(at, 1)) most = std::max(most, range.length - (at - range.address));
            }
            if (most == 0) return false;
            at += std::min(most, size);
            size -= std::min(most, size);
        }
        return true;
    }

    void expect(Part part, uint64_t address, uint64_t length) {
        if (length == 0) return;
        Expected next{.part = part, .range = {address, length}, .bytes = {}};
        for (const auto& one : expected_) {
            if (legs_ && one.missing() == 0 && one.range.address == address && one.range.length == length)
                next.bytes = one.bytes;
        }
        expected_.push_back(next);
        if (next.missing() == 0) complete(expected_.size() - 1);
    }

    void complete(size_t index) {
        switch (expected_[index].part) {
            case Part::header:
                if (guard() == 'Q') {
                    expect(Part::header_rest, header_ + first_bytes(), sizeof(sg_io_v4) - first_bytes());
                } else if (guard() == 'S') {
                    name_pointers();
                }
                break;
            case Part::header_rest:
                expected_[0].bytes.insert(expected_[0].bytes.end(), expected_[index].bytes.begin(),
                                          expected_[index].bytes.end());
                expected_[0].range.length = expected_[0].bytes.size();
                name_pointers();
                break;
            case Part::cdb:
                break;
            case Part::list:
                name_segments(expected_[index].bytes);
                break;
        }
    }

    template <class T>
    T header_as() const {
        T out;
        FUZZ_CHECK(expected_[0].bytes.size() >= sizeof out);
        std::memcpy(&out, expected_[0].bytes.data(), sizeof out);
        return out;
    }
    int32_t guard() const {
        int32_t out = 0;
        if (expected_[0].bytes.size() >= sizeof out) std::memcpy(&out, expected_[0].bytes.data(), sizeof out);
        return out;
    }

    void name_pointers() {
        if (guard() == 'Q') {
            const auto one = header_as<sg_io_v4>();
            writes_.push_back({header_ + offsetof(sg_io_v4, driver_status), 36});
            const bool out = one.dout_xfer_len > 0;
            name(one.request, one.request_len, one.response, one.max_response_len, out,
                 out ? one.dout_xferp : one.din_xferp, out ? one.dout_xfer_len : one.din_xfer_len,
                 out ? one.dout_iovec_count : one.din_iovec_count);
        } else if (guard() == 'S' && wide_) {
            const auto one = header_as<sg_io_hdr>();
            writes_.push_back({header_ + offsetof(sg_io_hdr, status), 20});
            name_v3(one, reinterpret_cast<uint64_t>(one.cmdp), reinterpret_cast<uint64_t>(one.sbp),
                    reinterpret_cast<uint64_t>(one.dxferp));
        } else if (guard() == 'S') {
            const auto one = header_as<SgHeader32>();
            writes_.push_back({header_ + offsetof(SgHeader32, status), 20});
            name_v3(one, one.cmdp, one.sbp, one.dxferp);
        }
    }
    template <class T>
    void name_v3(const T& one, uint64_t cdb, uint64_t sense, uint64_t data) {
        const bool none = one.dxfer_direction == SG_DXFER_NONE || (one.flags & SG_FLAG_NO_DXFER) != 0;
        name(cdb, one.cmd_len, sense, one.mx_sb_len, one.dxfer_direction == SG_DXFER_TO_DEV, data,
             none ? 0 : one.dxfer_len, one.iovec_count);
    }
    void name(uint64_t cdb, uint64_t cdb_bytes, uint64_t sense, uint64_t sense_bytes, bool to_device, uint64_t data,
              uint64_t data_bytes, uint64_t segments) {
        to_device_ = to_device;
        data_bytes_ = data_bytes;
        if (sense != 0) writes_.push_back({sense, sense_bytes});
        if (sense != 0 && legs_) reads_.push_back({sense, sense_bytes});
        expect(Part::cdb, cdb, cdb_bytes);
        if (segments == 0) name_data({data, data_bytes});
        if (segments > 0 && data_bytes > 0) expect(Part::list, data, segments * (wide_ ? 16 : 8));
    }
    void name_segments(const std::vector<uint8_t>& list) {
        const size_t width = wide_ ? 8 : 4;
        for (size_t at = 0; at + 2 * width <= list.size(); at += 2 * width) {
            uint64_t address = 0, length = 0;
            std::memcpy(&address, list.data() + at, width);
            std::memcpy(&length, list.data() + at + width, width);
            length = std::min(length, data_bytes_);
            data_bytes_ -= length;
            name_data({address, length});
        }
    }
    void name_data(Range range) { (to_device_ ? reads_ : writes_).push_back(range); }

    uint64_t header_;
    bool wide_, legs_ = false;
    bool to_device_ = false;
    uint64_t data_bytes_ = 0;
    std::vector<Expected> expected_;
    std::vector<Range> reads_, writes_;
};

}  // namespace storctl::fuzz
