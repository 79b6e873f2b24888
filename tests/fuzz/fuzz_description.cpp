// An interface description, and values made to fit and not to fit its types.

#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "control/description.hpp"
#include "control/value_check.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace storctl;
using namespace storctl::control;
using nlohmann::json;
using Kind = Type::Kind;

constexpr size_t max_input_bytes = 8192;
constexpr int max_depth = 24;
constexpr int max_values = 2000;

/// A value of the type; nothing when it would be too deep or large, as for a type that contains itself.
class Sampler {
 public:
    explicit Sampler(const Description& description) : description_(description) {}

    std::optional<json> sample(const Type& type, int depth = 0) {
        if (depth > max_depth || ++values_ > max_values) return std::nullopt;
        if (type.nullable && values_ % 2 == 0) return json();
        switch (type.kind) {
            case Kind::boolean:
                return json(true);
            case Kind::integer:
                return json(-1);
            case Kind::number:
                return json(0.5);
            case Kind::string:
                return json("");
            case Kind::object:
                return json::object();
            case Kind::enumeration:
                return json(type.values.front());
            case Kind::named:
                return sample(description_.types.find(type.name)->second, depth + 1);
            case Kind::array: {
                auto element = sample(type.element.front(), depth + 1);
                return element ? std::optional(json::array({*element})) : std::nullopt;
            }
            case Kind::dictionary: {
                auto element = sample(type.element.front(), depth + 1);
                return element ? std::optional(json{{"key", *element}}) : std::nullopt;
            }
            case Kind::structure:
                break;
        }
        json out = json::object();
        for (const auto& field : type.fields) {
            auto member = sample(field.type, depth + 1);
            if (!member) return std::nullopt;
            out[field.name] = std::move(*member);
        }
        return out;
    }

 private:
    const Description& description_;
    int values_ = 0;
};

void check_type(const Description& description, const Type& type) {
    auto fitting = Sampler(description).sample(type);
    if (!fitting) return;
    const auto misfit = check_value(description, type, *fitting);
    FUZZ_CHECK(!misfit);
    if (type.kind != Kind::structure) return;
    for (const auto& field : type.fields) {
        json without = *fitting;
        without.erase(field.name);
        const auto missing = check_value(description, type, without);
        FUZZ_CHECK(field.type.nullable || (missing && missing->parameter() == field.name));
    }
    (*fitting)["not_a_field__"] = 1;
    const auto unknown = check_value(description, type, *fitting);
    FUZZ_CHECK(unknown && unknown->path == "parameters.not_a_field__");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size > max_input_bytes) return 0;
    const auto description = parse_description({reinterpret_cast<const char*>(data), size});
    if (!description) {
        const auto& error = description.error();
        FUZZ_CHECK(error.code == std::errc::invalid_argument && error.context.starts_with("line "));
        FUZZ_CHECK(valid_utf8(error.context) || !valid_utf8({reinterpret_cast<const char*>(data), size}));
        return 0;
    }
    for (const auto& [name, type] : description->types) check_type(*description, type);
    for (const auto& [name, type] : description->errors) check_type(*description, type);
    for (const auto& [name, method] : description->methods) {
        check_type(*description, method.input);
        check_type(*description, method.output);
    }
    return 0;
}
