// One open of a USB node and its consumer: any ioctls, in both layouts, over memory that is reached directly or in
// legs, partly absent, and changing while it is read; any answers of the device. Nothing but what a request names is
// read or written, and read once; nothing that the device did not send is written as data; memory and counters
// come to what they were.

#include <array>

#include "daemon/node/caller/retry_memory.hpp"
#include "daemon/node/usbfs/session.hpp"
#include "tests/fuzz/byte_reader.hpp"
#include "tests/fuzz/counted_memory.hpp"
#include "tests/fuzz/usbfs_caller.hpp"
#include "tests/fuzz/usbfs_kernel.hpp"

namespace {

using namespace storctl::node::usbfs;
using namespace storctl::fuzz;

/// What a session may hold: its URBs' buffers up to their limit, rounded up to powers of two, what is spare, and the
/// URBs.
constexpr size_t most_live_bytes = (16 << 20) + (2 << 20) + (16 << 20);

// Two configurations, in which interfaces 0 and 1 have the same endpoints the other way round; an interface for DFU.
const std::vector<uint8_t> descriptors = {
    18, 1, 0,  2, 0xef, 2,    1, 64,   0x34, 0x12, 0x78, 0x56, 1, 1, 1, 2, 3, 2,                 // device
    9,  2, 71, 0, 3,    1,    0, 0x80, 50,                                                       // configuration 1
    9,  4, 0,  0, 2,    8,    6, 0x50, 0,    7,    5,    0x81, 2, 0, 2, 0, 7, 5, 2, 2, 0, 2, 0,  // 0: bulk
    9,  4, 1,  0, 2,    1,    2, 0,    0,    7,    5,    0x83, 1, 0, 2, 1, 7, 5, 4, 1, 0, 2, 1,  // 1: isochronous
    9,  4, 2,  0, 1,    0xfe, 1, 1,    0,    7,    5,    0x85, 3, 8, 0, 8,                       // 2: DFU, interrupt
    9,  2, 34, 0, 2,    2,    0, 0x80, 50,                                                       // configuration 2
    9,  4, 1,  0, 1,    8,    6, 0x50, 0,    7,    5,    0x81, 2, 0, 2, 0,                       // 1: bulk
    9,  4, 0,  0, 0,    1,    2, 0,    0,
};

constexpr std::array<uint32_t, 33> numbers = {
    0xc0185500, 0xc0105500, 0xc0185502, 0xc0105502, 0x80045503, 0x80085504, 0x80045505, 0x41045508, 0x8038550a,
    0x802c550a, 0x0000550b, 0x4008550c, 0x4004550c, 0x4008550d, 0x4004550d, 0x8004550f, 0x80045510, 0x40085511,
    0xc0105512, 0xc00c5512, 0x00005514, 0x80045515, 0x8004551a, 0x8108551b, 0x8008551c, 0x8008551d, 0x0000551f,
    0x80185520, 0x80045518, 0x4004551e, 0x00005521, 0x8010550e, 0x80805513,
};

/// Reached directly: what the session asks for comes at once.
class DirectMemory final : public storctl::node::CallerMemory {
 public:
    DirectMemory(CallerPages& pages, NamedMemory& named) : pages_(pages), named_(named) {}

    int read(uint64_t address, std::span<std::byte> into) override {
        const int error = pages_.read(address, into);
        if (error == 0) named_.fetch(address, into);
        return error;
    }
    int announce_write(uint64_t, size_t) override { return 0; }
    int write(uint64_t address, std::span<const std::byte> from) override {
        writes.push_back({address, {from.begin(), from.end()}});
        return pages_.write(address, from);
    }
    size_t write_limit() const override { return SIZE_MAX; }

    std::vector<std::pair<uint64_t, std::vector<std::byte>>> writes;

 private:
    CallerPages& pages_;
    NamedMemory& named_;
};

class Consumer {
 public:
    explicit Consumer(ByteReader& input) : input_(input), filter_(choose_policy(), descriptors), kernel_(filter_) {
        const auto choice = input_.take<uint8_t>();
        kernel_.maps_memory = (choice & 1) != 0;
        kernel_.comes_back = (choice & 2) != 0;
        SessionContext context{.filter = filter_,
                               .statistics = statistics_,
                               .denied = [](const std::string& what) { FUZZ_CHECK(!what.empty()); },
                               .completed = [] {},
                               .now_ns = [this] { return ++time_; },
                               .configuration = configuration_,
                               .budget = budget_};
        session_ = std::make_unique<Session>(std::make_unique<FakeKernelFile>(kernel_), std::move(context),
                                             (choice & 0xfc) != 0xfc);
    }

    void run() {
        for (int operations = 0; !input_.over() && operations < 300; ++operations) {
            step();
            FUZZ_CHECK(live_bytes() < before_ + most_live_bytes);
        }
        session_.reset();
        FUZZ_CHECK(kernel_.closed && kernel_.maps.empty());
        for (const auto& counters : statistics_.traffic) FUZZ_CHECK(counters.in_flight == 0);
    }

 private:
    Policy choose_policy() {
        const auto choice = input_.take<uint8_t>();
        Policy policy{.deny = {}};
        for (const auto& row : storctl::EnumNames<Denial>::table) {
            if ((choice & 1 << static_cast<int>(row.value)) != 0) policy.deny.insert(row.value);
        }
        if ((choice & 0x80) == 0) return policy;
        policy.interfaces.emplace();
        for (uint8_t number = 0; number < 3; ++number) {
            if ((choice >> 4 & 1 << number) != 0) policy.interfaces->insert(number);
        }
        return policy;
    }

    uint64_t address() {
        const auto choice = input_.take<uint16_t>();
        if (choice == 0xffff) return input_.take<uint64_t>();
        // pages and places in them: mostly the start, sometimes shortly before the end
        const uint64_t offset = (choice & 0x200) == 0 ? (choice >> 10) * 8U : 4096U - (choice >> 10);
        return CallerPages::base + (choice & 0x1ffU) * 4096 + offset;
    }

    void step() {
        switch (input_.take<uint8_t>() % 12) {
            case 0: {
                const auto at = address();
                pages_.poke(at, input_.take_bytes(input_.take<uint8_t>() % 64));
                break;
            }
            case 1:
                pages_.set_access(input_.take<uint16_t>(),
                                  static_cast<CallerPages::Access>(input_.take<uint8_t>() % 3));
                break;
            case 2:
                kernel_.complete(input_.take<uint8_t>(), -(input_.take<uint8_t>() % 4), input_.take<uint32_t>());
                break;
            case 3:
                device_event();
                break;
            case 4:
                FUZZ_CHECK(session_->read(input_.take<uint16_t>()).size() <= filter_.shown().size());
                session_->poll();
                break;
            case 5:
            case 6:
            case 7:
                submit();
                break;
            case 8:
                call(bits32_ ? 0x4004550d : USBDEVFS_REAPURBNDELAY, address());
                break;
            case 9: {
                const auto at = address();
                pages_.poke(at, input_.take_bytes(24));
                call(numbers[input_.take<uint8_t>() % numbers.size()], at);
                break;
            }
            case 10: {
                const auto mode = input_.take<uint8_t>();
                bits32_ = (mode & 1) != 0;
                pages_.racing = (mode & 2) != 0;
                legs_ = (mode & 4) != 0;
                leg_bytes_ = (mode & 8) != 0 ? 131072 : 512;
                interrupt_ = (mode & 16) != 0 ? mode >> 5 : -1;
                break;
            }
            case 11:
                call(input_.take<uint32_t>(), address());
                break;
        }
    }

    void device_event() {
        static constexpr int errors[] = {ENOMEM, EINTR, EBUSY, EPIPE, ETIMEDOUT, ENODEV, EINVAL, ENOENT};
        const auto choice = input_.take<uint8_t>();
        if (choice == 0xff) {
            session_->revoke();
        } else if (choice == 0xfe) {
            kernel_.unplug();
        } else if (!kernel_.gone) {
            kernel_.next_error = -errors[choice % std::size(errors)];
            // a device that is not there has no URBs in flight
            if (kernel_.next_error == -ENODEV) {
                while (!kernel_.pending.empty()) kernel_.complete(0, -ENODEV, 0);
            }
        }
    }

    /// A URB that is mostly in order.
    void submit() {
        static constexpr uint8_t endpoints[] = {0x00, 0x80, 0x81, 0x02, 0x83, 0x04, 0x85, 0x01};
        usbdevfs_urb urb{};
        const auto choice = input_.take<uint8_t>();
        urb.type = choice % 5;
        urb.endpoint = (choice & 0x80) != 0 ? input_.take<uint8_t>() : endpoints[choice / 5 % 8];
        urb.flags = input_.take<uint8_t>();
        const auto buffer = address();
        urb.buffer_length = input_.take<uint16_t>();
        if (urb.buffer_length > 0xfff0) urb.buffer_length = input_.take<int32_t>();
        urb.number_of_packets = static_cast<int8_t>(input_.take<uint8_t>());
        if (urb.type == USBDEVFS_URB_TYPE_CONTROL) pages_.poke(buffer, input_.take_bytes(8));
        const auto at = address();
        const auto bytes = std::span(reinterpret_cast<const uint8_t*>(&urb), sizeof urb);
        size_t header = bytes.size();
        if (!bits32_) {
            urb.buffer = reinterpret_cast<void*>(buffer);
            pages_.poke(at, bytes);
        } else {
            std::array<uint32_t, 11> narrow{};
            std::memcpy(narrow.data(), bytes.data(), 12);  // type to flags
            narrow[3] = static_cast<uint32_t>(buffer);
            std::memcpy(&narrow[4], &urb.buffer_length, 24);  // to signr
            header = sizeof narrow;
            pages_.poke(at, std::span(reinterpret_cast<const uint8_t*>(narrow.data()), sizeof narrow));
        }
        for (int i = 0; urb.type == USBDEVFS_URB_TYPE_ISO && i < urb.number_of_packets && i < 8; ++i) {
            const auto length = input_.take<uint16_t>();
            const uint8_t packet[4] = {static_cast<uint8_t>(length), static_cast<uint8_t>(length >> 8)};
            pages_.poke(at + header + static_cast<uint64_t>(i) * iso_packet_bytes, packet);
        }
        call(bits32_ ? 0x802c550a : USBDEVFS_SUBMITURB, at);
    }

    void call(uint64_t number, uint64_t argument) {
        const auto layout = bits32_ ? Layout::bits32 : Layout::bits64;
        if (bits32_) argument &= UINT32_MAX;
        NamedMemory named(static_cast<uint32_t>(number), argument, layout);
        const int result = legs_ ? call_in_legs(static_cast<uint32_t>(number), argument, layout, named)
                                 : call_directly(static_cast<uint32_t>(number), argument, layout, named);
        FUZZ_CHECK(result != storctl::node::CallerMemory::again && result > -4096);
        if (named.is(Command::submit_urb) && result == 0) submitted_.push_back(named.urb());
    }

    int call_directly(uint32_t number, uint64_t argument, Layout layout, NamedMemory& named) {
        DirectMemory memory(pages_, named);
        const int result = session_->ioctl(number, argument, layout, memory);
        check_writes(memory.writes, argument, named);
        return result;
    }

    int call_in_legs(uint32_t number, uint64_t argument, Layout layout, NamedMemory& named) {
        storctl::node::RetryMemory memory(leg_bytes_, 256);
        FUZZ_CHECK(memory.begin({}, 0));
        uint64_t first_address = 0;
        for (int legs = 0;; ++legs) {
            FUZZ_CHECK(legs < 200000);
            const int result = session_->ioctl(number, argument, layout, memory);
            if (result != storctl::node::CallerMemory::again) {
                std::vector<std::pair<uint64_t, std::vector<std::byte>>> writes;
                auto left = memory.written();
                for (const auto& segment : memory.out_segments()) {
                    const auto part = left.first(std::min(segment.length, left.size()));
                    left = left.subspan(part.size());
                    writes.push_back({segment.address, {part.begin(), part.end()}});
                    pages_.write(segment.address, part);
                }
                check_writes(writes, argument, named);
                return result;
            }
            if (!memory.plan_next()) return -ENOMEM;
            if (legs == interrupt_) return -EINTR;
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
                if (!in_vain) named.fetch(segment.address, bytes);
            }
            for (const auto& segment : memory.out_segments()) room += segment.length;
            FUZZ_CHECK(in.size() <= leg_bytes_ && room <= leg_bytes_);
            FUZZ_CHECK(memory.begin(in, room));
        }
    }

    using Writes = std::vector<std::pair<uint64_t, std::vector<std::byte>>>;

    void check_writes(const Writes& writes, uint64_t argument, const NamedMemory& named) {
        if (writes.empty()) return;
        if (!named.reaps()) {
            for (const auto& [at, bytes] : writes) {
                FUZZ_CHECK(named.may_write(at, bytes.size()));
                if (named.is(Command::control) || named.is(Command::bulk)) FUZZ_CHECK(from_device(bytes, false));
            }
            return;
        }
        // two that overlap are told apart by the pointer, unless an absent page kept it from being written
        const auto& last = writes.back();
        const size_t pointer_bytes = bits32_ ? 4 : 8;
        const auto may_be = [&](const SubmittedUrb& urb) {
            const auto pointer = encode_pointer(urb.address, bits32_ ? Layout::bits32 : Layout::bits64);
            return (last.first != argument || last.second.size() != pointer_bytes || last.second == pointer) &&
                   std::all_of(writes.begin(), writes.end(), [&](const auto& write) {
                       const auto& [at, bytes] = write;
                       return named.may_write(at, bytes.size()) || urb.may_write(at, bytes.size());
                   });
        };
        const auto reaped = std::find_if(submitted_.begin(), submitted_.end(), may_be);
        FUZZ_CHECK(reaped != submitted_.end());
        for (const auto& [at, bytes] : writes) {
            const bool is_data = reaped->data.length > 0 && at == reaped->data.address && bytes.size() > 8;
            // what the caller itself has lying over each other is its own affair
            if (is_data && !overlaps_header(*reaped) && !reaped->data.contains(argument, 1))
                FUZZ_CHECK(from_device(bytes, reaped->type == UrbType::isochronous));
        }
        // when it is not certain which one it was, all may still be reaped
        const bool certain = last.first == argument && std::count_if(submitted_.begin(), submitted_.end(), may_be) == 1;
        if (certain) submitted_.erase(reaped);
    }

    static bool overlaps_header(const SubmittedUrb& urb) {
        const Range around{urb.address - 16, 64 + urb.packets * iso_packet_bytes};
        return around.contains(urb.data.address, 1) || urb.data.contains(urb.address, 1);
    }

    /// What the device sent, or the descriptors that are shown in its place.
    bool from_device(std::span<const std::byte> bytes, bool gaps) const {
        const auto sent = [&](std::byte byte) {
            return byte == std::byte{device_byte} || (gaps && byte == std::byte{});
        };
        if (std::all_of(bytes.begin(), bytes.end(), sent)) return true;
        for (uint8_t index = 0; index < 2; ++index) {
            const auto shown = std::as_bytes(configuration_bytes(filter_.shown(), index));
            if (bytes.size() <= shown.size() && std::equal(bytes.begin(), bytes.end(), shown.begin())) return true;
        }
        return false;
    }

    ByteReader& input_;
    const size_t before_ = live_bytes();
    Filter filter_;
    Statistics statistics_;
    KernelState kernel_;
    CallerPages pages_;
    std::atomic<uint8_t> configuration_{1};
    BufferBudget budget_;
    std::unique_ptr<Session> session_;
    std::vector<SubmittedUrb> submitted_;
    uint64_t time_ = 0;
    bool bits32_ = false, legs_ = false;
    size_t leg_bytes_ = 131072;
    int interrupt_ = -1;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    CallerPages();  // what stays from run to run
    const size_t before = live_bytes();
    {
        ByteReader input(data, size);
        Consumer(input).run();
    }
    FUZZ_CHECK(live_bytes() == before);
    return 0;
}
