#include "locality/name_order.hpp"

#include <algorithm>
#include <tuple>

namespace storctl::locality {
namespace {

/// Letters after "sd", "vd" count like digits: sdz before sdaa.
std::tuple<std::string, size_t, std::string> letters_key(const std::string& name) {
    const auto number = name.find_first_of("0123456789");
    std::string letters = name.substr(0, number);
    const size_t fixed =
        letters.ends_with("-") ? letters.size() : std::min<size_t>(letters.find('d') + 1, letters.size());
    const bool lettered = letters.size() > fixed && (letters.starts_with("sd") || letters.starts_with("vd") ||
                                                     letters.starts_with("hd") || letters.starts_with("xvd"));
    if (!lettered) return {letters, 0, ""};
    return {letters.substr(0, fixed), letters.size() - fixed, letters.substr(fixed)};
}

}  // namespace

bool name_before(const std::string& one, const std::string& other) {
    const auto one_key = letters_key(one), other_key = letters_key(other);
    if (one_key != other_key) return one_key < other_key;
    // then number by number
    size_t i = one.find_first_of("0123456789"), k = other.find_first_of("0123456789");
    while (i < one.size() && k < other.size()) {
        const auto digits = [](const std::string& text, size_t at) {
            return std::min(text.find_first_not_of("0123456789", at), text.size()) - at;
        };
        const size_t one_digits = digits(one, i), other_digits = digits(other, k);
        if (one_digits != other_digits) return one_digits < other_digits;
        const size_t step = std::max<size_t>(one_digits, 1);
        const int order = one.compare(i, step, other, k, step);
        if (order != 0) return order < 0;
        i += step;
        k += step;
    }
    return one.size() < other.size();
}

}  // namespace storctl::locality
