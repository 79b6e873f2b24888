// The interface by write() and read(): a header goes in, is done while its writer does something else, and comes out.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "tests/lab/sg_client/cases.hpp"
#include "tests/lab/sg_client/guarded_buffer.hpp"
#include "tests/lab/sg_client/report.hpp"
#include "tests/lab/sg_client/sg_node.hpp"

namespace storctl::sg_client {
namespace {

constexpr int patience_ms = 20'000;
constexpr uint32_t blocks_each = 8;

/// A read of its own blocks, with the memory that it needs until it is back.
struct Pending {
    Pending(uint32_t block_bytes, int pack_id, uint8_t opcode = read10)
        : buffer(blocks_each * block_bytes),
          request{.cdb = transfer(opcode, static_cast<uint64_t>(pack_id) * blocks_each, blocks_each),
                  .direction = Direction::from_device,
                  .data = buffer.use(blocks_each * block_bytes),
                  .pieces = {}} {
        header = v3_header(request, sense);
        header.pack_id = pack_id;
        header.usr_ptr = this;
    }

    GuardedBuffer buffer;
    Request request;
    std::array<uint8_t, 64> sense{};
    sg_io_hdr header{};
};

class Async {
 public:
    explicit Async(const std::string& path)
        : node_(path, O_RDWR | O_NONBLOCK), block_bytes_(node_.capacity().block_bytes) {}

    std::unique_ptr<Pending> start(int pack_id) const {
        auto pending = std::make_unique<Pending>(block_bytes_, pack_id);
        expect(fmt::format("write.{}", pack_id), outcome(write_header(pending->header, sizeof(sg_io_hdr))),
               std::to_string(sizeof(sg_io_hdr)));
        return pending;
    }

    long write_header(const sg_io_hdr& header, size_t bytes) const {
        const ssize_t count = write(node_.fd(), &header, bytes);
        return count < 0 ? -errno : count;
    }

    /// `wanted`: the pack id that read() is asked for; -1: any.
    long read_header(sg_io_hdr& header, int wanted) const {
        header = {};
        header.interface_id = 'S';
        header.dxfer_direction = SG_DXFER_FROM_DEV;
        header.pack_id = wanted;
        const ssize_t count = read(node_.fd(), &header, sizeof header);
        return count < 0 ? -errno : count;
    }

    std::string polled(int limit_ms) const {
        pollfd one{.fd = node_.fd(), .events = POLLIN | POLLOUT, .revents = 0};
        poll(&one, 1, limit_ms);
        return fmt::format("{:#x}", static_cast<unsigned>(one.revents));
    }

    void wait_for_answers(int count) const {
        for (int turn = 0; turn < patience_ms; ++turn) {
            int waiting = 0;
            node_.call(SG_GET_NUM_WAITING, &waiting);
            if (waiting >= count) return;
            pollfd one{.fd = node_.fd(), .events = POLLIN, .revents = 0};
            poll(&one, 1, 1);
        }
        give_up("wait for answers", -ETIMEDOUT);
    }

    int ask(unsigned long command) const {
        int value = -2;
        node_.call(command, &value);
        return value;
    }

    void expect_answer(std::string_view name, const Pending& pending, int wanted) const {
        sg_io_hdr header{};
        expect(name, outcome(read_header(header, wanted)), std::to_string(sizeof header));
        expect(fmt::format("{}.whose", name), fmt::format("{} {}", header.pack_id, header.usr_ptr == &pending),
               fmt::format("{} true", pending.header.pack_id));
        expect(fmt::format("{}.status", name), answer_of(header, 0).text(), "GOOD");
        const SgNode other = node_copy();
        GuardedBuffer buffer(pending.request.data.size());
        const auto data = buffer.use(pending.request.data.size());
        other.send_good({.cdb = pending.request.cdb, .direction = Direction::from_device, .data = data, .pieces = {}});
        const bool equal =
            pending.buffer.intact() && std::equal(data.begin(), data.end(), pending.request.data.begin());
        expect(fmt::format("{}.data", name), equal ? "equal" : "differs", "equal");
    }

    const SgNode& node() const { return node_; }
    uint32_t block_bytes() const { return block_bytes_; }

 private:
    SgNode node_copy() const { return SgNode(fmt::format("/proc/self/fd/{}", node_.fd())); }

    SgNode node_;
    uint32_t block_bytes_;
};

void one_at_a_time(const Async& async) {
    sg_io_hdr header{};
    expect("read.nothing", outcome(async.read_header(header, -1)), "EAGAIN");
    expect("poll.idle", async.polled(0), "0x4");
    expect("pack_id.none", std::to_string(async.ask(SG_GET_PACK_ID)), "-1");
    const auto one = async.start(7);
    async.wait_for_answers(1);
    expect("poll.answer", async.polled(0), "0x5");
    expect("waiting", std::to_string(async.ask(SG_GET_NUM_WAITING)), "1");
    expect("pack_id", std::to_string(async.ask(SG_GET_PACK_ID)), "7");
    async.expect_answer("read", *one, -1);
    expect("waiting.after", std::to_string(async.ask(SG_GET_NUM_WAITING)), "0");
    expect("read.again", outcome(async.read_header(header, -1)), "EAGAIN");
}

void by_pack_id(const Async& async) {
    int on = 1, off = 0;
    expect("force_pack_id", outcome(async.node().call(SG_SET_FORCE_PACK_ID, &on)), "0");
    const auto first = async.start(11), second = async.start(12), third = async.start(13);
    async.wait_for_answers(3);
    sg_io_hdr header{};
    expect("read.unknown_id", outcome(async.read_header(header, 99)), "EAGAIN");
    async.expect_answer("read.second", *second, 12);
    async.expect_answer("read.third", *third, 13);
    async.expect_answer("read.any", *first, -1);
    expect("force_pack_id.off", outcome(async.node().call(SG_SET_FORCE_PACK_ID, &off)), "0");
}

void too_many(const Async& async) {
    std::vector<std::unique_ptr<Pending>> pending;
    for (int number = 0; number < SG_MAX_QUEUE; ++number) pending.push_back(async.start(100 + number));
    Pending over(async.block_bytes(), 200);
    expect("write.too_many", outcome(async.write_header(over.header, sizeof over.header)), "EDOM");
    async.wait_for_answers(SG_MAX_QUEUE);
    sg_io_hdr header{};
    int good = 0;
    for (int number = 0; number < SG_MAX_QUEUE; ++number)
        good += async.read_header(header, -1) > 0 && header.status == 0 ? 1 : 0;
    expect("read.all", std::to_string(good), std::to_string(SG_MAX_QUEUE));
}

void wrong_ones(const Async& async) {
    const auto with = [&](std::string_view name, auto spoil, std::initializer_list<std::string_view> wanted) {
        Pending pending(async.block_bytes(), 1);
        spoil(pending);
        expect(name, outcome(async.write_header(pending.header, sizeof pending.header)), wanted);
    };
    Pending cut(async.block_bytes(), 1);
    expect("write.cut", outcome(async.write_header(cut.header, sizeof(sg_io_hdr) - 1)), "EINVAL");
    expect("write.tiny", outcome(async.write_header(cut.header, 4)), {"EIO", "EINVAL"});
    with("write.interface", [](Pending& one) { one.header.interface_id = 'X'; }, {"ENOSYS", "EINVAL"});
    with("write.cdb_untouchable", [](Pending& one) { one.header.cmdp = static_cast<uint8_t*>(untouchable_page()); },
         {"EFAULT"});
    with("write.data_untouchable",
         [](Pending& one) {
             one.request.cdb[0] = write10;
             one.header.dxfer_direction = SG_DXFER_TO_DEV;
             one.header.dxferp = untouchable_page();
         },
         {"EFAULT"});
    sg_io_hdr header{};
    expect("read.nothing_left", outcome(async.read_header(header, -1)), "EAGAIN");
}

/// Past the end: an answer like others, with its sense.
void a_failing_one(const Async& async) {
    Pending pending(async.block_bytes(), 5, read16);
    std::fill(pending.request.cdb.begin() + 2, pending.request.cdb.begin() + 10, uint8_t{0xff});
    expect("failing.write", outcome(async.write_header(pending.header, sizeof pending.header)),
           std::to_string(sizeof(sg_io_hdr)));
    async.wait_for_answers(1);
    sg_io_hdr header{};
    expect("failing.read", outcome(async.read_header(header, -1)), std::to_string(sizeof header));
    Answer answer = answer_of(header, 0);
    answer.sense = pending.sense;
    expect("failing.status", answer.text(), "CHECK CONDITION 5/21/00");
}

void a_blocked_reader(const std::string& path) {
    const SgNode node(path);
    Pending pending(node.capacity().block_bytes, 3);
    long result = 0;
    sg_io_hdr header{};
    std::thread reader([&] {
        const ssize_t count = read(node.fd(), &header, sizeof header);
        result = count < 0 ? -errno : count;
    });
    expect("blocked.write", outcome(write(node.fd(), &pending.header, sizeof pending.header)),
           std::to_string(sizeof header));
    reader.join();
    expect("blocked.read", outcome(result), std::to_string(sizeof header));
    expect("blocked.whose", std::to_string(header.pack_id), "3");
}

/// Closed with answers that nobody read: the node does not mind.
void left_behind(const std::string& path) {
    const Async closed(path);
    const auto one = closed.start(1), two = closed.start(2);
    closed.wait_for_answers(2);
}

}  // namespace

void async_cases(const std::string& path) {
    const Async async(path);
    one_at_a_time(async);
    by_pack_id(async);
    too_many(async);
    wrong_ones(async);
    a_failing_one(async);
    a_blocked_reader(path);
    left_behind(path);
    expect("alive", outcome(static_cast<long>(Async(path).block_bytes() > 0)), "1");
}

}  // namespace storctl::sg_client
