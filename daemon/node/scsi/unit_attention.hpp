#pragma once
// Unit attention conditions waiting for one nexus (SAM-5 "Unit attention conditions"): a set; the most important one is
// reported first and is gone once reported (UA_INTLCK_CTRL 00b). Pure.

#include <array>
#include <cstdint>
#include <optional>

#include "daemon/node/scsi/sense.hpp"

namespace storctl::node::scsi {

/// In the order in which they are reported.
enum class Attention : uint8_t {
    power_on,
    bus_device_reset,
    inquiry_changed,
    capacity_changed,
    mode_parameters_changed,
    reservations_preempted,
    reservations_released,
    registrations_preempted,
};
inline constexpr size_t attention_count = 8;

class Attentions {
 public:
    /// A reset leaves nothing to be said of what was before it.
    void establish(Attention attention) {
        if (attention == Attention::power_on) waiting_ = 0;
        waiting_ = static_cast<uint8_t>(waiting_ | 1u << static_cast<unsigned>(attention));
    }
    bool any() const { return waiting_ != 0; }
    /// Reports the first one; it is gone then.
    std::optional<Sense> take();

 private:
    uint8_t waiting_ = 0;
    static_assert(attention_count <= 8);
};

}  // namespace storctl::node::scsi

namespace storctl {

template <>
struct EnumNames<node::scsi::Attention> {
    static constexpr auto table = std::to_array<EnumName<node::scsi::Attention>>({
        {node::scsi::Attention::power_on, "power on"},
        {node::scsi::Attention::bus_device_reset, "logical unit reset"},
        {node::scsi::Attention::inquiry_changed, "inquiry data changed"},
        {node::scsi::Attention::capacity_changed, "capacity changed"},
        {node::scsi::Attention::mode_parameters_changed, "mode parameters changed"},
        {node::scsi::Attention::reservations_preempted, "reservations preempted"},
        {node::scsi::Attention::reservations_released, "reservations released"},
        {node::scsi::Attention::registrations_preempted, "registrations preempted"},
    });
};
static_assert(round_trips<node::scsi::Attention>() &&
              EnumNames<node::scsi::Attention>::table.size() == node::scsi::attention_count);

}  // namespace storctl
