#pragma once
// Claims, blockers and holders of io.storctl.Arbiter as people read them. Pure; any thread.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/table.hpp"

namespace storctl::cli {

/// "#12"; empty for what was only observed.
std::string claim_number(const nlohmann::json& id);
Style claim_state_style(std::string_view state);

/// What is not as usual with a claim: "covered", "keep-drivers", "failed", … `entry`: type ClaimEntry.
std::vector<std::string> claim_notes(const nlohmann::json& entry);

/// "#12: device 0000:00:14.0/2.1 (0781:5581 SanDisk Ultra) for vm:web1"; `made` false: a dry run, no number.
std::string describe_claim(const nlohmann::json& entry, bool made);

/// "0000:00:14.0/2.1 (0781:5581 SanDisk Ultra) is held by vm:web1 since 2026-… (reason)". `blocker`: type Blocker.
std::string describe_blocker(const nlohmann::json& blocker);
std::vector<std::string> describe_blockers(const nlohmann::json& answer);

}  // namespace storctl::cli
