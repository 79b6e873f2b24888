#include "cli/table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace storctl::cli {
namespace {

constexpr size_t gap_columns = 2;
constexpr size_t narrowest_cut = 8;

std::string to_upper(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    return out;
}

std::string all_column_names(std::span<const Column> all) {
    std::vector<std::string> names;
    for (const Column& column : all) names.emplace_back(column.name);
    return join(names, ", ");
}

size_t total_width(const std::vector<size_t>& widths) {
    size_t total = 0;
    for (const size_t width : widths) total += width + gap_columns;
    return total < gap_columns ? 0 : total - gap_columns;
}

/// Takes from the widest left-aligned column until the table fits or nothing more can be taken.
void shrink_to(const Columns& columns, std::vector<size_t>& widths, size_t available) {
    while (total_width(widths) > available) {
        size_t widest = columns.size();
        for (size_t i = 0; i < columns.size(); ++i) {
            const size_t floor = std::max(narrowest_cut, columns[i]->name.size());
            if (columns[i]->align != Align::left || columns[i]->whole || widths[i] <= floor) continue;
            if (widest == columns.size() || widths[i] > widths[widest]) widest = i;
        }
        if (widest == columns.size()) return;
        --widths[widest];
    }
}

std::string pad(const Cell& cell, size_t width, Align align, bool last, bool colour) {
    const std::string text = cut(cell.text, width);
    const size_t fill = width - display_width(text);
    const std::string shown = styled(text, cell.style, colour);
    if (align == Align::right) return std::string(fill, ' ') + shown;
    return last ? shown : shown + std::string(fill, ' ');
}

}  // namespace

Result<Columns> select_columns(std::span<const Column> all, std::string_view request) {
    Columns chosen;
    const bool append = request.starts_with('+');
    if (request.empty() || append) {
        for (const Column& column : all) {
            if (column.by_default) chosen.push_back(&column);
        }
        if (request.empty()) return chosen;
        request.remove_prefix(1);
    }
    const auto names = split(request, ',');
    for (const auto& name : names) {
        const std::string wanted = to_upper(trim(name));
        const auto found = std::find_if(all.begin(), all.end(), [&](const Column& c) { return c.name == wanted; });
        if (found == all.end()) {
            return make_error(std::errc::invalid_argument, fmt::format("no column '{}'; the columns are {}",
                                                                       printable(trim(name)), all_column_names(all)));
        }
        if (!append || std::find(chosen.begin(), chosen.end(), &*found) == chosen.end()) chosen.push_back(&*found);
    }
    if (names.empty()) {
        return make_error(std::errc::invalid_argument,
                          fmt::format("-o names no column; the columns are {}", all_column_names(all)));
    }
    return chosen;
}

std::string layout_table(const Columns& columns, std::vector<std::vector<Cell>> cells, const TableFormat& format) {
    if (format.headings) {
        std::vector<Cell> heading;
        for (const Column* column : columns) heading.push_back({std::string(column->name), Style::heading});
        cells.insert(cells.begin(), std::move(heading));
    }
    std::vector<size_t> widths(columns.size(), 0);
    for (auto& row : cells) {
        for (size_t i = 0; i < columns.size(); ++i) {
            row[i].text = row[i].text.empty() ? "-" : printable(row[i].text);
            widths[i] = std::max(widths[i], display_width(row[i].text));
        }
    }
    if (format.screen.columns) shrink_to(columns, widths, *format.screen.columns);
    std::string out;
    for (const auto& row : cells) {
        for (size_t i = 0; i < columns.size(); ++i) {
            const bool last = i + 1 == columns.size();
            out += pad(row[i], widths[i], columns[i]->align, last, format.screen.colour);
            if (!last) out += std::string(gap_columns, ' ');
        }
        out += '\n';
    }
    return out;
}

std::string format_table(const Columns& columns, const std::vector<nlohmann::json>& rows, const TableFormat& format) {
    std::vector<std::vector<Cell>> cells;
    cells.reserve(rows.size());
    for (const auto& row : rows) {
        auto& line = cells.emplace_back();
        for (const Column* column : columns) line.push_back(column->value(row, format.values));
    }
    return layout_table(columns, std::move(cells), format);
}

std::string format_properties(const std::vector<Property>& properties, const Screen& screen) {
    size_t width = 0;
    for (const auto& property : properties) width = std::max(width, display_width(property.key));
    std::string out;
    for (const auto& property : properties) {
        // an empty key continues the value above
        const std::string key = property.key.empty() ? "" : property.key + ":";
        const std::string value = property.value.text.empty() ? "-" : printable(property.value.text);
        out += fmt::format("{}{}{}\n", styled(key, Style::heading, screen.colour),
                           std::string(width + 2 - display_width(key), ' '),
                           styled(value, property.value.style, screen.colour));
    }
    return out;
}

}  // namespace storctl::cli
