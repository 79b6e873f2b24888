#include "base/result.hpp"

namespace storctl {

std::string Error::message() const {
    if (code == std::errc{}) return context;
    const std::string meaning = std::generic_category().message(value());
    return context.empty() ? meaning : context + ": " + meaning;
}

}  // namespace storctl
