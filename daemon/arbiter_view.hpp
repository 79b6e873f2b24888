#pragma once
// What the arbiter knows in the form of io.storctl.Arbiter. Pure; strings that devices give are made fit to be shown.

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "usbarb/arbiter.hpp"
#include "usbarb/rules.hpp"

namespace storctl {

nlohmann::json to_json(const usbarb::ClaimRecord& claim);  ///< ClaimEntry
nlohmann::json to_json(const usbarb::Blocker& blocker);
nlohmann::json to_json(const usbarb::Use& use);
nlohmann::json to_json(const usbarb::Rule& rule);
nlohmann::json to_json(const usbarb::Arbiter::DeviceView& view);      ///< UsbDevice
nlohmann::json to_json(const usbarb::Arbiter::ControllerView& view);  ///< Controller

/// Arrays of the above.
nlohmann::json blockers_json(const std::vector<usbarb::Blocker>& blockers);
nlohmann::json claims_json(const std::vector<usbarb::ClaimRecord>& claims);
/// All of Inventory's answer.
nlohmann::json inventory_json(const usbarb::Arbiter& arbiter);
/// What state.json says of each device that is there: enough to find it, and who has it.
nlohmann::json devices_digest(const usbarb::Arbiter& arbiter);

/// "claim 12: 046d:c31c Logitech Keyboard (0000:00:14.0/2.1) for vm:web1: active": one line for logs and events.
std::string summary_of(const usbarb::ClaimRecord& claim);

}  // namespace storctl
