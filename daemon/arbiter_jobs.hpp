#pragma once
// Which driver work a claim asks for, as jobs of stor-actuate, from what the arbiter knows. Reads the number of a root
// hub's ports from sysfs; otherwise pure.

#include <optional>
#include <string>
#include <vector>

#include "usbarb/actuation.hpp"
#include "usbarb/arbiter.hpp"
#include "usbarb/sysfs_usb.hpp"

namespace storctl {

/// Driver work for some claims at once, which comes about whole or not at all.
struct ClaimJob {
    std::vector<usbarb::ClaimId> claims;
    usbarb::Job job;
};

/// The jobs that bring about what these claims say, leaving out those that need nothing: drivers are the consumer's, or
/// an own hub's claim has done it. The functions of a request are one job, as an IOMMU group goes over as a whole.
std::vector<ClaimJob> jobs_to_bring_about(const usbarb::Arbiter& arbiter, const std::vector<usbarb::ClaimId>& claims,
                                          const usbarb::KernelPaths& paths);
/// The jobs that give back to the host what these claims took. Hub ports are given back by closing the held hubs,
/// before these run.
std::vector<ClaimJob> jobs_to_take_back(const usbarb::Arbiter& arbiter, const std::vector<usbarb::ClaimId>& claims);

/// Something that the claim wants off the host's drivers is on one: for claims that were brought about before.
bool differs(const usbarb::Arbiter& arbiter, const usbarb::ClaimRecord& claim);
/// What the host does below the claim's target, so that its drivers cannot be taken away; empty: nothing.
std::string host_use_below(const usbarb::Arbiter& arbiter, const usbarb::ClaimRecord& claim);

/// `hub` with the ports that have no hub in them.
usbarb::HubPorts ports_to_hold(const usbarb::DeviceFacts& hub, const std::vector<const usbarb::DeviceFacts*>& below);
/// The last number of a kernel name: "1-2.4" is in port 4, "1-2" in port 2.
uint8_t port_of(const std::string& kernel_name);
/// "1-2" of "1-2.4"; "usb1" of "1-2".
std::string hub_name_of(const std::string& kernel_name);

/// The node of a bus' own hub.
std::string root_hub_node(uint16_t bus);

}  // namespace storctl
