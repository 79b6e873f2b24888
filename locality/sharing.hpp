#pragma once
// The rule for a device's "shared clusterwide" flag. Pure. Three bases, the later beats the earlier: what the transport
// suggests (default), what all hosts of a cluster report (computed), what an administrator decided (admin).

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/enum_text.hpp"
#include "locality/identifier.hpp"
#include "locality/transport.hpp"

namespace storctl::locality {

enum class Basis { by_default, computed, admin };

struct Sharing {
    bool shared = false;
    Basis basis = Basis::by_default;
    std::string reason;
    std::vector<std::string> seen_by;
    std::vector<std::string> not_seen_by;
    std::optional<std::string> undecided;  ///< why no comparison of hosts is possible
    std::optional<std::string> author;
    std::optional<WallTime> time;
    bool operator==(const Sharing&) const = default;
};

/// What the rule looks at.
struct SharingCase {
    std::string host;  ///< this host's name
    Verdict verdict;
    std::optional<bool> boot;
    std::optional<std::string> conflict;
    Quality quality = Quality::none;
};

struct AdminDecision {
    bool shared = false;
    std::string reason;
    std::string author;
    WallTime time;
};

Sharing decide_sharing(const SharingCase& device, const std::optional<AdminDecision>& decision);

/// Why an administrator may not set this flag; nullopt: they may.
std::optional<std::string> sharing_refusal(const SharingCase& device, bool shared);

}  // namespace storctl::locality

namespace storctl {

template <>
struct EnumNames<locality::Basis> {
    using E = locality::Basis;
    static constexpr std::array<EnumName<E>, 3> table{
        {{E::by_default, "default"}, {E::computed, "computed"}, {E::admin, "admin"}}};
};
static_assert(round_trips<locality::Basis>());

}  // namespace storctl
