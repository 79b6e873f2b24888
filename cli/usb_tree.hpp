#pragma once
// What "usb tree" shows: controllers, hubs and devices with who has them and why. Pure; any thread.

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/tree.hpp"

namespace storctl::cli {

/// `inventory`: the answer of io.storctl.Arbiter.Inventory. One branch per USB controller. The halves of a USB 3 hub
/// are one branch; what a lost claim waits for has one, too.
std::vector<Branch> usb_branches(const nlohmann::json& inventory, const Screen& screen);

/// With headings; a sentence where there is no controller.
std::string format_usb_tree(const nlohmann::json& inventory, const Screen& screen);

}  // namespace storctl::cli
