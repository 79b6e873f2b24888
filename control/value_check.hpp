#pragma once
// Does a JSON value fit a described type? Pure.

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "control/description.hpp"

namespace storctl::control {

struct Misfit {
    std::string path;     ///< "parameters.backing.size_bytes", "parameters.forms[2]"
    std::string problem;  ///< "expected int, got string"

    std::string message() const { return path + ": " + problem; }
    /// The parameter's own name, the first step of the path; empty when the parameters as a whole are wrong.
    std::string parameter() const;
};

/// The first misfit, if any. Members that the type does not name do not fit; null is the same as absent where
/// the type is nullable. `path` names the value in messages.
std::optional<Misfit> check_value(const Description& description, const Type& type, const nlohmann::json& value,
                                  std::string_view path = "parameters");

}  // namespace storctl::control
