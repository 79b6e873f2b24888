#pragma once
// What to do about a decision of the arbiter, as command lines where there are some. Pure; any thread.

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace storctl::cli {

/// What was asked: "usb" or "pci", the name of the target as given, who it is for ("" for nobody in particular).
struct Question {
    std::string bus;
    std::string what;
    std::string holder;
};

/// `answer`: of io.storctl.Arbiter.Explain. `inventory`: of its Inventory, for what kind of use a blocker is and which
/// claim; without it the steps say less.
std::vector<std::string> next_steps(const Question& question, const nlohmann::json& answer,
                                    const nlohmann::json& inventory);

}  // namespace storctl::cli
