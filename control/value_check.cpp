#include "control/value_check.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::control {
namespace {

using Json = nlohmann::json;
using Kind = Type::Kind;

constexpr size_t quoted_limit = 100;

std::string shown(std::string_view foreign) { return escape_unprintable(foreign.substr(0, quoted_limit)); }

std::string_view kind_of(const Json& value) {
    if (value.is_number_float()) return "float";
    if (value.is_number()) return "int";
    if (value.is_boolean()) return "bool";
    return value.type_name();
}

bool is_int64(const Json& value) {
    constexpr auto largest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= largest;
    return value.is_number_integer();
}

/// The path is built on the way back from a misfit, so that values that fit cost no strings.
class Checker {
 public:
    explicit Checker(const Description& description) : description_(description) {}

    std::optional<Misfit> check(const Type& type, const Json& value) const {
        if (value.is_null() && type.nullable) return std::nullopt;
        switch (type.kind) {
            case Kind::boolean:
                return expect(value.is_boolean(), "bool", value);
            case Kind::integer:
                return integer(value);
            case Kind::number:
                return expect(value.is_number(), "float", value);
            case Kind::string:
                return expect(value.is_string(), "string", value);
            case Kind::object:
                return expect(value.is_object(), "object", value);
            case Kind::array:
                return array(type, value);
            case Kind::dictionary:
                return dictionary(type, value);
            case Kind::structure:
                return structure(type, value);
            case Kind::enumeration:
                return enumeration(type, value);
            case Kind::named:
                return check(description_.types.find(type.name)->second, value);
        }
        return std::nullopt;
    }

 private:
    static std::optional<Misfit> expect(bool fits, std::string_view wanted, const Json& value) {
        if (fits) return std::nullopt;
        return Misfit{"", fmt::format("expected {}, got {}", wanted, kind_of(value))};
    }

    static std::optional<Misfit> integer(const Json& value) {
        if (value.is_number_integer() && !is_int64(value))
            return Misfit{"", "the number does not fit 64 bits with sign"};
        return expect(is_int64(value), "int", value);
    }

    static std::optional<Misfit> enumeration(const Type& type, const Json& value) {
        if (!value.is_string()) return expect(false, "string", value);
        const auto& text = value.get_ref<const std::string&>();
        if (std::find(type.values.begin(), type.values.end(), text) != type.values.end()) return std::nullopt;
        return Misfit{"", fmt::format("'{}' is none of {}", shown(text), join(type.values, ", "))};
    }

    std::optional<Misfit> array(const Type& type, const Json& value) const {
        if (!value.is_array()) return expect(false, "array", value);
        for (size_t i = 0; i < value.size(); ++i) {
            if (auto misfit = check(type.element.front(), value[i]))
                return at(std::move(*misfit), fmt::format("[{}]", i));
        }
        return std::nullopt;
    }

    std::optional<Misfit> dictionary(const Type& type, const Json& value) const {
        if (!value.is_object()) return expect(false, "object", value);
        for (const auto& [name, member] : value.items()) {
            if (auto misfit = check(type.element.front(), member)) return at(std::move(*misfit), "." + shown(name));
        }
        return std::nullopt;
    }

    std::optional<Misfit> structure(const Type& type, const Json& value) const {
        if (!value.is_object()) return expect(false, "object", value);
        size_t known = 0;
        for (const auto& field : type.fields) {
            const auto member = value.find(field.name);
            if (member == value.end()) {
                if (field.type.nullable) continue;
                return Misfit{"." + field.name, "is missing"};
            }
            ++known;
            if (auto misfit = check(field.type, *member)) return at(std::move(*misfit), "." + field.name);
        }
        if (known == value.size()) return std::nullopt;
        for (const auto& [name, member] : value.items()) {
            const auto same = [&name = name](const Field& field) { return field.name == name; };
            if (std::none_of(type.fields.begin(), type.fields.end(), same)) {
                return Misfit{"." + shown(name), "is not known here"};
            }
        }
        return std::nullopt;
    }

    static Misfit at(Misfit inner, std::string step) {
        inner.path.insert(0, step);
        return inner;
    }

    const Description& description_;
};

}  // namespace

std::string Misfit::parameter() const {
    const auto start = path.find('.');
    if (start == std::string::npos) return "";
    return path.substr(start + 1, path.find_first_of(".[", start + 1) - start - 1);
}

std::optional<Misfit> check_value(const Description& description, const Type& type, const nlohmann::json& value,
                                  std::string_view path) {
    auto misfit = Checker(description).check(type, value);
    if (misfit) misfit->path.insert(0, path);
    return misfit;
}

}  // namespace storctl::control
