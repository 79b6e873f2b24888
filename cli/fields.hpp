#pragma once
// Reading stord's answers: a missing or mistyped member gives an empty value, never an exception. Pure; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace storctl::cli {

using Json = nlohmann::json;

/// The member, or null when there is none.
const Json& member(const Json& object, std::string_view key);
std::string text_of(const Json& object, std::string_view key);
/// Negative and missing numbers are 0.
uint64_t number_of(const Json& object, std::string_view key);
bool flag_of(const Json& object, std::string_view key);
/// none: null, missing or no boolean.
std::optional<bool> maybe_flag_of(const Json& object, std::string_view key);
/// The array's elements; empty when the member is no array.
const Json::array_t& list_of(const Json& object, std::string_view key);
/// An array of strings; other elements are left out.
std::vector<std::string> texts_of(const Json& object, std::string_view key);

/// One line; foreign bytes that are not UTF-8 become U+FFFD.
std::string to_line(const Json& value);
/// Indented, for people and diff; ends with a newline.
std::string to_document(const Json& value);

}  // namespace storctl::cli
