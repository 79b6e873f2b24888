#pragma once
// Places at which a test kills stord as a power cut would: STORCTL_CRASH_AT in root's environment names one. Any
// thread.

#include <array>

#include "base/enum_text.hpp"

namespace storctl {

enum class CrashPoint {
    claim_recorded,
    claim_actuated,
    release_recorded,
    release_actuated,
    rollback,
    node_claimed,
    node_stopped
};

/// Ends the process by SIGKILL when it was started to die here; otherwise nothing.
void crash_point(CrashPoint here);

template <>
struct EnumNames<CrashPoint> {
    static constexpr auto table = std::to_array<EnumName<CrashPoint>>({
        {CrashPoint::claim_recorded, "claim-recorded"},
        {CrashPoint::claim_actuated, "claim-actuated"},
        {CrashPoint::release_recorded, "release-recorded"},
        {CrashPoint::release_actuated, "release-actuated"},
        {CrashPoint::rollback, "rollback"},
        {CrashPoint::node_claimed, "node-claimed"},
        {CrashPoint::node_stopped, "node-stopped"},
    });
};
static_assert(round_trips<CrashPoint>());

}  // namespace storctl
