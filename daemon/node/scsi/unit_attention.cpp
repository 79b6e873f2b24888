#include "daemon/node/scsi/unit_attention.hpp"

#include <bit>

namespace storctl::node::scsi {

namespace {

AdditionalSense code_of(Attention attention) {
    switch (attention) {
        case Attention::power_on:
            return AdditionalSense::power_on_reset_or_bus_device_reset_occurred;
        case Attention::bus_device_reset:
            return AdditionalSense::bus_device_reset_function_occurred;
        case Attention::inquiry_changed:
            return AdditionalSense::inquiry_data_has_changed;
        case Attention::capacity_changed:
            return AdditionalSense::capacity_data_has_changed;
        case Attention::mode_parameters_changed:
            return AdditionalSense::mode_parameters_changed;
        case Attention::reservations_preempted:
            return AdditionalSense::reservations_preempted;
        case Attention::reservations_released:
            return AdditionalSense::reservations_released;
        case Attention::registrations_preempted:
            return AdditionalSense::registrations_preempted;
    }
    __builtin_unreachable();
}

}  // namespace

std::optional<Sense> Attentions::take() {
    if (waiting_ == 0) return std::nullopt;
    const auto first = static_cast<unsigned>(std::countr_zero(waiting_));
    waiting_ = static_cast<uint8_t>(waiting_ & ~(1u << first));
    return Sense{.key = SenseKey::unit_attention, .code = code_of(static_cast<Attention>(first))};
}

}  // namespace storctl::node::scsi
