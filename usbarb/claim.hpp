#pragma once
// Claims, and what decisions about them say. Plain values: what is stored, shown and asked.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/enum_text.hpp"
#include "usbarb/facts.hpp"
#include "usbarb/socket.hpp"

namespace storctl::usbarb {

using ClaimId = uint64_t;  ///< 0: none

enum class ClaimKind : uint8_t { device, hub, controller };

///   claim ──► provisional ──confirm──► active ◄──replug── lost
///     └──────────────────────────────────▲  └──unplug──────▲ │
///   provisional: deadline ──► releasing      active: release ──► releasing ──drivers are back──► (gone)
///   lost: grace is over ──► (gone)
enum class ClaimState : uint8_t { provisional, active, releasing, lost };

/// How far the kernel has been brought to what the claim says. Written before the kernel is touched, and after.
enum class Phase : uint8_t { none, pending, done, failed };

/// A claim as it is stored.
struct ClaimRecord {
    ClaimId id = 0;
    ClaimKind kind = ClaimKind::device;
    Socket target;
    std::string holder;  ///< "vm:NAME", "host", "proc:PID"
    ClaimState state = ClaimState::active;
    WallTime since{};
    std::optional<WallTime> deadline;           ///< of provisional and lost
    std::optional<WallTime> provisional_until;  ///< not confirmed yet; kept while lost
    bool covered = false;                       ///< below the holder's own hub: counts nothing
    bool observed = false;                      ///< seen, not asked for; never stored
    std::string origin;                         ///< "admin", "libvirt", "rule:3", "observed"
    std::string reason;
    std::array<std::optional<Identity>, 2> identities;  ///< by Half: what was claimed
    std::string description;                            ///< of what was claimed, for when it is gone
    bool follow_socket = false;                         ///< whatever comes back there is it (a rule by socket)
    bool keep_drivers = false;
    bool keep_off = false;      ///< on release host drivers stay off
    std::string former_driver;  ///< of a controller: what it goes back to
    std::string boot_id;        ///< of the boot in which it was made
    Phase phase = Phase::none;
    std::string message;               ///< what the phase has to say
    std::vector<std::string> counted;  ///< what it adds one to; empty when covered or lost
    bool operator==(const ClaimRecord&) const = default;
};

struct Blocker {
    std::string target;
    std::string description;
    std::string holder;  ///< empty: nobody holds it
    std::optional<WallTime> since;
    std::string reason;
    bool operator==(const Blocker&) const = default;
};

enum class Verdict : uint8_t { granted, denied, not_found, ambiguous, invalid };

struct Decision {
    Verdict verdict = Verdict::granted;
    std::string why;                      ///< one sentence; of a denial what is in the way and what to do
    std::vector<Blocker> blockers;        ///< of denied: all of them
    std::string what;                     ///< of not_found, ambiguous, invalid: as it was asked for
    std::vector<std::string> candidates;  ///< of ambiguous
    std::vector<ClaimId> claims;          ///< of granted: one per target, new or held before
    bool granted() const { return verdict == Verdict::granted; }
};

/// What was asked for, resolved.
struct Target {
    ClaimKind kind = ClaimKind::device;
    Socket socket;
    bool operator==(const Target&) const = default;
};

struct Request {
    std::vector<Target> targets;
    std::string holder;
    std::optional<WallTime> provisional_until;  ///< given: provisional
    bool keep_drivers = false;
    bool adopt = false;  ///< what is observed on the targets is the holder's own
    bool follow_socket = false;
    std::string origin = "admin";
    std::string reason;
};

}  // namespace storctl::usbarb

namespace storctl {
template <>
struct EnumNames<usbarb::ClaimKind> {
    using K = usbarb::ClaimKind;
    static constexpr std::array<EnumName<K>, 3> table{
        {{K::device, "device"}, {K::hub, "hub"}, {K::controller, "controller"}}};
};
static_assert(round_trips<usbarb::ClaimKind>());

template <>
struct EnumNames<usbarb::ClaimState> {
    using S = usbarb::ClaimState;
    static constexpr std::array<EnumName<S>, 4> table{
        {{S::provisional, "provisional"}, {S::active, "active"}, {S::releasing, "releasing"}, {S::lost, "lost"}}};
};
static_assert(round_trips<usbarb::ClaimState>());

template <>
struct EnumNames<usbarb::Phase> {
    using P = usbarb::Phase;
    static constexpr std::array<EnumName<P>, 4> table{
        {{P::none, "none"}, {P::pending, "pending"}, {P::done, "done"}, {P::failed, "failed"}}};
};
static_assert(round_trips<usbarb::Phase>());
}  // namespace storctl
