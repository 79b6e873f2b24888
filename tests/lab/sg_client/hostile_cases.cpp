// Headers and pointers that are wrong, each as <scsi/sg.h> has them, and what lies around the buffers afterwards.
// The expected answers are those of the kernel's sg driver.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

constexpr size_t inquiry_bytes = 36, behind = 600;
constexpr std::string_view write_protected = "CHECK CONDITION 7/27/00";
constexpr auto out_of_range = "CHECK CONDITION 5/21/00", no_such_command = "CHECK CONDITION 5/20/00";

/// A command that would succeed, for a case to spoil.
class Victim {
 public:
    Victim(const SgNode& node, Cdb cdb, Direction direction, size_t bytes)
        : node_(node), data_(bytes + behind), sense_(252 + behind) {
        request_ = {.cdb = std::move(cdb), .direction = direction, .data = data_.use(bytes, behind), .pieces = {}};
        sense = sense_.use(64, behind, std::byte{0xee});
        header = v3_header(request_, {reinterpret_cast<uint8_t*>(sense.data()), sense.size()});
        if (bytes == 0) header.dxferp = nullptr;
    }

    long send() { return node_.call(SG_IO, &header); }
    /// The outcome of the ioctl, and of the command where that is 0; and that nothing around was written.
    std::string outcome_of() {
        const long result = send();
        if (!data_.intact() || !sense_.intact()) return "memory around the buffers written";
        Answer answer = answer_of(header, result);
        std::memcpy(answer.sense.data(), sense.data(), std::min(sense.size(), answer.sense.size()));
        return answer.text();
    }
    std::span<std::byte> data() { return request_.data; }

    sg_io_hdr header{};
    std::span<std::byte> sense;

 private:
    const SgNode& node_;
    GuardedBuffer data_, sense_;
    Request request_;
};

Victim inquirer(const SgNode& node) { return {node, inquiry(inquiry_bytes), Direction::from_device, inquiry_bytes}; }

void bad_headers(const SgNode& node) {
    expect("header.null", outcome(node.call(SG_IO, nullptr)), "EFAULT");
    expect("header.untouchable", outcome(node.call(SG_IO, untouchable_page())), "EFAULT");
    GuardedBuffer buffer(4096);
    const auto half = buffer.use(sizeof(sg_io_hdr) / 2);
    std::fill(half.begin(), half.end(), std::byte{0});
    expect("header.half", outcome(node.call(SG_IO, half.data())), "EFAULT");
    for (const int id : {0, int{'X'}, -1}) {
        Victim victim = inquirer(node);
        victim.header.interface_id = id;
        expect(fmt::format("header.interface_{}", id), victim.outcome_of(),
               {"ENOSYS", "ENOTTY"});  // a device in user space: ENOTTY
        expect("header.interface_data",
               std::all_of(victim.data().begin(), victim.data().end(),
                           [](std::byte one) { return one == std::byte{0xa5}; })
                   ? "untouched"
                   : "written",
               "untouched");
    }
    expect("header.zeroes_only_read", outcome(node.call(SG_IO, read_only_page())), {"ENOSYS", "ENOTTY"});
}

void bad_commands(const SgNode& node) {
    const auto with = [&](std::string_view name, auto spoil, std::string_view wanted) {
        Victim victim = inquirer(node);
        spoil(victim.header);
        expect(name, victim.outcome_of(), wanted);
    };
    with(
        "cdb.null", [](sg_io_hdr& header) { header.cmdp = nullptr; }, "EMSGSIZE");
    with(
        "cdb.untouchable", [](sg_io_hdr& header) { header.cmdp = static_cast<uint8_t*>(untouchable_page()); },
        "EFAULT");
    with(
        "cdb.empty", [](sg_io_hdr& header) { header.cmd_len = 0; }, "EMSGSIZE");
    with(
        "cdb.short", [](sg_io_hdr& header) { header.cmd_len = 5; }, "EMSGSIZE");
    with(
        "cdb.long", [](sg_io_hdr& header) { header.cmd_len = 253; }, "EMSGSIZE");
    GuardedBuffer buffer(4096);
    const auto half = buffer.use(3);
    with(
        "cdb.half", [&](sg_io_hdr& header) { header.cmdp = reinterpret_cast<uint8_t*>(half.data()); }, "EFAULT");
}

void bad_data(const SgNode& node, uint32_t block_bytes) {
    Victim read(node, transfer(read10, 0, 8), Direction::from_device, 8UL * block_bytes);
    read.header.dxferp = untouchable_page();
    expect("data.read_to_untouchable", read.outcome_of(), "EFAULT");
    read.header.dxferp = read_only_page();
    expect("data.read_to_read_only", read.outcome_of(), "EFAULT");
    GuardedBuffer half(8UL * block_bytes);
    read.header.dxferp = half.use(4UL * block_bytes).data();
    expect("data.read_to_half", read.outcome_of(), "EFAULT");
    expect("data.half_around", half.intact() ? "untouched" : "written", "untouched");

    const auto content = [&] {
        Victim again(node, transfer(read10, 0, 8), Direction::from_device, 8UL * block_bytes);
        expect("data.read", again.outcome_of(), "GOOD");
        return std::vector<std::byte>(again.data().begin(), again.data().end());
    };
    const auto before = content();
    Victim write(node, transfer(write10, 0, 8), Direction::to_device, 8UL * block_bytes);
    write.header.dxferp = untouchable_page();
    expect("data.write_from_untouchable", write.outcome_of(), "EFAULT");
    write.header.dxferp = half.use(4UL * block_bytes).data();
    expect("data.write_from_half", write.outcome_of(), "EFAULT");
    expect("data.medium", content() == before ? "as before" : "written", "as before");
    write.header.dxferp = write.data().data();
    write.header.dxfer_len = 256U << 20;
    expect("data.far_too_long", write.outcome_of(), {"EINVAL", "ENOMEM"});
    write.header.dxfer_len = 0xffffffff;
    expect("data.longest", write.outcome_of(), {"EINVAL", "ENOMEM"});
    expect("data.medium_still", content() == before ? "as before" : "written", "as before");
}

void bad_lists(const SgNode& node, uint32_t block_bytes) {
    Victim victim(node, transfer(read10, 0, 8), Direction::from_device, 8UL * block_bytes);
    std::byte* const data = victim.data().data();
    const size_t bytes = victim.data().size();
    const auto with = [&](std::string_view name, std::vector<sg_iovec> list,
                          std::initializer_list<std::string_view> wanted) {
        victim.header.iovec_count = static_cast<unsigned short>(list.size());
        victim.header.dxferp = list.data();
        expect(name, victim.outcome_of(), wanted);
    };
    with("list.one_untouchable", {{data, 512}, {untouchable_page(), 512}, {data + 512, bytes - 1024}}, {"EFAULT"});
    with("list.of_nothing", std::vector<sg_iovec>(3, sg_iovec{data, 0}), {"EINVAL"});
    with("list.too_many", std::vector<sg_iovec>(1025, sg_iovec{data, 4}), {"EINVAL"});
    with("list.length_negative", {{data, 512}, {data, ~size_t{0}}}, {"EINVAL"});
    with("list.longer_than_said", {{data, bytes}, {untouchable_page(), 512}}, {"GOOD"});
    victim.header.iovec_count = 4;
    victim.header.dxferp = untouchable_page();
    expect("list.untouchable", victim.outcome_of(), "EFAULT");
}

void lengths(const SgNode& node, const Capacity& capacity) {
    Victim longer(node, inquiry(96), Direction::from_device, inquiry_bytes);
    longer.header.dxfer_len = inquiry_bytes;
    // drivers differ in what they call a command that has more to give than there is room
    const long result = longer.send();
    expect("length.command_longer", outcome(result), "0");
    Victim shorter(node, transfer(read10, 0, 1), Direction::from_device, 2UL * capacity.block_bytes);
    expect("length.command_shorter", shorter.outcome_of(), "GOOD");
    expect("length.residual", std::to_string(shorter.header.resid), std::to_string(capacity.block_bytes));
    const auto last = static_cast<uint32_t>(capacity.blocks - 1);
    const auto at = [&](std::string_view name, Cdb cdb, Direction direction, uint32_t blocks, std::string_view wanted) {
        Victim victim(node, std::move(cdb), direction, size_t{blocks} * capacity.block_bytes);
        expect(name, victim.outcome_of(), wanted);
    };
    at("end.last", transfer(read10, last, 1), Direction::from_device, 1, "GOOD");
    at("end.over", transfer(read10, last, 2), Direction::from_device, 2, out_of_range);
    at("end.behind", transfer(read16, capacity.blocks, 1), Direction::from_device, 1, out_of_range);
    at("end.farthest", transfer(read16, ~uint64_t{0}, 1), Direction::from_device, 1, out_of_range);
    at("end.write_over", transfer(write16, last, 2), Direction::to_device, 2, out_of_range);
}

void senses(const SgNode& node) {
    Victim unknown(node, vendor_specific(), Direction::none, 0);
    expect("sense.unknown_command", unknown.outcome_of(), no_such_command);
    expect("sense.driver", fmt::format("{:#x}", unknown.header.driver_status), "0x8");
    expect("sense.info", fmt::format("{:#x}", unknown.header.info & SG_INFO_OK_MASK), "0x1");
    expect("sense.masked", std::to_string(unknown.header.masked_status), "1");
    Victim small(node, vendor_specific(), Direction::none, 0);
    small.header.mx_sb_len = 8;
    expect("sense.short", outcome(small.send()), "0");
    expect("sense.short_bytes", std::to_string(small.header.sb_len_wr), "8");
    expect("sense.short_behind", small.sense[8] == std::byte{0xee} ? "untouched" : "written", "untouched");
    Victim none(node, vendor_specific(), Direction::none, 0);
    none.header.mx_sb_len = 0;
    none.header.sbp = nullptr;
    expect("sense.none", outcome(none.send()), "0");
    expect("sense.none_status", fmt::format("{}, {} bytes", none.header.status, none.header.sb_len_wr), "2, 0 bytes");
    Victim untouchable(node, vendor_specific(), Direction::none, 0);
    untouchable.header.sbp = static_cast<uint8_t*>(untouchable_page());
    expect("sense.untouchable", untouchable.outcome_of(), "EFAULT");
    Victim good = inquirer(node);
    expect("sense.good", good.outcome_of(), "GOOD");
    const bool untouched =
        std::all_of(good.sense.begin(), good.sense.end(), [](std::byte one) { return one == std::byte{0xee}; });
    expect("sense.good_buffer", untouched ? "untouched" : "written", "untouched");
}

/// A process without privileges that may only read.
void a_reader(const std::string& path, uint32_t block_bytes) {
    constexpr uid_t nobody = 65534;
    const SgNode node(path, O_RDONLY);
    const unsigned wrong_before = wrong_results();
    const pid_t child = fork();
    if (child == 0) {
        if (setresuid(nobody, nobody, nobody) != 0) give_up("setresuid", -errno);
        Victim read(node, transfer(read10, 0, 1), Direction::from_device, block_bytes);
        expect("reader.read", read.outcome_of(), "GOOD");
        Victim write(node, transfer(write10, 0, 1), Direction::to_device, block_bytes);
        expect("reader.write", write.outcome_of(), {"EPERM", write_protected});
        _exit(wrong_results() == wrong_before ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) give_up("a child", -errno);
    expect("reader", fmt::format("{:#x}", static_cast<unsigned>(status)), "0x0");
}

}  // namespace

void hostile_cases(const std::string& path) {
    const SgNode node(path);
    const Capacity capacity = node.capacity();
    bad_headers(node);
    bad_commands(node);
    bad_data(node, capacity.block_bytes);
    bad_lists(node, capacity.block_bytes);
    lengths(node, capacity);
    senses(node);
    a_reader(path, capacity.block_bytes);
    Victim last = inquirer(node);
    expect("alive", last.outcome_of(), "GOOD");
}

}  // namespace storctl::sg_client
