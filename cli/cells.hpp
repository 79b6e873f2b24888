#pragma once
// Cells of tables that show one member of a row as it is: columns_*.cpp name the member by a constant. Pure; any
// thread.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "cli/fields.hpp"
#include "cli/table.hpp"

namespace storctl::cli {

template <const char* key>
Cell text_cell(const Json& row, const ValueFormat&) {
    return {text_of(row, key)};
}

template <const char* key>
Cell number_cell(const Json& row, const ValueFormat&) {
    return {fmt::to_string(number_of(row, key))};
}

/// Empty where there is none.
template <const char* key>
Cell maybe_number_cell(const Json& row, const ValueFormat&) {
    return {member(row, key).is_number() ? fmt::to_string(number_of(row, key)) : ""};
}

template <const char* key>
Cell texts_cell(const Json& row, const ValueFormat&) {
    return {join(texts_of(row, key), ",")};
}

}  // namespace storctl::cli
