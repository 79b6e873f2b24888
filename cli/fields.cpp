#include "cli/fields.hpp"

namespace storctl::cli {

const Json& member(const Json& object, std::string_view key) {
    static const Json null;
    if (!object.is_object()) return null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
}

std::string text_of(const Json& object, std::string_view key) {
    const Json& value = member(object, key);
    return value.is_string() ? value.get_ref<const std::string&>() : std::string();
}

uint64_t number_of(const Json& object, std::string_view key) {
    const Json& value = member(object, key);
    if (value.is_number_unsigned()) return value.get<uint64_t>();
    if (value.is_number_integer()) return static_cast<uint64_t>(std::max<int64_t>(value.get<int64_t>(), 0));
    return 0;
}

bool flag_of(const Json& object, std::string_view key) { return maybe_flag_of(object, key).value_or(false); }

std::optional<bool> maybe_flag_of(const Json& object, std::string_view key) {
    const Json& value = member(object, key);
    return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
}

const Json::array_t& list_of(const Json& object, std::string_view key) {
    static const Json::array_t empty;
    const Json& value = member(object, key);
    return value.is_array() ? value.get_ref<const Json::array_t&>() : empty;
}

std::vector<std::string> texts_of(const Json& object, std::string_view key) {
    std::vector<std::string> out;
    for (const Json& element : list_of(object, key)) {
        if (element.is_string()) out.push_back(element.get_ref<const std::string&>());
    }
    return out;
}

std::string to_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string to_document(const Json& value) { return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace storctl::cli
