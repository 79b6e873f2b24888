#include "tests/lab/sg_client/report.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace storctl::sg_client {
namespace {

std::atomic<unsigned> wrong = 0;

}  // namespace

void report(std::string_view name, std::string_view result) {
    fmt::print("{}: {}\n", name, result);
    std::fflush(stdout);  // a child that is killed has said what it said
}

void expect(std::string_view name, std::string_view result, std::initializer_list<std::string_view> wanted) {
    if (std::find(wanted.begin(), wanted.end(), result) != wanted.end()) return report(name, result);
    ++wrong;
    report(name, fmt::format("{} WRONG, wanted {}", result, fmt::join(wanted, " or ")));
}

void expect(std::string_view name, std::string_view result, std::string_view wanted) { expect(name, result, {wanted}); }

unsigned wrong_results() { return wrong; }

std::string outcome(long result) {
    if (result >= 0) return std::to_string(result);
    const char* name = strerrorname_np(static_cast<int>(-result));
    return name != nullptr ? name : fmt::format("errno {}", -result);
}

void give_up(std::string_view what, long result) {
    report("FAILED", fmt::format("{}: {}", what, outcome(result)));
    std::exit(1);
}

}  // namespace storctl::sg_client
