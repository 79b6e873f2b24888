// A disk on USB Attached SCSI (UAS, T10/2095-D), whose pipes have streams on a USB 3 port: a command's number is that
// of the stream on which its data and its status go.

#include <algorithm>
#include <deque>

#include <fmt/format.h>
#include <poll.h>

#include "tests/lab/usbfs_client/cases.hpp"
#include "tests/lab/usbfs_client/mass_storage.hpp"
#include "tests/lab/usbfs_client/raw_disk.hpp"
#include "tests/lab/usbfs_client/report.hpp"

namespace storctl::usbfs_client {
namespace {

// as QEMU's disk has them
constexpr uint8_t command_pipe = 0x01, status_pipe = 0x82, data_in_pipe = 0x83, data_out_pipe = 0x04;
constexpr unsigned streams_of_disk = 16;

constexpr size_t command_unit_bytes = 32, status_unit_bytes = 112;
constexpr std::byte command_unit{1}, sense_unit{3};

Urb bulk(uint8_t pipe, size_t bytes, unsigned stream) {
    Urb urb(USBDEVFS_URB_TYPE_BULK, pipe, bytes);
    urb->stream_id = stream;
    return urb;
}

long change_streams(const RawNode& node, unsigned long request, unsigned streams,
                    std::initializer_list<uint8_t> pipes) {
    std::vector<std::byte> storage(sizeof(usbdevfs_streams) + pipes.size());
    auto* const call = reinterpret_cast<usbdevfs_streams*>(storage.data());
    call->num_streams = streams;
    call->num_eps = static_cast<unsigned>(pipes.size());
    std::ranges::copy(pipes, call->eps);
    return node.call(request, call);
}

long allocate(const RawNode& node, unsigned streams = streams_of_disk) {
    return change_streams(node, USBDEVFS_ALLOC_STREAMS, streams, {status_pipe, data_in_pipe, data_out_pipe});
}

long free_streams(const RawNode& node) {
    return change_streams(node, USBDEVFS_FREE_STREAMS, 0, {status_pipe, data_in_pipe, data_out_pipe});
}

struct Command {
    Command(const ScsiCommand& scsi, uint16_t number)
        : tag(number),
          command(bulk(command_pipe, command_unit_bytes, 0)),
          data(bulk(scsi.to_host ? data_in_pipe : data_out_pipe, scsi.data_bytes, number)),
          status(bulk(status_pipe, status_unit_bytes, number)) {
        command.data()[0] = command_unit;
        command.data()[2] = std::byte(tag >> 8);
        command.data()[3] = std::byte(tag & 0xff);
        std::ranges::copy(std::as_bytes(std::span(scsi.bytes)), command.data().begin() + 16);
    }

    std::string submit(const RawNode& node) {
        return all_of({outcome(node.submit(status)), outcome(node.submit(data)), outcome(node.submit(command))});
    }

    /// Of a command that has come to its end.
    std::string result() {
        const auto unit = status.received();
        if (status->status != 0 || unit.size() < 16) return outcome(status->status);
        const unsigned answered = std::to_integer<unsigned>(unit[2]) << 8 | std::to_integer<unsigned>(unit[3]);
        return fmt::format("unit {} of {}, status {}, {} {} bytes, {} stream ids", std::to_integer<unsigned>(unit[0]),
                           answered == tag ? "this command" : "another", std::to_integer<unsigned>(unit[6]),
                           outcome(data->status), data->actual_length,
                           data->stream_id == tag && status->stream_id == tag ? "its own" : "other");
    }

    std::string run(const RawNode& node) {
        std::string submitted = submit(node);
        for (int count = 0; count < 3; ++count) node.next();
        return all_of({submitted, result()});
    }

    uint16_t tag;
    Urb command, data, status;
};

void refused_streams(const RawNode& node) {
    report("streams.none", outcome(allocate(node, 0)));
    report("streams.one", outcome(allocate(node, 1)));
    report("streams.far_too_many", outcome(allocate(node, 65537)));
    report("streams.of_command_pipe",
           outcome(change_streams(node, USBDEVFS_ALLOC_STREAMS, streams_of_disk, {command_pipe})));
    report("streams.no_pipes", outcome(change_streams(node, USBDEVFS_ALLOC_STREAMS, streams_of_disk, {})));
    report("streams.free_without", outcome(free_streams(node)));
    report("streams.bad_pointer", outcome(node.call(USBDEVFS_ALLOC_STREAMS, untouchable_page())));
}

void commands(const RawNode& node) {
    Command asks(inquiry(), 1);
    report("streams.inquiry", all_of({asks.run(node), content(asks.data.received())}));
    Command reads(read_sectors(64, 128), streams_of_disk - 1);
    report("streams.read", all_of({reads.run(node), compare_pattern(reads.data.data(), 64, 1)}));
    Command reads_much(read_sectors(0, 2048), 2);
    report("streams.read_much", all_of({reads_much.run(node), compare_pattern(reads_much.data.data(), 0, 1)}));
    Command writes(write_sectors(4096, 256), 3);
    fill_pattern(writes.data.data(), 4096, 7);
    report("streams.write", writes.run(node));
    Command reads_back(read_sectors(4096, 256), 3);
    report("streams.read_back", all_of({reads_back.run(node), compare_pattern(reads_back.data.data(), 4096, 7)}));
}

/// One for each of many streams. Which is completed first is the controller's business.
void side_by_side(const RawNode& node) {
    constexpr uint16_t number = 8, sectors = 128;
    std::deque<Command> all;
    for (uint16_t tag = 1; tag <= number; ++tag) all.emplace_back(read_sectors(tag * sectors, sectors), tag);
    for (auto& one : all) report(fmt::format("streams.side_by_side_{}.submit", one.tag), one.submit(node));
    for (size_t count = 0; count < 3 * all.size(); ++count) node.next();
    for (auto& one : all)
        report(fmt::format("streams.side_by_side_{}", one.tag),
               all_of({one.result(), compare_pattern(one.data.data(), one.tag * sectors, 1)}));
    report("streams.side_by_side.left", outcome(node.reap(false).result));
}

void wrong_streams(const RawNode& node) {
    for (const unsigned stream : {0U, 17U, 255U, 65536U, 0xffffffffU}) {
        Urb urb = bulk(data_in_pipe, 512, stream);
        report(fmt::format("streams.wrong_{}", stream), outcome(node.submit(urb)));
    }
    Urb waiting = bulk(status_pipe, status_unit_bytes, 5), other = bulk(status_pipe, status_unit_bytes, 6);
    report("streams.waiting", all_of({outcome(node.submit(waiting)), outcome(node.submit(other))}));
    report("streams.discard", outcome(node.discard(waiting)));
    report("streams.discarded", all_of({node.next() == waiting.header() ? "it" : "another", outcome(waiting->status)}));
    report("streams.discard_other", outcome(node.discard(other)));
    report("streams.discarded_other",
           all_of({node.next() == other.header() ? "it" : "another", outcome(other->status)}));
}

void with_streams(const RawNode& node) {
    report("streams.allocated", outcome(allocate(node)));
    report("streams.again", outcome(allocate(node)));
    commands(node);
    side_by_side(node);
    wrong_streams(node);
    report("streams.free", outcome(free_streams(node)));
    report("streams.free_again", outcome(free_streams(node)));
    report("streams.fewer", outcome(allocate(node, 4)));
    Command asks(inquiry(), 3);
    report("streams.fewer.inquiry", asks.run(node));
    usbdevfs_setinterface setting{.interface = 0, .altsetting = 0};
    report("streams.setting", outcome(node.call(USBDEVFS_SETINTERFACE, &setting)));
    report("streams.after_setting", outcome(allocate(node)));
    Command asks_again(inquiry(), 4);
    report("streams.after_setting.inquiry", asks_again.run(node));
}

}  // namespace

void stream_cases(const std::string& path) {
    {
        const RawNode node(path);
        report("streams.descriptors", content(read_descriptors(node)));
        report("streams.detach", outcome(node.detach(0)));
        report("streams.claim", outcome(node.claim(0)));
        refused_streams(node);
        with_streams(node);
        Urb left = bulk(status_pipe, status_unit_bytes, 9);
        report("streams.left", outcome(node.submit(left)));
    }
    // closed with streams and a URB on one
    const RawNode node(path);
    report("streams.next.claim", outcome(node.claim(0)));
    report("streams.next.allocated", outcome(allocate(node)));
    Command asks(inquiry(), 9);
    report("streams.next.inquiry", asks.run(node));
    report("streams.next.free", outcome(free_streams(node)));
}

}  // namespace storctl::usbfs_client
