#pragma once
// An interface description (https://varlink.org/Interface-Definition) as values, and its parser. Pure; a
// parsed description never changes, so any thread may read it.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace storctl::control {

struct Field;

struct Type {
    enum class Kind { boolean, integer, number, string, object, array, dictionary, structure, enumeration, named };
    Kind kind = Kind::structure;
    bool nullable = false;
    std::vector<Type> element;        ///< array, dictionary: exactly one
    std::vector<Field> fields;        ///< structure
    std::vector<std::string> values;  ///< enumeration
    std::string name;                 ///< named: a key of Description::types
};

struct Field {
    std::string name;
    Type type;
};

struct MethodDescription {
    Type input;
    Type output;
};

struct Description {
    std::string name;  ///< "io.storctl.Device"
    std::string text;  ///< as it was given
    std::map<std::string, Type, std::less<>> types;
    std::map<std::string, MethodDescription, std::less<>> methods;
    std::map<std::string, Type, std::less<>> errors;
};

/// invalid_argument with the line: "line 12: expected ':' after 'name'".
Result<Description> parse_description(std::string_view text);

}  // namespace storctl::control
