#pragma once
// JSON text to values and back, for foreign text: bounded nesting, no duplicate members, well-formed UTF-8.
// Pure.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace storctl::control {

using Json = nlohmann::json;

struct JsonLimits {
    size_t max_depth = 64;        ///< of arrays and objects in each other
    bool nul_in_strings = false;  ///< "\u0000" is JSON, and cuts a C string short
};

/// bad_message, with the sentence that says what is wrong and where.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits);
/// One message as it goes on the wire, with its NUL. Bytes that are not UTF-8 become U+FFFD.
std::string to_wire(const Json& message);

}  // namespace storctl::control
