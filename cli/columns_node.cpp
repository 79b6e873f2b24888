// The columns of "node list" and "node stat".
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "cli/cells.hpp"
#include "cli/commands.hpp"
#include "cli/node_view.hpp"

namespace storctl::cli {
namespace {

using Format = ValueFormat;

template <const char* key>
Cell backing_text(const Json& node, const Format&) {
    return {text_of(member(node, "backing"), key)};
}

template <const char* type>
Cell form(const Json& node, const Format&) {
    for (const Json& candidate : list_of(node, "forms")) {
        if (text_of(candidate, "type") == type) return {text_of(candidate, "path")};
    }
    return {};
}

Cell size(const Json& node, const Format& format) {
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

constexpr char k_name[] = "name", k_device[] = "device", k_open[] = "open", k_message[] = "message",
               k_restarts[] = "restarts", k_created[] = "created", k_created_by[] = "created_by", k_kind[] = "kind",
               k_path[] = "path", k_fuse[] = "fuse", k_loop[] = "loop";

constexpr auto list_table = std::to_array<Column>({
    {"NAME", Align::left, true, "the node's name", text_cell<k_name>},
    {"STATE", Align::left, true, "starting, serving, backing-lost, restarting, failed, stopping", state},
    {"SIZE", Align::right, true, "what consumers see", size},
    {"OPEN", Align::left, true, "who may open it: single-writer, shared, read-only", text_cell<k_open>},
    {"OPENERS", Align::right, true, "how many have it open", openers},
    {"BACKING", Align::left, true, "the device or file behind it", backing_text<k_path>},
    {"PATH", Align::left, true, "the file that consumers open", form<k_fuse>},
    {"LOOP", Align::left, false, "the kernel block device, where one was asked for", form<k_loop>},
    {"KIND", Align::left, false, "of the backing: block, file, loop", backing_text<k_kind>},
    {"DEVICE", Align::left, false, "id of the backing device", text_cell<k_device>},
    {"PID", Align::right, false, "of the node's process", pid},
    {"RESTARTS", Align::right, false, "how often the process had to be started again", number_cell<k_restarts>},
    {"MESSAGE", Align::left, false, "why the state is what it is", text_cell<k_message>},
    {"CREATED", Align::left, false, "when", text_cell<k_created>},
    {"AUTHOR", Align::left, false, "who created it", text_cell<k_created_by>},
});

// node stat: rows as rates.hpp makes them

constexpr char k_read[] = "read", k_write[] = "write", k_flush[] = "flush", k_discard[] = "discard",
               k_zeroes[] = "write-zeroes", k_all[] = "all", k_mean[] = "mean_ns", k_p50[] = "p50_ns",
               k_p99[] = "p99_ns";

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

Cell in_flight(const Json& stat, const Format&) {
    uint64_t total = 0;
    for (const Json& operation : list_of(stat, "operations")) total += number_of(operation, "in_flight");
    return {fmt::to_string(total)};
}

Cell errors(const Json& stat, const Format&) {
    uint64_t total = 0;
    for (const Json& operation : list_of(member(stat, "rates"), "operations")) {
        if (text_of(operation, "operation") != "all") total += number_of(operation, "errors");
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
    {"MEAN", Align::right, true, "mean latency of reads and writes", latency<k_all, k_mean>},
    {"P50", Align::right, true, "latency that half of the reads and writes stayed within", latency<k_all, k_p50>},
    {"P99", Align::right, true, "latency that 99 % of the reads and writes stayed within", latency<k_all, k_p99>},
    {"INFLIGHT", Align::right, true, "operations under way at this moment", in_flight},
    {"ERRORS", Align::right, true, "operations that failed", errors},
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
    {"REFUSED", Align::right, false, "opens that arbitration refused", refused},
});

}  // namespace

std::span<const Column> node_columns() { return list_table; }
std::span<const Column> node_stat_columns() { return stat_table; }

}  // namespace storctl::cli
