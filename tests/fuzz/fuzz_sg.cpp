// One open of an sg node and its caller: commands with any headers, in both interfaces and layouts, and the ioctls
// beside them, over memory that is reached directly or in legs, partly absent, and changing while it is read. Nothing
// but what a header names is read or written, a command says of itself what holds together, and memory comes to what it
// was.

#include <array>
#include <functional>

#include <linux/fs.h>

#include "daemon/node/caller/retry_memory.hpp"
#include "daemon/node/sg/command.hpp"
#include "daemon/node/sg/controls.hpp"
#include "tests/fuzz/byte_reader.hpp"
#include "tests/fuzz/counted_memory.hpp"
#include "tests/fuzz/sg_named.hpp"

namespace {

using namespace storctl::node;
using namespace storctl::node::sg;
using namespace storctl::fuzz;

constexpr size_t most_live_bytes = 4 << 20;

constexpr std::array<uint32_t, 44> numbers = {
    0x2201, 0x2202, 0x2203, 0x2204, 0x2205, 0x2270, 0x2271, 0x2272,     0x2275,     0x2276,     0x2279,
    0x227a, 0x227b, 0x227c, 0x227d, 0x227e, 0x227f, 0x2282, 0x2283,     0x2284,     0x2285,     0x2286,
    0x2287, 0x2288, 0x2289, 0x5382, 0x5385, 0x5386, 0x5387, 0x1,        0x125e,     0x1260,     0x1261,
    0x1267, 0x1268, 0x1278, 0x127a, 0x127b, 0x5331, 0x301,  0x80081272, 0x80041272, 0x80081270, 0x80041270};

/// How much an ioctl beside SG_IO may read and write behind its argument.
struct Reach {
    uint64_t read = 0, write = 0;
};
Reach reach_of(uint32_t number, bool wide) {
    switch (number) {
        case SG_SET_TIMEOUT:
        case SG_SET_COMMAND_Q:
        case SG_SET_RESERVED_SIZE:
        case SG_SET_FORCE_PACK_ID:
        case SG_SET_KEEP_ORPHAN:
        case SG_SET_DEBUG:
        case SG_NEXT_CMD_LEN:
        case SG_SCSI_RESET:
            return {.read = 4};
        case 0x5385:  // SCSI_IOCTL_PROBE_HOST
            return {.read = 4, .write = 8};
        case SG_GET_REQUEST_TABLE:
            return {.write = wide ? 16U * 24 : 16U * 20};
        case SG_GET_SCSI_ID:
            return {.write = 32};
        case 0x5382:  // SCSI_IOCTL_GET_IDLUN
        case 0x80081272:
        case 0x80041272:
            return {.write = 8};
        case BLKGETSIZE:
            return {.write = wide ? 8U : 4U};
        default:
            return {.write = 4};
    }
}

/// What one call may touch.
struct Guard {
    std::function<void(uint64_t, std::span<const std::byte>)> fetched;
    std::function<bool(uint64_t, uint64_t)> may_write;
};

class DirectMemory final : public CallerMemory {
 public:
    DirectMemory(CallerPages& pages, const Guard& guard) : pages_(pages), guard_(guard) {}

    int read(uint64_t address, std::span<std::byte> into) override {
        const int error = pages_.read(address, into);
        if (error == 0) guard_.fetched(address, into);
        return error;
    }
    int announce_write(uint64_t address, size_t length) override {
        FUZZ_CHECK(guard_.may_write(address, length));
        return 0;
    }
    int write(uint64_t address, std::span<const std::byte> from) override {
        FUZZ_CHECK(guard_.may_write(address, from.size()));
        return pages_.write(address, from);
    }
    size_t write_limit() const override { return SIZE_MAX; }

 private:
    CallerPages& pages_;
    const Guard& guard_;
};

class Caller {
 public:
    explicit Caller(ByteReader& input) : input_(input) {}

    void run() {
        for (int operations = 0; !input_.over() && operations < 300; ++operations) {
            step();
            FUZZ_CHECK(live_bytes() < before_ + most_live_bytes);
        }
    }

 private:
    uint64_t address() {
        const auto choice = input_.take<uint16_t>();
        if (choice == 0xffff) return input_.take<uint64_t>();
        // pages and places in them: mostly the start, sometimes shortly before the end
        const uint64_t offset = (choice & 0x200) == 0 ? (choice >> 10) * 8U : 4096U - (choice >> 10);
        return CallerPages::base + (choice & 0x1ffU) * 4096 + offset;
    }

    void step() {
        switch (input_.take<uint8_t>() % 10) {
            case 0: {
                const auto at = address();
                pages_.poke(at, input_.take_bytes(input_.take<uint8_t>()));
                break;
            }
            case 1:
                pages_.set_access(input_.take<uint16_t>(),
                                  static_cast<CallerPages::Access>(input_.take<uint8_t>() % 3));
                break;
            case 2: {
                const auto mode = input_.take<uint8_t>();
                wide_ = (mode & 1) == 0;
                pages_.racing = (mode & 2) != 0;
                legs_ = (mode & 4) != 0;
                leg_bytes_ = (mode & 8) != 0 ? 512 : 131072;
                most_data_bytes_ = (mode & 16) != 0 ? 126976 : 1 << 20;
                break;
            }
            case 3:
            case 4:
            case 5:
                send(place_header());
                break;
            case 6:
                send(address());
                break;
            case 7:
                control(numbers[input_.take<uint8_t>() % numbers.size()], address());
                break;
            case 8:
                control(input_.take<uint32_t>(), address());
                break;
            case 9:
                by_write();
                break;
        }
    }

    template <class T>
    std::vector<uint8_t> bytes_of(const T& value) const {
        const auto* from = reinterpret_cast<const uint8_t*>(&value);
        return {from, from + sizeof value};
    }

    struct Wanted {
        int direction;
        uint32_t data_bytes, segments, flags;
        uint8_t cdb_bytes, sense_bytes;
        uint64_t cdb, sense, data;
    };
    template <class T>
    void fill(T& header, const Wanted& wanted) {
        header.interface_id = 'S';
        header.dxfer_direction = wanted.direction;
        header.cmd_len = wanted.cdb_bytes;
        header.mx_sb_len = wanted.sense_bytes;
        header.iovec_count = static_cast<uint16_t>(wanted.segments);
        header.dxfer_len = wanted.data_bytes;
        header.flags = wanted.flags;
    }

    /// A header that is mostly in order.
    std::vector<uint8_t> make_header() {
        const auto choice = input_.take<uint8_t>();
        Wanted wanted{.direction = -1 - choice % 5,
                      .data_bytes = input_.take<uint16_t>(),
                      .segments = 0,
                      .flags = (choice & 0x40) != 0 ? input_.take<uint32_t>() : 0,
                      .cdb_bytes = static_cast<uint8_t>(6 + input_.take<uint8_t>() % 11),
                      .sense_bytes = input_.take<uint8_t>(),
                      .cdb = address(),
                      .sense = address(),
                      .data = address()};
        if (wanted.data_bytes > 0xfff0) wanted.data_bytes = input_.take<uint32_t>();
        if ((choice & 0x80) != 0) {
            wanted.segments = input_.take<uint8_t>() % 8U;
            place_list(wanted.data, wanted.segments);
        }
        if (choice / 5 % 3 == 0) {
            sg_io_v4 header{};
            header.guard = 'Q';
            header.request = wanted.cdb;
            header.request_len = wanted.cdb_bytes;
            header.response = wanted.sense;
            header.max_response_len = wanted.sense_bytes == 255 ? input_.take<uint32_t>() : wanted.sense_bytes;
            const bool out = wanted.direction == SG_DXFER_TO_DEV;
            (out ? header.dout_xferp : header.din_xferp) = wanted.data;
            (out ? header.dout_xfer_len : header.din_xfer_len) = wanted.data_bytes;
            (out ? header.dout_iovec_count : header.din_iovec_count) = wanted.segments;
            return bytes_of(header);
        }
        if (!wide_) {
            SgHeader32 header{};
            fill(header, wanted);
            header.cmdp = static_cast<uint32_t>(wanted.cdb);
            header.sbp = static_cast<uint32_t>(wanted.sense);
            header.dxferp = static_cast<uint32_t>(wanted.data);
            return bytes_of(header);
        }
        sg_io_hdr header{};
        fill(header, wanted);
        header.cmdp = reinterpret_cast<unsigned char*>(wanted.cdb);
        header.sbp = reinterpret_cast<unsigned char*>(wanted.sense);
        header.dxferp = reinterpret_cast<void*>(wanted.data);
        return bytes_of(header);
    }
    void place_list(uint64_t at, uint32_t segments) {
        const size_t width = wide_ ? 8 : 4;
        for (uint32_t i = 0; i < segments; ++i) {
            const uint64_t start = address(), length = input_.take<uint16_t>();
            std::vector<uint8_t> entry(2 * width);
            std::memcpy(entry.data(), &start, width);
            std::memcpy(entry.data() + width, &length, width);
            pages_.poke(at + i * 2 * width, entry);
        }
    }
    uint64_t place_header() {
        const auto bytes = make_header();
        const auto at = address();
        pages_.poke(at, bytes);
        return at;
    }

    Layout layout() const { return wide_ ? Layout::bits64 : Layout::bits32; }

    void check(const Command& command) const {
        FUZZ_CHECK(command.data_bytes <= most_data_bytes_);
        FUZZ_CHECK(command.cdb().size() >= 6 && command.cdb().size() <= longest_cdb);
        FUZZ_CHECK(command.data.size() <= most_segments);
        FUZZ_CHECK(command.sense_room <= 252 && command.timeout_ms > 0);
        uint64_t bytes = 0;
        for (const auto& segment : command.data) {
            FUZZ_CHECK(segment.length > 0);
            bytes += segment.length;
        }
        FUZZ_CHECK(bytes == command.data_bytes);
        FUZZ_CHECK(command.direction != Direction::none || bytes == 0);
    }

    Outcome outcome() {
        const auto choice = input_.take<uint8_t>();
        const auto size = input_.take<uint16_t>();
        data_.assign((choice & 1) != 0 ? size : 0, std::byte{0xd7});
        sense_.assign((choice & 2) != 0 ? choice : 0, std::byte{0x70});
        return {.status = static_cast<uint8_t>(choice & 0x3e),
                .host_status = static_cast<uint16_t>(choice >> 5),
                .sense = sense_,
                .data = data_,
                .moved = size};
    }

    int carry_out(CallerMemory& memory, uint64_t argument) {
        Command command;
        if (const int failed = fetch(memory, argument, layout(), most_data_bytes_, command); failed != 0) return failed;
        check(command);
        std::vector<std::byte> data(command.direction == Direction::to_device ? command.data_bytes : 0);
        if (const int failed = fetch_data(memory, command, data); failed != 0) return failed;
        if (const int failed = announce(memory, command); failed != 0) return failed;
        FUZZ_CHECK(++carried_out_ == 1);
        return give(memory, command, outcome());
    }

    void send(uint64_t argument) {
        if (!wide_) argument &= UINT32_MAX;
        carried_out_ = 0;
        NamedBySg named(argument, wide_, legs_);
        const Guard guard{.fetched = [&](uint64_t at, std::span<const std::byte> bytes) { named.fetch(at, bytes); },
                          .may_write = [&](uint64_t at, uint64_t size) { return named.may_write(at, size); }};
        const int result = call(guard, [&](CallerMemory& memory) { return carry_out(memory, argument); });
        FUZZ_CHECK(result <= 0);
    }

    void control(uint32_t number, uint64_t argument) {
        carried_out_ = 0;
        if (!wide_) argument &= UINT32_MAX;
        const auto reach = reach_of(number, wide_);
        const Guard guard{
            .fetched =
                [&](uint64_t at, std::span<const std::byte> bytes) {
                    FUZZ_CHECK(at - argument <= reach.read && bytes.size() <= reach.read - (at - argument));
                },
            .may_write =
                [&](uint64_t at, uint64_t size) {
                    return at - argument <= reach.write && size <= reach.write - (at - argument);
                }};
        const UnitFacts facts{.blocks = input_.take<uint16_t>(),
                              .most_data_bytes = most_data_bytes_,
                              .in_flight = input_.take<uint8_t>()};
        ControlAction action{};
        const int result = call(guard, [&](CallerMemory& memory) {
            return controls_.control(number, argument, layout(), facts, memory, action);
        });
        FUZZ_CHECK(result < 0 || result <= INT32_MAX / 10);
    }

    void by_write() {
        auto header = make_header();
        const auto cut = input_.take<uint8_t>();
        if (cut < 160) header.resize(std::min<size_t>(header.size(), cut));
        if (controls_.full()) controls_.take(-1);
        NamedBySg named(header, wide_);
        const Guard guard{.fetched = [&](uint64_t at, std::span<const std::byte> bytes) { named.fetch(at, bytes); },
                          .may_write = [&](uint64_t at, uint64_t size) { return named.may_write(at, size); }};
        DirectMemory memory(pages_, guard);
        Command command;
        const auto bytes = std::as_bytes(std::span(header));
        if (fetch_written(memory, bytes, layout(), most_data_bytes_, command) != 0) return;
        check(command);
        std::vector<std::byte> data(command.direction == Direction::to_device ? command.data_bytes : 0);
        if (fetch_data(memory, command, data) != 0) return;
        const auto became = outcome();
        give_written(memory, command, became);
        auto answer = answered_header(bytes, command, became);
        FUZZ_CHECK(answer.size() == header.size());
        controls_.keep({.pack_id = command.pack_id, .header = std::move(answer)});
    }

    int call(const Guard& guard, const std::function<int(CallerMemory&)>& operation) {
        if (legs_) return call_in_legs(guard, operation);
        DirectMemory memory(pages_, guard);
        return operation(memory);
    }

    int call_in_legs(const Guard& guard, const std::function<int(CallerMemory&)>& operation) {
        RetryMemory memory(leg_bytes_, 256);
        FUZZ_CHECK(memory.begin({}, 0));
        uint64_t first_address = 0;
        for (int legs = 0;; ++legs) {
            FUZZ_CHECK(legs < 5000);
            const int result = operation(memory);
            if (result != CallerMemory::again) {
                auto left = memory.written();
                for (const auto& segment : memory.out_segments()) {
                    const auto part = left.first(std::min(segment.length, left.size()));
                    left = left.subspan(part.size());
                    FUZZ_CHECK(guard.may_write(segment.address, segment.length));
                    pages_.write(segment.address, part);
                }
                return result;
            }
            FUZZ_CHECK(carried_out_ == 0);
            if (!memory.plan_next()) return -ENOMEM;
            std::vector<std::byte> in;
            size_t room = 0;
            for (const auto& segment : memory.in_segments()) {
                const size_t from = in.size();
                in.resize(from + segment.length);
                const auto bytes = std::span(in).subspan(from);
                if (pages_.read(segment.address, bytes) != 0) return -EFAULT;
                // a byte that is there already, for the kernel's sake: not used
                const bool in_vain = legs > 0 && segment.length == 1 && segment.address == first_address;
                if (legs == 0) first_address = segment.address;
                if (!in_vain) guard.fetched(segment.address, bytes);
            }
            for (const auto& segment : memory.out_segments()) room += segment.length;
            FUZZ_CHECK(in.size() <= leg_bytes_ && room <= leg_bytes_);
            FUZZ_CHECK(memory.begin(in, room));
        }
    }

    ByteReader& input_;
    const size_t before_ = live_bytes();
    CallerPages pages_;
    Controls controls_;
    std::vector<std::byte> data_, sense_;
    int carried_out_ = 0;
    bool wide_ = true, legs_ = false;
    size_t leg_bytes_ = 131072;
    uint64_t most_data_bytes_ = 1 << 20;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    CallerPages();  // what stays from run to run
    const size_t before = live_bytes();
    {
        ByteReader input(data, size);
        Caller(input).run();
    }
    FUZZ_CHECK(live_bytes() == before);
    return 0;
}
