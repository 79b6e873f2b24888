#pragma once
// The interfaces that a server offers: descriptions with their handlers, looked up by a call's full method
// name. Of the server's thread.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "control/description.hpp"
#include "control/server.hpp"

namespace storctl::control {

struct Interface {
    Description description;
    std::map<std::string, Method, std::less<>> methods;
};

using InterfaceMap = std::map<std::string, std::shared_ptr<const Interface>, std::less<>>;

/// invalid_argument where description and methods do not agree, naming the method.
Result<std::shared_ptr<const Interface>> make_interface(std::string_view description, std::vector<Method> methods);

}  // namespace storctl::control
