#include "control/registry.hpp"

#include <fmt/format.h>

namespace storctl::control {

Result<std::shared_ptr<const Interface>> make_interface(std::string_view description, std::vector<Method> methods) {
    auto out = std::make_shared<Interface>();
    out->description = TRY(parse_description(description));
    const auto disagree = [&](std::string_view method, std::string_view what) {
        return make_error(std::errc::invalid_argument, fmt::format("{}.{} {}", out->description.name, method, what));
    };
    for (auto& method : methods) {
        std::string name = method.name;
        if (!out->description.methods.contains(name)) return disagree(name, "is not described");
        if (!out->methods.emplace(name, std::move(method)).second) return disagree(name, "is given twice");
    }
    for (const auto& [name, described] : out->description.methods) {
        if (!out->methods.contains(name)) return disagree(name, "is described and not given");
    }
    return std::shared_ptr<const Interface>(std::move(out));
}

}  // namespace storctl::control
