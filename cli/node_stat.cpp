// storctl node stat: counters once, or as rates at an interval like iostat(1).
#include <cerrno>
#include <charconv>
#include <map>

#include <fmt/format.h>
#include <time.h>

#include "base/text.hpp"
#include "cli/commands.hpp"
#include "cli/connection.hpp"
#include "cli/fields.hpp"
#include "cli/rates.hpp"
#include "cli/verbs.hpp"

namespace storctl::cli {
namespace {

constexpr double shortest_interval_seconds = 0.1;
constexpr double longest_interval_seconds = 86400;

struct Request {
    std::optional<std::string> node;
    std::optional<double> interval_seconds;
    std::optional<uint64_t> count;
};

std::optional<double> parse_interval(const std::string& text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
    return value;
}

bool node_exists(Connection& stord, const std::string& name) {
    return stord.try_call("io.storctl.Node.Show", {{"name", name}}).has_value();
}

/// "stat 5" is every five seconds, unless a node is called 5.
Result<Request> read_request(const Invocation& invocation, Connection& stord) {
    std::vector<std::string> words;
    for (const char* name : {"NAME", "INTERVAL", "COUNT"}) {
        if (invocation.has(name)) words.push_back(invocation.value(name));
    }
    Request request;
    if (!words.empty() && (!parse_interval(words[0]) || node_exists(stord, words[0]))) {
        request.node = words[0];
        words.erase(words.begin());
    }
    if (!words.empty()) {
        request.interval_seconds = parse_interval(words[0]);
        if (!request.interval_seconds || *request.interval_seconds < shortest_interval_seconds ||
            *request.interval_seconds > longest_interval_seconds) {
            return make_error(std::errc::invalid_argument,
                              fmt::format("the interval '{}' is no number of seconds from {} to {}", words[0],
                                          shortest_interval_seconds, longest_interval_seconds));
        }
    }
    if (words.size() > 1) {
        const uint64_t count = TRY(parse_unsigned(words[1], "the count"));
        if (count == 0) return make_error(std::errc::invalid_argument, "the count must be 1 or more");
        request.count = count;
    }
    if (words.size() > 2) {
        return make_error(std::errc::invalid_argument, fmt::format("'{}' is one argument too many", words[2]));
    }
    return request;
}

/// Ticks that do not drift with the time that a sample takes.
class Ticker {
 public:
    explicit Ticker(double seconds) : step_ns_(static_cast<int64_t>(seconds * 1e9)) {
        ::clock_gettime(CLOCK_MONOTONIC, &next_);
    }
    void wait() {
        const int64_t ns = next_.tv_nsec + step_ns_;
        next_.tv_sec += ns / 1'000'000'000;
        next_.tv_nsec = ns % 1'000'000'000;
        while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next_, nullptr) == EINTR) {
        }
    }

 private:
    int64_t step_ns_;
    timespec next_{};
};

/// Each node's last reading, for the deltas.
class Sampler {
 public:
    Json::array_t add_rates(const Json& answer) {
        Json::array_t rows;
        std::map<std::string, Json> latest;
        for (const Json& stat : list_of(answer, "stats")) {
            const std::string name = text_of(stat, "name");
            const auto before = last_.find(name);
            rows.push_back(with_rates(stat, before == last_.end() ? Json() : before->second));
            latest[name] = stat;
        }
        last_ = std::move(latest);
        return rows;
    }

 private:
    std::map<std::string, Json> last_;
};

}  // namespace

Exit node_stat(const Invocation& invocation) {
    Connection stord(invocation.run_dir());
    const auto request = read_request(invocation, stord);
    if (!request) {
        report(request.error().context);
        return Exit::usage;
    }
    const auto columns = select_columns(node_stat_columns(), invocation.value("output"));
    TableFormat format = invocation.table_format();
    const bool once = !request->interval_seconds, json = invocation.has("json");
    Json parameters = Json::object();
    if (request->node) parameters["name"] = *request->node;
    Ticker ticker(request->interval_seconds.value_or(0));
    Sampler sampler;
    for (uint64_t sample = 0; !request->count || sample < *request->count; ++sample) {
        if (sample > 0) ticker.wait();
        const auto answer = stord.call("io.storctl.Node.Stat", parameters);
        if (!answer) return stord.exit();
        const auto rows = sampler.add_rates(*answer);
        if (json) {
            const Json document{{"version", 1}, {"stats", rows}};
            put(once ? to_document(document) : to_line(document) + "\n");
        } else {
            put((sample > 0 && format.headings ? "\n" : "") + format_table(*columns, rows, format));
        }
        if (once) return Exit::done;
    }
    return Exit::done;
}

}  // namespace storctl::cli
