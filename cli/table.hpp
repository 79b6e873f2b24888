#pragma once
// Tables: columns that a user picks with -o, and their layout. Pure; any thread.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "cli/display.hpp"
#include "cli/output.hpp"

namespace storctl::cli {

struct Cell {
    std::string text;
    Style style = Style::plain;
};

/// How values are written, by the command's options.
struct ValueFormat {
    bool exact_bytes = false;  ///< --bytes: whole numbers instead of "1.5 GiB"
};

enum class Align { left, right };

/// One column of an object's list. `value` gives the cell of a row, which is an object as stord describes it.
struct Column {
    std::string_view name;  ///< as in the heading and after -o: capitals
    Align align = Align::left;
    bool by_default = false;
    std::string_view help;
    Cell (*value)(const nlohmann::json& row, const ValueFormat& format) = nullptr;
    bool whole = false;  ///< what one types again: never cut
};

using Columns = std::vector<const Column*>;

/// What `-o request` picks: names in any case, separated by commas, in that order; a leading + appends to the default
/// set. Empty request: the default set. An unknown name is an error that lists all.
Result<Columns> select_columns(std::span<const Column> all, std::string_view request);

struct TableFormat {
    ValueFormat values;
    bool headings = true;
    Screen screen;
};

/// Rows as lines. Cells are made printable and an empty one is "-", so that columns can be counted. Only a terminal's
/// width cuts: the widest left-aligned columns first.
std::string format_table(const Columns& columns, const std::vector<nlohmann::json>& rows, const TableFormat& format);

/// Layout alone, for cells that are there already.
std::string layout_table(const Columns& columns, std::vector<std::vector<Cell>> cells, const TableFormat& format);

/// "key: value" lines with the values in one column.
struct Property {
    std::string key;
    Cell value;
};
std::string format_properties(const std::vector<Property>& properties, const Screen& screen);

}  // namespace storctl::cli
