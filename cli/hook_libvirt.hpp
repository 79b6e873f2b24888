#pragma once
// What "hook libvirt" does at which of libvirt's calls, and what it says. Pure; any thread.
//
// clang-format off
//   prepare begin                   claim, provisionally: the only call before libvirt moves drivers. Refusal: the domain
//                                   does not start.
//   start begin                     claim what libvirt has found meanwhile, give back what it did not take
//   started begin                   make the claims last
//   release end                     give all back; also called for a domain that was refused
//   reconnect begin, attach begin   claim what runs already
//   all others                      nothing
// clang-format on
//
// A failure at "reconnect" makes libvirt kill a running machine: only "prepare" and "start" ever fail.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "libvirt/domain_xml.hpp"

namespace storctl::cli {

using Json = nlohmann::json;

enum class HookStep { nothing, prepare, start, started, release, adopt };
HookStep hook_step(std::string_view operation, std::string_view sub_operation);

/// As io.storctl.Arbiter's Claim takes them; each device once. Those that libvirt runs without are left out.
Json targets_of(const std::vector<libvirt::HostDevice>& devices);

/// Ids of provisional claims that this holder has from libvirt and that are not among `kept`.
std::vector<uint64_t> left_over(const Json& claims, std::string_view holder, const Json& kept);

/// "USB device 046d:c31c (hostdev 1)"
std::string name_of(const libvirt::HostDevice& device);

/// One sentence of an arbiter's error for the administrator: which device, who holds it since when, what to do.
/// `device`: the one that it is about, where that is known.
std::string refusal(std::string_view holder, const libvirt::HostDevice* device, const std::string& error,
                    const Json& parameters);
/// Of the answer to a claim: empty, unless a hub is among what was claimed. QEMU would detach all that is below it.
std::string hub_refusal(std::string_view holder, const Json& claimed);
/// Of a domain that takes devices without saying which: `unclear` of libvirt::HostDevices, all of it in one line.
std::string unclear_devices(std::string_view guest, const std::vector<std::string>& unclear);
/// The same when nobody answered; `why`: what the connection had to say.
std::string no_answer(std::string_view guest, const std::vector<libvirt::HostDevice>& devices, std::string_view why);

}  // namespace storctl::cli
