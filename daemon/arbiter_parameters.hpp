#pragma once
// Parameters of io.storctl.Arbiter's methods, checked as far as that can be done without knowing what is there. A check
// that fails has answered the call. Loop thread only.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "control/server.hpp"
#include "usbarb/rules.hpp"

namespace storctl {

/// A target as it was asked for.
struct WantedTarget {
    std::string bus;  ///< usb, pci
    std::string what;
    bool optional = false;
    bool is_pci() const { return bus == "pci"; }
};

/// Absent and null are the same in Varlink.
template <class T>
std::optional<T> optional_parameter(const nlohmann::json& parameters, const char* name) {
    const auto found = parameters.find(name);
    if (found == parameters.end() || found->is_null()) return std::nullopt;
    return found->get<T>();
}
bool flag_parameter(const nlohmann::json& parameters, const char* name);         ///< absent: false
std::string text_parameter(const nlohmann::json& parameters, const char* name);  ///< absent: empty

void answer_invalid(control::Call& call, const char* parameter, const std::string& value, const std::string& message);

std::optional<std::vector<WantedTarget>> wanted_targets(control::Call& call, const nlohmann::json& targets);
/// Holder, origin and reason of a claim; false: an error has been answered.
bool check_claim_texts(control::Call& call);
/// The parameter `holder`, where there is one.
bool check_holder_parameter(control::Call& call);
/// The parameter `interfaces`, where there is one: numbers that an open file can be restricted to.
bool check_interfaces(control::Call& call);
/// AddRule's, without what the service adds.
std::optional<usbarb::Rule> wanted_rule(control::Call& call);

}  // namespace storctl
