#pragma once
// enum <-> text from one constexpr table per enum: specialise EnumNames<E> with a `table` beside the enum.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace storctl {

template <class E>
struct EnumName {
    E value;
    std::string_view name;
};

template <class E>
struct EnumNames;  // static constexpr std::array<EnumName<E>, N> table

template <class E>
constexpr std::string_view to_text(E value) {
    for (const auto& row : EnumNames<E>::table) {
        if (row.value == value) return row.name;
    }
    return "?";
}

template <class E>
constexpr std::optional<E> from_text(std::string_view name) {
    for (const auto& row : EnumNames<E>::table) {
        if (row.name == name) return row.value;
    }
    return std::nullopt;
}

/// Every row's name leads back to its own value: for a static_assert beside each table.
template <class E>
constexpr bool round_trips() {
    for (const auto& row : EnumNames<E>::table) {
        if (from_text<E>(row.name) != row.value || to_text(row.value) != row.name) return false;
    }
    return true;
}

/// "yes, no or unknown": what a message says can be given.
template <class E>
std::string all_names() {
    std::string out;
    const auto& table = EnumNames<E>::table;
    for (size_t i = 0; i < table.size(); ++i) {
        if (i > 0) out += i + 1 == table.size() ? " or " : ", ";
        out += table[i].name;
    }
    return out;
}

}  // namespace storctl
