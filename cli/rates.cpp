#include "cli/rates.hpp"

#include <optional>
#include <string>

#include "cli/fields.hpp"
#include "cli/histogram.hpp"

namespace storctl::cli {
namespace {

/// What one kind of operation counted in the period.
struct Counted {
    uint64_t operations = 0;
    uint64_t bytes = 0;
    uint64_t errors = 0;
    uint64_t latency_total_ns = 0;
    Buckets latency;
};

Buckets buckets_of(const Json& operation) {
    Buckets out;
    for (const Json& count : list_of(operation, "latency_ns")) {
        out.push_back(count.is_number_unsigned() ? count.get<uint64_t>() : 0);
    }
    return out;
}

const Json& find_operation(const Json& stat, const std::string& name) {
    static const Json none;
    for (const Json& operation : list_of(stat, "operations")) {
        if (text_of(operation, "operation") == name) return operation;
    }
    return none;
}

Counted count(const Json& now, const Json& before) {
    const auto since = [&](const char* key) { return counted_since(number_of(now, key), number_of(before, key)); };
    return {.operations = since("operations"),
            .bytes = since("bytes"),
            .errors = since("errors"),
            .latency_total_ns = since("latency_total_ns"),
            .latency = counted_since(buckets_of(now), buckets_of(before))};
}

Json nanoseconds(std::optional<double> value) { return value ? Json(static_cast<uint64_t>(*value)) : Json(); }

Json mean_ns(const Counted& counted) {
    return counted.operations > 0 ? Json(counted.latency_total_ns / counted.operations) : Json();
}

Json describe(const std::string& name, const Counted& counted, double seconds) {
    const auto per_second = [seconds](uint64_t value) {
        return seconds > 0 ? static_cast<double>(value) / seconds : 0.0;
    };
    return {{"operation", name},
            {"operations", counted.operations},
            {"bytes", counted.bytes},
            {"errors", counted.errors},
            {"operations_per_second", per_second(counted.operations)},
            {"bytes_per_second", per_second(counted.bytes)},
            {"mean_ns", mean_ns(counted)},
            {"p50_ns", nanoseconds(percentile_ns(counted.latency, 0.50))},
            {"p99_ns", nanoseconds(percentile_ns(counted.latency, 0.99))}};
}

/// "all" is of these: reads and writes of a disk, URBs of a USB device.
bool moves_data(std::string_view operation) { return operation == "read" || operation == "write" || is_urb(operation); }

}  // namespace

bool is_urb(std::string_view operation) {
    return operation == "control" || operation == "bulk" || operation == "interrupt" || operation == "isochronous";
}

Json total_counts(const Json& stat) {
    uint64_t urbs = 0, bytes = 0, errors = 0;
    bool usb = false;
    for (const Json& operation : list_of(stat, "operations")) {
        const std::string name = text_of(operation, "operation");
        if (is_urb(name)) {
            usb = true;
            urbs += number_of(operation, "operations");
        }
        if (name == "ioctl" || name == "poll") continue;
        if (moves_data(name)) bytes += number_of(operation, "bytes");
        errors += number_of(operation, "errors");
    }
    return {{"urbs", usb ? Json(urbs) : Json()}, {"bytes", bytes}, {"errors", errors}};
}

Json with_rates(Json now, const Json& before) {
    const bool since_start = before.is_null() || number_of(before, "started_ns") != number_of(now, "started_ns");
    static const Json nothing;
    const Json& earlier = since_start ? nothing : before;
    const uint64_t from_ns = since_start ? number_of(now, "started_ns") : number_of(before, "time_ns");
    const double seconds =
        static_cast<double>(number_of(now, "time_ns") - std::min(from_ns, number_of(now, "time_ns"))) / 1e9;
    Json operations = Json::array();
    Counted all;
    for (const Json& operation : list_of(now, "operations")) {
        const std::string name = text_of(operation, "operation");
        const Counted counted = count(operation, find_operation(earlier, name));
        operations.push_back(describe(name, counted, seconds));
        if (!moves_data(name)) continue;
        all = {.operations = all.operations + counted.operations,
               .bytes = all.bytes + counted.bytes,
               .errors = all.errors + counted.errors,
               .latency_total_ns = all.latency_total_ns + counted.latency_total_ns,
               .latency = sum(all.latency, counted.latency)};
    }
    operations.push_back(describe("all", all, seconds));
    now["rates"] = {
        {"since_start", since_start},
        {"seconds", seconds},
        {"refused_opens", counted_since(number_of(now, "refused_opens"), number_of(earlier, "refused_opens"))},
        {"operations", std::move(operations)}};
    return now;
}

}  // namespace storctl::cli
