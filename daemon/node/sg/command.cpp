#include "daemon/node/sg/command.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include <scsi/sg.h>

#include "daemon/node/sg/header.hpp"

namespace storctl::node::sg {
namespace {

constexpr int32_t direction_unknown = -5;  // SG_DXFER_UNKNOWN, which glibc's header lacks
constexpr uint32_t flag_mmap = 0x4;        // SG_FLAG_MMAP_IO, likewise
constexpr size_t shortest_cdb = 6;
constexpr size_t longest_cdb_v3 = 252;  // SG_MAX_CDB_SIZE
constexpr uint32_t longest_sense = 252;
constexpr uint8_t status_check_condition = 0x02;
constexpr uint16_t driver_sense = 0x08;

/// What a header points to and is still to be fetched.
struct Pointers {
    uint64_t cdb = 0;
    uint64_t data = 0;      ///< or the list of its segments
    uint32_t segments = 0;  ///< 0: no list
};

void expect_sense(Command& command, uint64_t address, uint32_t room) {
    command.sense_address = room > 0 ? address : 0;
    command.sense_room = address != 0 ? std::min(room, longest_sense) : 0;
}

void expect_time(Command& command, uint32_t timeout_ms) {
    command.timeout_ms = timeout_ms != 0 ? timeout_ms : default_timeout_ms;
}

std::optional<Direction> direction_of(int32_t direction) {
    switch (direction) {
        case SG_DXFER_NONE:
            return Direction::none;
        case SG_DXFER_TO_DEV:
            return Direction::to_device;
        case SG_DXFER_FROM_DEV:
        case SG_DXFER_TO_FROM_DEV:
        case direction_unknown:
            return Direction::from_device;
        default:
            return std::nullopt;
    }
}

int decode_v3(std::span<const std::byte> header, uint64_t most_data_bytes, Command& command, Pointers& pointers) {
    const auto& at = header_v3(command.layout);
    const auto direction = direction_of(field<int32_t>(header, at.direction));
    command.data_bytes = direction == Direction::none ? 0 : field<uint32_t>(header, at.data_bytes);
    if (command.data_bytes > most_data_bytes) return -ENOMEM;
    if (!direction) return -EINVAL;
    command.direction = *direction;

    command.flags = field<uint32_t>(header, at.flags);
    if ((command.flags & flag_mmap) != 0) return -EINVAL;  // there is nothing to map
    const bool moves_nothing = (command.flags & SG_FLAG_NO_DXFER) != 0;
    if (moves_nothing && command.direction == Direction::to_device) return -EINVAL;

    pointers.cdb = word(header, at.cdb, command.layout);
    command.cdb_length = field<uint8_t>(header, at.cdb_length);
    if (pointers.cdb == 0 || command.cdb_length < shortest_cdb || command.cdb_length > longest_cdb_v3) return -EMSGSIZE;

    pointers.data = word(header, at.data, command.layout);
    pointers.segments = field<uint16_t>(header, at.segments);
    // a read without a buffer goes nowhere
    const bool nowhere = moves_nothing || (pointers.data == 0 && command.direction == Direction::from_device);
    if (nowhere) command.data_bytes = 0;

    expect_sense(command, word(header, at.sense, command.layout), field<uint8_t>(header, at.sense_room));
    expect_time(command, field<uint32_t>(header, at.timeout));
    command.pack_id = field<int32_t>(header, at.pack_id);
    command.user_pointer = word(header, at.user_pointer, command.layout);
    return 0;
}

int decode_v4(std::span<const std::byte> header, uint64_t most_data_bytes, Command& command, Pointers& pointers) {
    const auto& at = header_v4;
    const auto out_bytes = field<uint32_t>(header, at.out_bytes), in_bytes = field<uint32_t>(header, at.in_bytes);
    if (std::max(out_bytes, in_bytes) > most_data_bytes) return -ENOMEM;
    if (field<uint32_t>(header, at.protocol) != 0 || field<uint32_t>(header, at.subprotocol) != 0) return -EINVAL;
    if (out_bytes > 0 && in_bytes > 0) return -EOPNOTSUPP;
    const auto cdb_length = field<uint32_t>(header, at.request_bytes);
    if (cdb_length < shortest_cdb || cdb_length > longest_cdb) return -EINVAL;

    command.cdb_length = static_cast<uint16_t>(cdb_length);
    pointers.cdb = field<uint64_t>(header, at.request);
    if (out_bytes > 0) {
        command.direction = Direction::to_device;
        command.data_bytes = out_bytes;
        pointers.data = field<uint64_t>(header, at.out);
        pointers.segments = field<uint32_t>(header, at.out_segments);
    } else {
        command.direction = in_bytes > 0 ? Direction::from_device : Direction::none;
        command.data_bytes = in_bytes;
        pointers.data = field<uint64_t>(header, at.in);
        pointers.segments = field<uint32_t>(header, at.in_segments);
    }
    expect_sense(command, field<uint64_t>(header, at.response), field<uint32_t>(header, at.response_room));
    expect_time(command, field<uint32_t>(header, at.timeout));
    command.flags = field<uint32_t>(header, at.flags);
    command.pack_id = field<int32_t>(header, at.request_extra);
    command.user_pointer = field<uint64_t>(header, at.user_pointer);
    return 0;
}

/// Segments that lie one behind the other become one: fewer to move.
void add_segment(std::vector<Segment>& segments, Segment next) {
    if (next.length == 0) return;
    if (!segments.empty() && segments.back().address + segments.back().length == next.address) {
        segments.back().length += next.length;
    } else {
        segments.push_back(next);
    }
}

int use_list(std::span<const std::byte> list, Command& command) {
    const size_t size = segment_bytes(command.layout);
    const uint64_t longest = command.layout == Layout::bits64 ? INT64_MAX : INT32_MAX;
    uint64_t left = command.data_bytes;
    for (; !list.empty(); list = list.subspan(size)) {
        const uint64_t length = word(list, size / 2, command.layout);
        if (length > longest) return -EINVAL;
        add_segment(command.data, {word(list, 0, command.layout), std::min(length, left)});
        left -= std::min(length, left);
    }
    command.data_bytes -= static_cast<uint32_t>(left);
    return command.data_bytes > 0 ? 0 : -EINVAL;
}

bool wants_data(const Command& command) {
    return command.direction == Direction::from_device && command.data_bytes > 0;
}
/// Behind the sense data more goes out, so what was there has to go with it.
bool keeps_former_sense(const CallerMemory& memory, const Command& command) {
    return memory.in_legs() && wants_data(command) && command.sense_room > 0;
}
Segment answer_of(const Command& command) {
    return command.interface == Interface::v3
               ? Segment{command.header_address + header_v3(command.layout).answer, answer_v3.bytes}
               : Segment{command.header_address + header_v4.answer, answer_v4.bytes};
}

int announce_all(CallerMemory& memory, const Command& command) {
    const auto answer = answer_of(command);
    const uint64_t data = wants_data(command) ? command.data_bytes : 0;
    if (answer.length + command.sense_room + data > memory.write_limit()) return -ENOMEM;
    if (const int failed = memory.announce_write(answer.address, answer.length); failed != 0) return failed;
    if (command.sense_room > 0) {
        if (const int failed = memory.announce_write(command.sense_address, command.sense_room); failed != 0)
            return failed;
    }
    if (data == 0) return 0;
    for (const auto& segment : command.data) {
        if (const int failed = memory.announce_write(segment.address, segment.length); failed != 0) return failed;
    }
    return 0;
}

/// Where each leg costs a round trip: asks in this one for everything that the command needs, now that it is known.
void ask_for_the_rest(CallerMemory& memory, const Command& command) {
    std::vector<std::byte> unused;
    const auto ask = [&](uint64_t address, uint64_t length) {
        unused.resize(std::max<size_t>(unused.size(), length));
        memory.read(address, std::span(unused).first(length));
    };
    if (command.direction == Direction::to_device) {
        for (const auto& segment : command.data) ask(segment.address, segment.length);
    }
    if (announce_all(memory, command) == 0 && keeps_former_sense(memory, command))
        ask(command.sense_address, command.sense_room);
}

int fetch_named(CallerMemory& memory, const Pointers& pointers, Command& command) {
    const bool listed = pointers.segments > 0 && command.data_bytes > 0;
    if (listed && pointers.segments > most_segments) return -EINVAL;
    std::vector<std::byte> list(listed ? pointers.segments * segment_bytes(command.layout) : 0);
    if (!listed && command.data_bytes > 0) command.data.push_back({pointers.data, command.data_bytes});

    const int cdb = memory.read(pointers.cdb, std::span(command.cdb_bytes).first(command.cdb_length));
    if (cdb != 0 && cdb != CallerMemory::again) return cdb;
    const int segments = listed ? memory.read(pointers.data, list) : 0;
    if (segments != 0 && segments != CallerMemory::again) return segments;
    if (cdb != 0 || segments != 0) {
        if (!listed) ask_for_the_rest(memory, command);
        return CallerMemory::again;
    }
    return listed ? use_list(list, command) : 0;
}

int fetch_from(CallerMemory& memory, std::span<const std::byte> header, uint64_t most_data_bytes, Command& command) {
    command.data.clear();
    command.former_sense.clear();
    Pointers pointers;
    const auto decode = command.interface == Interface::v3 ? decode_v3 : decode_v4;
    if (const int failed = decode(header, most_data_bytes, command, pointers); failed != 0) return failed;
    return fetch_named(memory, pointers, command);
}

size_t sense_given(const Command& command, const Outcome& outcome) {
    return std::min<size_t>(command.sense_room, outcome.sense.size());
}

/// All that a header tells, as it lies in the header.
std::array<std::byte, answer_v4.bytes> encode_answer(const Command& command, const Outcome& outcome) {
    std::array<std::byte, answer_v4.bytes> bytes{};
    const uint16_t driver_status = outcome.status == status_check_condition ? driver_sense : 0;
    const uint32_t info = outcome.status != 0 || outcome.host_status != 0 || driver_status != 0 ? SG_INFO_CHECK : 0;
    const auto sense_bytes = sense_given(command, outcome);
    const auto residual =
        static_cast<int32_t>(command.data_bytes - std::min<uint64_t>(outcome.moved, command.data_bytes));
    if (command.interface == Interface::v3) {
        const auto& at = answer_v3;
        put(bytes, at.status, outcome.status);
        put(bytes, at.masked_status, static_cast<uint8_t>(outcome.status >> 1 & 0x1f));
        put(bytes, at.sense_bytes, static_cast<uint8_t>(sense_bytes));
        put(bytes, at.host_status, outcome.host_status);
        put(bytes, at.driver_status, driver_status);
        put(bytes, at.residual, residual);
        put(bytes, at.duration, outcome.duration_ms);
        put(bytes, at.info, info);
    } else {
        const auto& at = answer_v4;
        put<uint32_t>(bytes, at.driver_status, driver_status);
        put<uint32_t>(bytes, at.transport_status, outcome.host_status);
        put<uint32_t>(bytes, at.device_status, outcome.status);
        put(bytes, at.info, info);
        put(bytes, at.duration, outcome.duration_ms);
        put(bytes, at.response_bytes, static_cast<uint32_t>(sense_bytes));
        put(bytes, command.direction == Direction::to_device ? at.out_residual : at.in_residual, residual);
    }
    return bytes;
}

using Pieces = std::vector<CallerMemory::Piece>;

void add_data(Pieces& pieces, const Command& command, const Outcome& outcome) {
    if (!wants_data(command)) return;
    auto left = outcome.data.first(std::min<size_t>(outcome.data.size(), command.data_bytes));
    for (const auto& segment : command.data) {
        if (left.empty()) return;
        const auto part = left.first(std::min<size_t>(left.size(), segment.length));
        pieces.push_back({segment.address, part});
        left = left.subspan(part.size());
    }
}

}  // namespace

int fetch(CallerMemory& memory, uint64_t argument, Layout layout, uint64_t most_data_bytes, Command& command) {
    // no more than the shorter header is certain to be there before its first word is known
    std::array<std::byte, header_v4.bytes> header;
    const size_t first = header_v3(layout).bytes;
    if (const int failed = memory.read(argument, std::span(header).first(first)); failed != 0) return failed;
    command.layout = layout;
    command.header_address = argument;
    switch (field<int32_t>(header, 0)) {
        case interface_v3:
            command.interface = Interface::v3;
            return fetch_from(memory, std::span(header).first(first), most_data_bytes, command);
        case interface_v4: {
            const auto rest = std::span(header).subspan(first);
            if (const int failed = memory.read(argument + first, rest); failed != 0) return failed;
            command.interface = Interface::v4;
            return fetch_from(memory, header, most_data_bytes, command);
        }
        default:
            return -ENOSYS;
    }
}

int fetch_written(CallerMemory& memory, std::span<const std::byte> header, Layout layout, uint64_t most_data_bytes,
                  Command& command) {
    if (header.size() < sizeof(int32_t)) return -EINVAL;
    command.layout = layout;
    command.header_address = 0;
    const auto id = field<int32_t>(header, 0);
    if (id != interface_v3 && id != interface_v4) return -EINVAL;
    command.interface = id == interface_v3 ? Interface::v3 : Interface::v4;
    const size_t size = command.interface == Interface::v3 ? header_v3(layout).bytes : header_v4.bytes;
    if (header.size() < size) return -EINVAL;
    return fetch_from(memory, header.first(size), most_data_bytes, command);
}

int fetch_data(CallerMemory& memory, const Command& command, std::span<std::byte> into) {
    if (command.direction != Direction::to_device) return 0;
    bool missing = false;
    for (const auto& segment : command.data) {
        const int failed = memory.read(segment.address, into.first(segment.length));
        if (failed != 0 && failed != CallerMemory::again) return failed;
        missing = missing || failed != 0;
        into = into.subspan(segment.length);
    }
    if (!missing) return 0;
    ask_for_the_rest(memory, command);
    return CallerMemory::again;
}

int announce(CallerMemory& memory, Command& command) {
    if (const int failed = announce_all(memory, command); failed != 0) return failed;
    if (keeps_former_sense(memory, command)) {
        command.former_sense.resize(command.sense_room);
        if (const int failed = memory.read(command.sense_address, command.former_sense); failed != 0) return failed;
    }
    return memory.ready();
}

int give(CallerMemory& memory, const Command& command, const Outcome& outcome) {
    Pieces pieces;
    pieces.reserve(command.data.size() + 2);
    add_data(pieces, command, outcome);

    auto sense = outcome.sense.first(sense_given(command, outcome));
    std::vector<std::byte> whole_sense;
    if (!pieces.empty() && !command.former_sense.empty()) {
        whole_sense = command.former_sense;
        std::copy(sense.begin(), sense.end(), whole_sense.begin());
        sense = whole_sense;
    }
    if (!sense.empty()) pieces.push_back({command.sense_address, sense});

    const auto answer = answer_of(command);
    const auto bytes = encode_answer(command, outcome);
    pieces.push_back({answer.address, std::span(bytes).first(answer.length)});
    return memory.write_all(pieces);
}

int give_written(CallerMemory& memory, const Command& command, const Outcome& outcome) {
    Pieces pieces;
    add_data(pieces, command, outcome);
    if (const auto sense = outcome.sense.first(sense_given(command, outcome)); !sense.empty())
        pieces.push_back({command.sense_address, sense});
    return memory.write_all(pieces);
}

std::vector<std::byte> answered_header(std::span<const std::byte> header, const Command& command,
                                       const Outcome& outcome) {
    const bool v3 = command.interface == Interface::v3;
    const auto own = header.first(v3 ? header_v3(command.layout).bytes : header_v4.bytes);
    std::vector<std::byte> out(own.begin(), own.end());
    const size_t offset = v3 ? header_v3(command.layout).answer : header_v4.answer;
    const auto bytes = encode_answer(command, outcome);
    const auto answer = std::span(bytes).first(v3 ? answer_v3.bytes : answer_v4.bytes);
    std::copy(answer.begin(), answer.end(), std::span(out).subspan(offset, answer.size()).begin());
    return out;
}

}  // namespace storctl::node::sg
