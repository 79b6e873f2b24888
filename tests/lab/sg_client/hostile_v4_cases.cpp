// Wrong headers of version 4 (<linux/bsg.h>); the expected answers are those of the kernel's bsg driver.
#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

constexpr uint8_t inquiry_bytes = 36;

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

class Victim {
 public:
    explicit Victim(const SgNode& node) : node_(node), buffer_(4096), cdb_(inquiry(inquiry_bytes)) {
        const auto data = buffer_.use(inquiry_bytes, 512);
        header.guard = 'Q';
        header.request = address(cdb_.data());
        header.request_len = static_cast<uint32_t>(cdb_.size());
        header.response = address(sense_.data());
        header.max_response_len = sense_.size();
        header.din_xferp = address(data.data());
        header.din_xfer_len = inquiry_bytes;
        header.timeout = usual_timeout_ms;
    }

    std::string outcome_of() {
        const long result = node_.call(SG_IO, &header);
        if (!buffer_.intact()) return "memory around the buffer written";
        return result == 0 ? fmt::format("status {}", header.device_status) : outcome(result);
    }

    sg_io_v4 header{};

 private:
    const SgNode& node_;
    GuardedBuffer buffer_;
    Cdb cdb_;
    std::array<uint8_t, 64> sense_{};
};

}  // namespace

void hostile_v4_cases(const std::string& path) {
    const SgNode node(path);
    const auto with = [&](std::string_view name, auto spoil, std::initializer_list<std::string_view> wanted) {
        Victim victim(node);
        spoil(victim.header);
        expect(name, victim.outcome_of(), wanted);
    };
    node.send_good({.cdb = test_unit_ready(), .data = {}, .pieces = {}}, Header::v4);
    with("v4.as_it_is", [](sg_io_v4&) {}, {"status 0"});
    with("v4.protocol", [](sg_io_v4& header) { header.protocol = 1; }, {"EINVAL"});
    with("v4.subprotocol", [](sg_io_v4& header) { header.subprotocol = 2; }, {"EINVAL"});
    with("v4.request_null", [](sg_io_v4& header) { header.request = 0; }, {"EFAULT", "EMSGSIZE"});
    with("v4.request_untouchable", [](sg_io_v4& header) { header.request = address(untouchable_page()); }, {"EFAULT"});
    with("v4.request_longest", [](sg_io_v4& header) { header.request_len = 0xffffffff; }, {"EINVAL", "EMSGSIZE"});
    with("v4.data_untouchable", [](sg_io_v4& header) { header.din_xferp = address(untouchable_page()); }, {"EFAULT"});
    with("v4.both_ways",
         [](sg_io_v4& header) {
             header.dout_xferp = header.din_xferp;
             header.dout_xfer_len = header.din_xfer_len;
         },
         {"EOPNOTSUPP"});
    with("v4.sense_none", [](sg_io_v4& header) { header.max_response_len = 0; }, {"status 0"});
}

}  // namespace storctl::sg_client
