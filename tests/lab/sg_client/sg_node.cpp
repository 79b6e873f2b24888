#include "tests/lab/sg_client/sg_node.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "tests/lab/sg_client/report.hpp"

namespace storctl::sg_client {
namespace {

constexpr unsigned check_condition = 0x02, busy = 0x08, reservation_conflict = 0x18, task_aborted = 0x40;
constexpr unsigned unit_attention = 6;

std::string sense_text(const Answer& answer) {
    if (answer.sense_bytes < 8) return fmt::format("with {} bytes of sense", answer.sense_bytes);
    const bool descriptors = (answer.sense[0] & 0x7f) >= 0x72;
    const auto& sense = answer.sense;
    if (descriptors) return fmt::format("{:x}/{:02x}/{:02x}", sense[1] & 0xf, sense[2], sense[3]);
    const bool qualified = answer.sense_bytes >= 14;
    return fmt::format("{:x}/{:02x}/{:02x}", sense[2] & 0xf, qualified ? sense[12] : 0, qualified ? sense[13] : 0);
}

bool is_unit_attention(const Answer& answer) {
    if (answer.result != 0 || answer.status != check_condition || answer.sense_bytes < 3) return false;
    const unsigned key = (answer.sense[0] & 0x7f) >= 0x72 ? answer.sense[1] : answer.sense[2];
    return (key & 0xf) == unit_attention;
}

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

Answer send_v4(const SgNode& node, Request& request) {
    Answer answer;
    sg_io_v4 header{};
    header.guard = 'Q';
    header.request_len = static_cast<uint32_t>(request.cdb.size());
    header.request = address(request.cdb.data());
    header.max_response_len = answer.sense.size();
    header.response = address(answer.sense.data());
    header.timeout = request.timeout_ms;
    const uint64_t data = request.pieces.empty() ? address(request.data.data()) : address(request.pieces.data());
    const auto bytes = static_cast<uint32_t>(request.data.size());
    const auto pieces = static_cast<uint32_t>(request.pieces.size());
    if (request.direction == Direction::to_device) {
        header.dout_xferp = data;
        header.dout_xfer_len = bytes;
        header.dout_iovec_count = pieces;
    }
    if (request.direction == Direction::from_device) {
        header.din_xferp = data;
        header.din_xfer_len = bytes;
        header.din_iovec_count = pieces;
    }
    answer.result = node.call(SG_IO, &header);
    answer.status = header.device_status;
    answer.host_status = header.transport_status;
    answer.driver_status = header.driver_status;
    answer.sense_bytes = header.response_len;
    answer.residual = request.direction == Direction::to_device ? header.dout_resid : header.din_resid;
    answer.duration_ms = header.duration;
    return answer;
}

}  // namespace

std::string Answer::text() const {
    if (result != 0) return outcome(result);
    if (host_status != 0) return fmt::format("host status {}", host_status);
    switch (status) {
        case 0:
            return "GOOD";
        case check_condition:
            return "CHECK CONDITION " + sense_text(*this);
        case busy:
            return "BUSY";
        case reservation_conflict:
            return "RESERVATION CONFLICT";
        case task_aborted:
            return "TASK ABORTED";
        default:
            return fmt::format("status {:#x}", status);
    }
}

Answer answer_of(const sg_io_hdr& header, long result) {
    return {.result = result,
            .status = header.status,
            .host_status = header.host_status,
            .driver_status = header.driver_status,
            .sense_bytes = header.sb_len_wr,
            .residual = header.resid,
            .duration_ms = header.duration};
}

sg_io_hdr v3_header(Request& request, std::span<uint8_t> sense) {
    sg_io_hdr header{};
    header.interface_id = 'S';
    header.dxfer_direction = request.direction == Direction::none        ? SG_DXFER_NONE
                             : request.direction == Direction::to_device ? SG_DXFER_TO_DEV
                                                                         : SG_DXFER_FROM_DEV;
    header.cmd_len = static_cast<unsigned char>(request.cdb.size());
    header.cmdp = request.cdb.data();
    header.dxfer_len = static_cast<unsigned>(request.data.size());
    header.dxferp = request.data.data();
    if (!request.pieces.empty()) {
        header.iovec_count = static_cast<unsigned short>(request.pieces.size());
        header.dxferp = request.pieces.data();
    }
    header.sbp = sense.data();
    header.mx_sb_len = static_cast<unsigned char>(sense.size());
    header.timeout = request.timeout_ms;
    return header;
}

SgNode::SgNode(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (!fd_) give_up("open " + path, -errno);
}

long SgNode::call(unsigned long command, void* argument) const {
    const int result = ioctl(fd(), command, argument);
    return result < 0 ? -errno : result;
}

Answer SgNode::send(Request request, Header header) const {
    if (header == Header::v4) return send_v4(*this, request);
    std::array<uint8_t, 64> sense{};
    sg_io_hdr said = v3_header(request, sense);
    const long result = call(SG_IO, &said);
    Answer answer = answer_of(said, result);
    answer.sense = sense;
    return answer;
}

void SgNode::send_good(const Request& request, Header header) const {
    constexpr int most_attentions = 8;
    Answer answer = send(request, header);
    for (int count = 0; count < most_attentions && is_unit_attention(answer); ++count) answer = send(request, header);
    if (answer.good()) return;
    give_up(fmt::format("command {:#04x}: {}", request.cdb[0], answer.text()), answer.result);
}

Capacity SgNode::capacity(Header header) const {
    std::array<std::byte, 32> data{};
    send_good({.cdb = read_capacity16(data.size()), .direction = Direction::from_device, .data = data, .pieces = {}},
              header);
    return {.blocks = number_at(data.data(), 8) + 1, .block_bytes = static_cast<uint32_t>(number_at(&data[8], 4))};
}

bool SgNode::takes_fua(Header header) const {
    constexpr uint8_t caching = 0x08;
    std::array<std::byte, 64> data{};
    send_good(
        {.cdb = mode_sense(caching, data.size()), .direction = Direction::from_device, .data = data, .pieces = {}},
        header);
    return (data[2] & std::byte{0x10}) != std::byte{0};
}

size_t SgNode::most_data_bytes() const {
    constexpr long page_bytes = 4096;
    size_t most = size_t{1} << 20;
    int value = 0;
    if (call(BLKSECTGET, &value) == 0 && value > 0) most = std::min(most, static_cast<size_t>(value));
    if (call(SG_GET_SG_TABLESIZE, &value) == 0 && value > 0)
        most = std::min(most, static_cast<size_t>(value * page_bytes));
    return most;
}

}  // namespace storctl::sg_client
