#include <cstdint>
#include <random>

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/fields.hpp"
#include "cli/histogram.hpp"
#include "cli/rates.hpp"

using namespace storctl::cli;

namespace {

constexpr size_t bucket_count = 40;

Buckets at(size_t bucket, uint64_t count) {
    Buckets out(bucket_count, 0);
    out[bucket] = count;
    return out;
}

size_t bucket_of(uint64_t ns) {
    size_t bucket = 0;
    while (bucket + 1 < bucket_count && (uint64_t{1} << bucket) <= ns) ++bucket;
    return bucket;
}

Json operation(const char* name, uint64_t operations, uint64_t bytes, uint64_t total_ns, const Buckets& latency) {
    return {{"operation", name}, {"operations", operations},     {"bytes", bytes},       {"errors", 1},
            {"in_flight", 2},    {"latency_total_ns", total_ns}, {"latency_ns", latency}};
}

const Json& find(const Json& stat, std::string_view name) {
    for (const Json& row : list_of(member(stat, "rates"), "operations")) {
        if (text_of(row, "operation") == name) return row;
    }
    FAIL("no operation " << name);
    return stat;
}

}  // namespace

TEST_CASE("a percentile lies inside the bucket that its rank falls into") {
    CHECK_FALSE(percentile_ns({}, 0.5));
    CHECK_FALSE(percentile_ns(Buckets(bucket_count, 0), 0.5));
    CHECK(*percentile_ns(at(0, 4), 1.0) == doctest::Approx(1));
    CHECK(*percentile_ns(at(1, 1), 0.5) == doctest::Approx(2));      // [1, 2)
    CHECK(*percentile_ns(at(11, 2), 0.5) == doctest::Approx(1536));  // half way through [1024, 2048)
    Buckets two = at(10, 99);
    two[20] = 1;
    CHECK(*percentile_ns(two, 0.99) == doctest::Approx(1024));
    CHECK(*percentile_ns(two, 0.995) > 524288);
    CHECK(*percentile_ns(two, 0.0) >= 512);
    CHECK(*percentile_ns(at(39, 3), 1.0) == doctest::Approx(549755813888.0));
}

TEST_CASE("percentiles of random latencies are right to a factor of two") {
    constexpr unsigned seed = 20261122;
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 50; ++round) {
        std::lognormal_distribution<double> latency(6 + round % 12, 1.5);
        std::vector<uint64_t> values(1 + random() % 500);
        Buckets buckets(bucket_count, 0);
        for (auto& value : values) {
            value = static_cast<uint64_t>(latency(random)) + 1;
            ++buckets[bucket_of(value)];
        }
        std::sort(values.begin(), values.end());
        for (const double fraction : {0.5, 0.9, 0.99}) {
            const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(values.size())));
            const auto exact = static_cast<double>(values[std::max<size_t>(rank, 1) - 1]);
            const double estimate = *percentile_ns(buckets, fraction);
            CHECK(estimate <= exact * 2.0001);
            CHECK(estimate >= exact / 2.0001);
        }
    }
}

TEST_CASE("counters that went back began again") {
    CHECK(counted_since(10, 4) == 6);
    CHECK(counted_since(3, 4) == 3);
    CHECK(counted_since(Buckets{5, 5}, Buckets{2}) == Buckets{3, 5});
    CHECK(sum(Buckets{1}, Buckets{2, 3}) == Buckets{3, 3});
}

TEST_CASE("the first reading counts since the process started, the next since the one before") {
    const Json first{
        {"name", "web1"},
        {"time_ns", 3'000'000'000},
        {"started_ns", 1'000'000'000},
        {"refused_opens", 1},
        {"operations", {operation("read", 100, 4096 * 100, 100'000, at(10, 100)), operation("write", 0, 0, 0, {})}}};
    const Json start = with_rates(first, Json());
    CHECK(flag_of(member(start, "rates"), "since_start"));
    CHECK(member(member(start, "rates"), "seconds").get<double>() == doctest::Approx(2));
    CHECK(member(find(start, "read"), "operations_per_second").get<double>() == doctest::Approx(50));
    CHECK(member(find(start, "read"), "bytes_per_second").get<double>() == doctest::Approx(204800));
    CHECK(number_of(find(start, "read"), "mean_ns") == 1000);
    CHECK(member(find(start, "write"), "mean_ns").is_null());
    CHECK(member(find(start, "write"), "p99_ns").is_null());

    Json second = first;
    second["time_ns"] = 3'500'000'000;
    second["refused_opens"] = 4;
    Buckets reads = at(10, 100);
    reads[12] = 10;
    second["operations"] = {operation("read", 110, 4096 * 100 + 8192, 130'000, reads),
                            operation("write", 5, 5120, 50'000, at(14, 5))};
    const Json delta = with_rates(second, first);
    CHECK_FALSE(flag_of(member(delta, "rates"), "since_start"));
    CHECK(number_of(member(delta, "rates"), "refused_opens") == 3);
    CHECK(member(find(delta, "read"), "operations_per_second").get<double>() == doctest::Approx(20));
    CHECK(number_of(find(delta, "read"), "mean_ns") == 3000);
    CHECK(number_of(find(delta, "read"), "p50_ns") >= 2048);
    CHECK(number_of(find(delta, "read"), "errors") == 0);
    CHECK(number_of(find(delta, "all"), "operations") == 15);
    CHECK(number_of(find(delta, "all"), "bytes") == 8192 + 5120);
    CHECK(number_of(find(delta, "all"), "mean_ns") == 80'000 / 15);

    Json restarted = first;
    restarted["started_ns"] = 3'600'000'000;
    restarted["time_ns"] = 3'700'000'000;
    CHECK(flag_of(member(with_rates(restarted, second), "rates"), "since_start"));
    CHECK(member(find(with_rates(restarted, second), "read"), "operations_per_second").get<double>() ==
          doctest::Approx(1000));
}

TEST_CASE("two readings at one instant give no rates, not infinity") {
    const Json stat{
        {"name", "a"}, {"time_ns", 5}, {"started_ns", 5}, {"operations", {operation("read", 3, 3, 3, at(1, 3))}}};
    CHECK(member(find(with_rates(stat, Json()), "read"), "operations_per_second").get<double>() == 0);
}
