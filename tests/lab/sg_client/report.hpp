#pragma once
// What a run says: one line per case, "CASE: RESULT". What is not as it has to be says so in its line, and is counted
// for the exit status. Any thread.

#include <initializer_list>
#include <string>
#include <string_view>

namespace storctl::sg_client {

void report(std::string_view name, std::string_view result);
/// `result` has to be one of `wanted`.
void expect(std::string_view name, std::string_view result, std::initializer_list<std::string_view> wanted);
void expect(std::string_view name, std::string_view result, std::string_view wanted);
unsigned wrong_results();

/// A result of 0 or more as it is, -errno by its name: "EBUSY".
std::string outcome(long result);

/// The run cannot go on: what was tried.
[[noreturn]] void give_up(std::string_view what, long result);

}  // namespace storctl::sg_client
