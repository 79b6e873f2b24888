// The columns of "node list" and "node stat".
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "cli/cells.hpp"
#include "cli/commands.hpp"
#include "cli/node_sg.hpp"
#include "cli/node_usb.hpp"
#include "cli/node_view.hpp"
#include "cli/rates.hpp"

namespace storctl::cli {
namespace {

using Format = ValueFormat;

constexpr char k_fuse[] = "fuse", k_usbfs[] = "usbfs", k_sg[] = "sg";

template <const char* type>
Cell form(const Json& node, const Format&) {
    for (const Json& candidate : list_of(node, "forms")) {
        if (text_of(candidate, "type") == type) return {text_of(candidate, "path")};
    }
    return {};
}

Cell size(const Json& node, const Format& format) {
    if (is_usb_node(node)) return {};
    const uint64_t bytes = number_of(member(node, "backing"), "size_bytes");
    return {format.exact_bytes ? fmt::to_string(bytes) : format_size(bytes)};
}

Cell state(const Json& node, const Format&) {
    const std::string value = text_of(node, "state");
    return {value, node_state_style(value)};
}

Cell pid(const Json& node, const Format&) {
    const uint64_t value = number_of(node, "pid");
    return {value == 0 ? "" : fmt::to_string(value)};
}

Cell openers(const Json& node, const Format&) { return {fmt::to_string(list_of(node, "openers").size())}; }

/// What it stands in front of: of a USB node what is plugged in.
Cell device(const Json& node, const Format&) {
    return {is_usb_node(node) ? text_of(member(node, "usb"), "description") : text_of(node, "device")};
}

Cell kind(const Json& node, const Format&) {
    return {is_usb_node(node) ? "usb" : text_of(member(node, "backing"), "kind")};
}

Cell backing(const Json& node, const Format&) {
    return {is_usb_node(node) ? text_of(member(node, "usb"), "socket") : text_of(member(node, "backing"), "path")};
}

Cell path(const Json& node, const Format& format) {
    return is_usb_node(node) ? form<k_usbfs>(node, format) : form<k_fuse>(node, format);
}

template <const char* key>
Cell count(const Json& node, const Format&) {
    const Json& value = member(member(node, "counts"), key);
    return {value.is_number() ? value.dump() : ""};
}

Cell counted_bytes(const Json& node, const Format& format) {
    const Json& value = member(member(node, "counts"), "bytes");
    if (!value.is_number()) return {};
    return {format.exact_bytes ? value.dump() : format_size(value.get<uint64_t>())};
}

Cell holder(const Json& node, const Format&) { return {text_of(member(node, "usb"), "holder")}; }

Cell reserved(const Json& node, const Format&) {
    const std::string text = reserved_text(node);
    return {text, text.empty() ? Style::plain : Style::warning};
}

constexpr char k_name[] = "name", k_open[] = "open", k_message[] = "message", k_restarts[] = "restarts",
               k_created[] = "created", k_created_by[] = "created_by", k_loop[] = "loop", k_urbs[] = "urbs",
               k_errors[] = "errors";

constexpr auto list_table = std::to_array<Column>({
    {"NAME", Align::left, true, "the node's name", text_cell<k_name>},
    {"KIND", Align::left, true, "usb, or what a disk's node stands in front of: block, file, loop", kind},
    {"STATE", Align::left, true, "starting, serving, backing-lost, restarting, failed, stopping", state},
    {"SIZE", Align::right, true, "what consumers see of a disk", size},
    {"OPEN", Align::left, true, "who may open it: single-writer, shared, read-only", text_cell<k_open>},
    {"OPENERS", Align::right, true, "how many have it open", openers},
    {"BACKING", Align::left, true, "the device or file behind it; of a USB node the socket", backing},
    {"PATH", Align::left, true, "what consumers open", path},
    {"LOOP", Align::left, false, "the kernel block device, where one was asked for", form<k_loop>},
    {"SG", Align::left, false, "the SCSI generic device, where the node has one", form<k_sg>},
    {"RESERVED", Align::left, false, "the persistent reservation of a disk: its type, and who holds it", reserved},
    {"DEVICE", Align::left, false, "id of the backing device; of a USB node what is plugged in", device},
    {"HOLDER", Align::left, false, "of a USB node: whose claim it lives with", holder},
    {"URBS", Align::right, false, "URBs of a USB node since its process started; by default where there is one",
     count<k_urbs>},
    {"BYTES", Align::right, false, "bytes moved since then", counted_bytes},
    {"ERRORS", Align::right, false, "operations that failed since then; of a USB node URBs", count<k_errors>},
    {"PID", Align::right, false, "of the node's process", pid},
    {"RESTARTS", Align::right, false, "how often the process had to be started again", number_cell<k_restarts>},
    {"MESSAGE", Align::left, false, "why the state is what it is", text_cell<k_message>},
    {"CREATED", Align::left, false, "when", text_cell<k_created>},
    {"AUTHOR", Align::left, false, "who created it", text_cell<k_created_by>},
});

// node stat: rows as rates.hpp makes them

constexpr char k_read[] = "read", k_write[] = "write", k_flush[] = "flush", k_discard[] = "discard",
               k_zeroes[] = "write-zeroes", k_control[] = "control", k_bulk[] = "bulk", k_interrupt[] = "interrupt",
               k_isochronous[] = "isochronous", k_ioctl[] = "ioctl", k_poll[] = "poll", k_all[] = "all",
               k_mean[] = "mean_ns", k_p50[] = "p50_ns", k_p99[] = "p99_ns";

const Json& rate(const Json& stat, std::string_view operation) {
    static const Json none;
    for (const Json& candidate : list_of(member(stat, "rates"), "operations")) {
        if (text_of(candidate, "operation") == operation) return candidate;
    }
    return none;
}

double real_of(const Json& object, std::string_view key) {
    const Json& value = member(object, key);
    return value.is_number() ? value.get<double>() : 0;
}

template <const char* operation>
Cell per_second(const Json& stat, const Format&) {
    return {fmt::format("{:.1f}", real_of(rate(stat, operation), "operations_per_second"))};
}

template <const char* operation>
Cell mebibytes(const Json& stat, const Format&) {
    return {fmt::format("{:.2f}", real_of(rate(stat, operation), "bytes_per_second") / (1 << 20))};
}

template <const char* operation, const char* key>
Cell latency(const Json& stat, const Format&) {
    const Json& value = member(rate(stat, operation), key);
    if (!value.is_number_unsigned()) return {};
    return {format_duration(std::chrono::nanoseconds(value.get<uint64_t>()))};
}

Cell urbs_per_second(const Json& stat, const Format&) {
    double total = 0;
    for (const Json& operation : list_of(member(stat, "rates"), "operations")) {
        if (is_urb(text_of(operation, "operation"))) total += real_of(operation, "operations_per_second");
    }
    return {fmt::format("{:.1f}", total)};
}

Cell urb_mebibytes(const Json& stat, const Format&) {
    double total = 0;
    for (const Json& operation : list_of(member(stat, "rates"), "operations")) {
        if (is_urb(text_of(operation, "operation"))) total += real_of(operation, "bytes_per_second");
    }
    return {fmt::format("{:.2f}", total / (1 << 20))};
}

Cell in_flight(const Json& stat, const Format&) {
    uint64_t total = 0;
    for (const Json& operation : list_of(stat, "operations")) total += number_of(operation, "in_flight");
    return {fmt::to_string(total)};
}

Cell errors(const Json& stat, const Format&) {
    uint64_t total = 0;
    for (const Json& operation : list_of(member(stat, "rates"), "operations")) {
        if (counts_errors(text_of(operation, "operation"))) total += number_of(operation, "errors");
    }
    return {fmt::to_string(total), total > 0 ? Style::bad : Style::plain};
}

Cell refused(const Json& stat, const Format&) {
    return {fmt::to_string(number_of(member(stat, "rates"), "refused_opens"))};
}

constexpr auto stat_table = std::to_array<Column>({
    {"NAME", Align::left, true, "the node's name", text_cell<k_name>},
    {"R/S", Align::right, true, "reads per second", per_second<k_read>},
    {"W/S", Align::right, true, "writes per second", per_second<k_write>},
    {"RMIB/S", Align::right, true, "MiB read per second", mebibytes<k_read>},
    {"WMIB/S", Align::right, true, "MiB written per second", mebibytes<k_write>},
    {"F/S", Align::right, true, "flushes per second", per_second<k_flush>},
    {"D/S", Align::right, true, "discards per second", per_second<k_discard>},
    {"U/S", Align::right, true, "URBs per second, of a USB node", urbs_per_second},
    {"UMIB/S", Align::right, true, "MiB per second in URBs", urb_mebibytes},
    {"MEAN", Align::right, true, "mean latency of reads and writes, or of URBs", latency<k_all, k_mean>},
    {"P50", Align::right, true, "latency that half of them stayed within", latency<k_all, k_p50>},
    {"P99", Align::right, true, "latency that 99 % of them stayed within", latency<k_all, k_p99>},
    {"INFLIGHT", Align::right, true, "operations under way at this moment", in_flight},
    {"ERRORS", Align::right, true, "operations that failed; of a USB node URBs", errors},
    {"Z/S", Align::right, false, "write-zeroes per second", per_second<k_zeroes>},
    {"R-MEAN", Align::right, false, "mean latency of reads", latency<k_read, k_mean>},
    {"R-P50", Align::right, false, "latency that half of the reads stayed within", latency<k_read, k_p50>},
    {"R-P99", Align::right, false, "latency that 99 % of the reads stayed within", latency<k_read, k_p99>},
    {"W-MEAN", Align::right, false, "mean latency of writes", latency<k_write, k_mean>},
    {"W-P50", Align::right, false, "latency that half of the writes stayed within", latency<k_write, k_p50>},
    {"W-P99", Align::right, false, "latency that 99 % of the writes stayed within", latency<k_write, k_p99>},
    {"F-MEAN", Align::right, false, "mean latency of flushes", latency<k_flush, k_mean>},
    {"F-P99", Align::right, false, "latency that 99 % of the flushes stayed within", latency<k_flush, k_p99>},
    {"D-MEAN", Align::right, false, "mean latency of discards", latency<k_discard, k_mean>},
    {"D-P99", Align::right, false, "latency that 99 % of the discards stayed within", latency<k_discard, k_p99>},
    {"C/S", Align::right, false, "control URBs per second", per_second<k_control>},
    {"B/S", Align::right, false, "bulk URBs per second", per_second<k_bulk>},
    {"I/S", Align::right, false, "interrupt URBs per second", per_second<k_interrupt>},
    {"ISO/S", Align::right, false, "isochronous URBs per second", per_second<k_isochronous>},
    {"IOCTL/S", Align::right, false, "requests of a USB node's consumers per second", per_second<k_ioctl>},
    {"POLL/S", Align::right, false, "polls of a USB node's consumers per second", per_second<k_poll>},
    {"REFUSED", Align::right, false, "opens that arbitration refused", refused},
});

}  // namespace

std::span<const Column> node_columns() { return list_table; }
std::span<const Column> node_stat_columns() { return stat_table; }

}  // namespace storctl::cli
