// Interface descriptions and values against them.

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "control/description.hpp"
#include "control/interfaces.hpp"
#include "control/json_text.hpp"
#include "control/value_check.hpp"

using namespace storctl;
using namespace storctl::control;

TEST_CASE("our own descriptions parse") {
    struct Row {
        std::string_view text;
        std::string name;
        size_t types, methods, errors;
    };
    const std::vector<Row> rows{
        {io_storctl, "io.storctl", 5, 3, 3},
        {io_storctl_device, "io.storctl.Device", 4, 4, 4},
        {io_storctl_arbiter, "io.storctl.Arbiter", 9, 10, 6},
        {io_storctl_node, "io.storctl.Node", 9, 6, 7},
        {io_storctl_node_process, "io.storctl.NodeProcess", 6, 7, 3},
        {org_varlink_service, "org.varlink.service", 0, 2, 6},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto description = parse_description(row.text);
        REQUIRE_MESSAGE(description, description.error().message());
        CHECK(description->name == row.name);
        CHECK(description->text == row.text);
        CHECK(description->types.size() == row.types);
        CHECK(description->methods.size() == row.methods);
        CHECK(description->errors.size() == row.errors);
    }
}

TEST_CASE("every form of type") {
    const auto description = parse_description(R"(# a comment
interface org.example-site.every.x1  # another
type State (on, off)
type Empty()
type Everything (
  b: bool, i: int, f: float, s: string, o: object,
  n: ?int, list: []string, maybe_list: ?[]?int, map: [string]State, set: [string](),
  inner: (x: int, choice: (left, right)), other: ?Everything
)
method Do(e: Everything)->(e: Everything)
error Bad ()
)");
    REQUIRE_MESSAGE(description, description.error().message());
    using Kind = Type::Kind;
    CHECK(description->types.at("State").kind == Kind::enumeration);
    CHECK(description->types.at("State").values == std::vector<std::string>{"on", "off"});
    CHECK(description->types.at("Empty").kind == Kind::structure);
    const auto& fields = description->types.at("Everything").fields;
    const std::vector<Kind> kinds{Kind::boolean,    Kind::integer,    Kind::number,    Kind::string,
                                  Kind::object,     Kind::integer,    Kind::array,     Kind::array,
                                  Kind::dictionary, Kind::dictionary, Kind::structure, Kind::named};
    REQUIRE(fields.size() == kinds.size());
    for (size_t i = 0; i < kinds.size(); ++i) CHECK(fields[i].type.kind == kinds[i]);
    CHECK(fields[5].type.nullable);
    CHECK_FALSE(fields[6].type.nullable);
    CHECK(fields[7].type.nullable);
    CHECK(fields[7].type.element.front().nullable);
    CHECK(fields[8].type.element.front().name == "State");
    CHECK(fields[9].type.element.front().fields.empty());
    CHECK(fields[10].type.fields[1].type.kind == Kind::enumeration);
    CHECK(description->methods.at("Do").output.fields.front().type.name == "Everything");
}

TEST_CASE("descriptions that are refused, and where") {
    struct Row {
        const char* name;
        std::string text;
        std::string reason;
    };
    std::string nested = "interface a.b\ntype T (x: ";
    for (int i = 0; i < 100000; ++i) nested += "[]";
    std::string parentheses = "interface a.b\ntype T ";
    for (int i = 0; i < 100000; ++i) parentheses += "(x: ";
    const std::vector<Row> rows{
        {"nothing", "", "line 1: expected 'interface', not the end"},
        {"only a comment", "# x\n", "line 2: expected 'interface', not the end"},
        {"another first word", "method X() -> ()", "line 1: expected 'interface', not 'method'"},
        {"a name without dot", "interface storctl",
         "line 1: expected an interface name such as 'org.example.ftl', not 'storctl'"},
        {"a name ending in a dot", "interface io.", "not 'io.'"},
        {"a name beginning with a digit", "interface 1a.b", "not '1a.b'"},
        {"a name part ending in a dash", "interface a-.b", "not 'a-.b'"},
        {"an unknown member", "interface a.b\n\nstruct X ()",
         "line 3: expected 'type', 'method' or 'error', not 'struct'"},
        {"a small first letter", "interface a.b\ntype x ()",
         "line 2: expected the type's name, beginning with a capital, not 'x'"},
        {"a name with an underscore", "interface a.b\ntype A_b ()", "not 'A_b'"},
        {"a method without answer", "interface a.b\nmethod X()", "line 2: expected '->', not the end"},
        {"a method of an enumeration", "interface a.b\nmethod X(a, b) -> ()", "method 'X' wants fields with types"},
        {"an answer of an enumeration", "interface a.b\nmethod X() -> (a)", "method 'X' wants fields with types"},
        {"an error of an enumeration", "interface a.b\nerror X (a, b)", "error 'X' wants fields with types"},
        {"an unknown type", "interface a.b\ntype X (\n a: Y\n)\n", "line 3: type 'Y' is not defined"},
        {"a misspelt type", "interface a.b\ntype X (a: integer)", "line 2: expected a type, not 'integer'"},
        {"a field twice", "interface a.b\ntype X (a: int, a: int)", "'a' is there twice"},
        {"an enumeration's value twice", "interface a.b\ntype X (a, a)", "'a' is there twice"},
        {"a type twice", "interface a.b\ntype X ()\ntype X ()", "line 3: 'X' is defined twice"},
        {"a type and an error of one name", "interface a.b\ntype X ()\nerror X ()", "line 3: 'X' is defined twice"},
        {"fields with and without type", "interface a.b\ntype X (a: int, b)", "expected ':' after 'b'"},
        {"values with and without type", "interface a.b\ntype X (a, b: int)", "expected ':' after 'b'"},
        {"a missing comma", "interface a.b\ntype X (a: int b: int)", "expected ',', not 'b'"},
        {"a trailing comma", "interface a.b\ntype X (a: int,)", "expected a field's name, not ')'"},
        {"a field's name ending in an underscore", "interface a.b\ntype X (a_: int)", "not 'a_'"},
        {"a field's name with two underscores", "interface a.b\ntype X (a__b: int)", "not 'a__b'"},
        {"two question marks", "interface a.b\ntype X (a: ??int)", "'?' twice"},
        {"a map of another key", "interface a.b\ntype X (a: [int]int)", "expected 'string', not 'int'"},
        {"an unclosed map", "interface a.b\ntype X (a: [string int)", "expected ']', not 'i'"},
        {"an unclosed structure", "interface a.b\ntype X (a: int", "expected ',', not the end"},
        {"a NUL", std::string("interface a.b\n\0", 15), "not '\\x00'"},
        {"types nested without end", nested, "line 2: types nested deeper than 32 levels"},
        {"parentheses nested without end", parentheses, "line 2: types nested deeper than 32 levels"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.name);
        const auto description = parse_description(row.text);
        REQUIRE_FALSE(description);
        CHECK(description.error().code == std::errc::invalid_argument);
        CHECK_MESSAGE(description.error().context.find(row.reason) != std::string::npos, description.error().context);
    }
}

TEST_CASE("values against types") {
    struct Row {
        std::string type;
        std::string value;
        std::string misfit;  ///< empty: it fits
    };
    const std::vector<Row> rows{
        {"bool", "true", ""},
        {"bool", "1", "v.x: expected bool, got int"},
        {"bool", "\"true\"", "v.x: expected bool, got string"},
        {"int", "-9223372036854775808", ""},
        {"int", "9223372036854775807", ""},
        {"int", "9223372036854775808", "v.x: the number does not fit 64 bits with sign"},
        {"int", "18446744073709551615", "v.x: the number does not fit 64 bits with sign"},
        {"int", "1e30", "v.x: expected int, got float"},
        {"int", "1.0", "v.x: expected int, got float"},
        {"int", "true", "v.x: expected int, got bool"},
        {"int", "null", "v.x: expected int, got null"},
        {"?int", "null", ""},
        {"?int", "7", ""},
        {"?int", "\"7\"", "v.x: expected int, got string"},
        {"float", "1.5", ""},
        {"float", "1", ""},
        {"float", "\"1\"", "v.x: expected float, got string"},
        {"string", "\"\"", ""},
        {"string", "[]", "v.x: expected string, got array"},
        {"object", "{\"any\": [1, null]}", ""},
        {"object", "[]", "v.x: expected object, got array"},
        {"object", "null", "v.x: expected object, got null"},
        {"?object", "null", ""},
        {"[]string", "[]", ""},
        {"[]string", "[\"a\", \"b\"]", ""},
        {"[]string", "[\"a\", 2]", "v.x[1]: expected string, got int"},
        {"[]string", "{}", "v.x: expected array, got object"},
        {"[]string", "null", "v.x: expected array, got null"},
        {"[]?string", "[null, \"a\"]", ""},
        {"[][]int", "[[1], [2, [3]]]", "v.x[1][1]: expected int, got array"},
        {"[string]int", "{\"a\": 1, \"b\": 2}", ""},
        {"[string]int", "{\"a\": 1, \"b\": \"2\"}", "v.x.b: expected int, got string"},
        {"[string]int", "[1]", "v.x: expected object, got array"},
        {"[string]()", "{\"a\": {}}", ""},
        {"[string]()", "{\"a\": {\"b\": 1}}", "v.x.a.b: is not known here"},
        {"Color", "\"red\"", ""},
        {"Color", "\"blue\"", "v.x: 'blue' is none of red, green"},
        {"Color", "0", "v.x: expected string, got int"},
        {"Pair", "{\"a\": 1}", ""},
        {"Pair", "{\"a\": 1, \"b\": null}", ""},
        {"Pair", "{\"a\": 1, \"b\": \"s\"}", ""},
        {"Pair", "{\"b\": \"s\"}", "v.x.a: is missing"},
        {"Pair", "{\"a\": null}", "v.x.a: expected int, got null"},
        {"Pair", "{\"a\": 1, \"c\": 1}", "v.x.c: is not known here"},
        {"Pair", "{\"a\": 1, \"\\u00e9\": 1}", "v.x.\\xc3\\xa9: is not known here"},
        {"Pair", "\"s\"", "v.x: expected object, got string"},
        {"Tree", "{\"children\": [{\"children\": []}, {}]}", "v.x.children[1].children: is missing"},
        {"Tree", "{\"children\": [{\"children\": []}]}", ""},
    };
    for (const auto& row : rows) {
        CAPTURE(row.type);
        CAPTURE(row.value);
        const auto description = parse_description(
            "interface a.b\ntype Color (red, green)\ntype Pair (a: int, b: ?string)\n"
            "type Tree (children: []Tree)\ntype T (x: " +
            row.type + ")");
        REQUIRE(description);
        const Json value{{"x", Json::parse(row.value)}};
        const auto misfit = check_value(*description, description->types.at("T"), value, "v");
        CHECK((misfit ? misfit->message() : "") == row.misfit);
        if (misfit) CHECK(misfit->parameter() == "x");
    }
}

TEST_CASE("a misfit knows the parameter's name") {
    CHECK(Misfit{"parameters", "expected object, got int"}.parameter().empty());
    CHECK(Misfit{"parameters.name", ""}.parameter() == "name");
    CHECK(Misfit{"parameters.name[3].x", ""}.parameter() == "name");
    CHECK(Misfit{"parameters.name.x[1]", ""}.parameter() == "name");
}
