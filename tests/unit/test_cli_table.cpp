#include <array>

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "cli/fields.hpp"
#include "cli/table.hpp"

using namespace storctl::cli;

namespace {

constexpr auto columns = std::to_array<Column>({
    {"NAME", Align::left, true, "", [](const Json& row, const ValueFormat&) { return Cell{text_of(row, "name")}; }},
    {"SIZE", Align::right, true, "",
     [](const Json& row, const ValueFormat& format) {
         const auto size = number_of(row, "size");
         return Cell{format.exact_bytes ? std::to_string(size) : std::to_string(size / 1024) + " KiB"};
     }},
    {"STATE", Align::left, true, "",
     [](const Json& row, const ValueFormat&) {
         return Cell{text_of(row, "state"), Style::good};
     }},
    {"NOTE", Align::left, false, "", [](const Json& row, const ValueFormat&) { return Cell{text_of(row, "note")}; }},
});

std::vector<std::string> names(const Columns& chosen) {
    std::vector<std::string> out;
    for (const Column* column : chosen) out.emplace_back(column->name);
    return out;
}

const std::vector<Json> rows{{{"name", "sda"}, {"size", 2048}, {"state", "good"}, {"note", "a\nb"}},
                             {{"name", "a-long-name"}, {"size", 1048576}}};

std::string table(const char* request, TableFormat format = {}) {
    const auto chosen = select_columns(columns, request);
    REQUIRE(chosen);
    return format_table(*chosen, rows, format);
}

}  // namespace

TEST_CASE("columns are chosen by name, in the order asked for") {
    using Names = std::vector<std::string>;
    CHECK(names(*select_columns(columns, "")) == Names{"NAME", "SIZE", "STATE"});
    CHECK(names(*select_columns(columns, "STATE,NAME")) == Names{"STATE", "NAME"});
    CHECK(names(*select_columns(columns, "note, size")) == Names{"NOTE", "SIZE"});
    CHECK(names(*select_columns(columns, "+NOTE")) == Names{"NAME", "SIZE", "STATE", "NOTE"});
    CHECK(names(*select_columns(columns, "+NAME,NOTE")) == Names{"NAME", "SIZE", "STATE", "NOTE"});
    CHECK(names(*select_columns(columns, "NAME,NAME")) == Names{"NAME", "NAME"});
}

TEST_CASE("an unknown column is refused and all columns are named") {
    for (const char* request : {"COLOUR", "NAME,COLOUR", "+COLOUR", "NAME,,SIZE", "+", ","}) {
        CAPTURE(request);
        const auto chosen = select_columns(columns, request);
        REQUIRE_FALSE(chosen);
        CHECK(chosen.error().context.find("NAME, SIZE, STATE, NOTE") != std::string::npos);
    }
    CHECK(select_columns(columns, "NAME,COLOUR").error().context.find("'COLOUR'") != std::string::npos);
}

TEST_CASE("a table aligns by display width, and an empty cell can be counted") {
    CHECK(table("") ==
          "NAME             SIZE  STATE\n"
          "sda             2 KiB  good\n"
          "a-long-name  1024 KiB  -\n");
    CHECK(table("NAME,SIZE", {.values = {.exact_bytes = true}, .headings = false}) ==
          "sda             2048\n"
          "a-long-name  1048576\n");
    CHECK(table("NOTE", {.headings = false}) == "a\\x0ab\n-\n");
}

TEST_CASE("only a terminal's width cuts, and never the right-aligned columns") {
    CHECK(table("", {.headings = false, .screen = {.columns = 26}}) ==
          "sda            2 KiB  good\n"
          "a-long-na…  1024 KiB  -\n");
    CHECK(table("", {.headings = false, .screen = {.columns = 3}}) ==
          "sda          2 KiB  good\n"
          "a-long-…  1024 KiB  -\n");
    CHECK(table("NAME", {.headings = false, .screen = {.columns = 10}}) == "sda\na-long-na…\n");
}

TEST_CASE("colour surrounds the text and leaves the layout as it is") {
    const auto coloured = table("STATE,NAME", {.screen = {.colour = true}});
    CHECK(coloured ==
          "\x1b[1mSTATE\x1b[0m  \x1b[1mNAME\x1b[0m\n"
          "\x1b[32mgood\x1b[0m   sda\n"
          "\x1b[32m-\x1b[0m      a-long-name\n");
}

TEST_CASE("no rows leave the headings") {
    CHECK(format_table(*select_columns(columns, ""), {}, {}) == "NAME  SIZE  STATE\n");
    CHECK(format_table(*select_columns(columns, ""), {}, {.headings = false}) == "");
}

TEST_CASE("properties stand in two columns, and an empty key goes on with the value above") {
    CHECK(format_properties({{"id", {"naa6.6"}}, {"identifiers", {"one"}}, {"", {"two"}}, {"serial", {""}}}, {}) ==
          "id:          naa6.6\n"
          "identifiers: one\n"
          "             two\n"
          "serial:      -\n");
}

TEST_CASE("fields that are missing or of another type are empty, not an exception") {
    const Json object{{"text", "x"},    {"number", -4}, {"real", 1.5}, {"flag", true}, {"list", {"a", 1, nullptr, "b"}},
                      {"none", nullptr}};
    CHECK(text_of(object, "number") == "");
    CHECK(text_of(object, "missing") == "");
    CHECK(text_of(Json::array(), "text") == "");
    CHECK(number_of(object, "number") == 0);
    CHECK(number_of(object, "text") == 0);
    CHECK_FALSE(maybe_flag_of(object, "none"));
    CHECK(maybe_flag_of(object, "flag") == true);
    CHECK(texts_of(object, "list") == std::vector<std::string>{"a", "b"});
    CHECK(list_of(object, "text").empty());
    CHECK(to_line({{"bad", "\xff"}}) == "{\"bad\":\"\xef\xbf\xbd\"}");
}
