#pragma once
// How a command ended: SAM-5 status codes, and sense data in both formats of SPC-5 ("Sense data"). Sense keys and
// additional sense codes have the names of SPC-5's annex of code values. Pure.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>

#include "base/enum_text.hpp"
#include "daemon/node/scsi/bytes.hpp"

namespace storctl::node::scsi {

enum class Status : uint8_t {
    good = 0x00,
    check_condition = 0x02,
    condition_met = 0x04,
    busy = 0x08,
    reservation_conflict = 0x18,
    task_aborted = 0x40,
};

enum class SenseKey : uint8_t {
    no_sense = 0x0,
    recovered_error = 0x1,
    not_ready = 0x2,
    medium_error = 0x3,
    hardware_error = 0x4,
    illegal_request = 0x5,
    unit_attention = 0x6,
    data_protect = 0x7,
    aborted_command = 0xb,
    miscompare = 0xe,
};

/// Additional sense code in the high byte, its qualifier in the low one.
enum class AdditionalSense : uint16_t {
    no_additional_sense_information = 0x0000,
    logical_unit_not_ready_cause_not_reportable = 0x0400,
    logical_unit_not_ready_initializing_command_required = 0x0402,
    write_error = 0x0c00,
    unrecovered_read_error = 0x1100,
    parameter_list_length_error = 0x1a00,
    miscompare_during_verify_operation = 0x1d00,
    invalid_command_operation_code = 0x2000,
    logical_block_address_out_of_range = 0x2100,
    invalid_field_in_cdb = 0x2400,
    invalid_field_in_parameter_list = 0x2600,
    invalid_release_of_persistent_reservation = 0x2604,
    write_protected = 0x2700,
    logical_unit_software_write_protected = 0x2702,
    space_allocation_failed_write_protect = 0x2707,
    power_on_reset_or_bus_device_reset_occurred = 0x2900,
    bus_device_reset_function_occurred = 0x2903,
    mode_parameters_changed = 0x2a01,
    reservations_preempted = 0x2a03,
    reservations_released = 0x2a04,
    registrations_preempted = 0x2a05,
    capacity_data_has_changed = 0x2a09,
    saving_parameters_not_supported = 0x3900,
    inquiry_data_has_changed = 0x3f03,
    internal_target_failure = 0x4400,
    insufficient_registration_resources = 0x5504,
};

/// The sense key specific field of ILLEGAL REQUEST: which byte was wrong, and the most significant wrong bit in it.
struct FieldPointer {
    bool in_cdb = true;  ///< else in the parameter list
    uint16_t byte = 0;
    std::optional<uint8_t> bit;
    bool operator==(const FieldPointer&) const = default;
};

struct Sense {
    SenseKey key = SenseKey::no_sense;
    AdditionalSense code = AdditionalSense::no_additional_sense_information;
    std::optional<uint64_t> information;  ///< an LBA, or what the command's description says
    std::optional<FieldPointer> field;
    bool operator==(const Sense&) const = default;
};

Sense invalid_field_in_cdb(size_t byte, std::optional<uint8_t> bit = std::nullopt);
Sense invalid_field_in_parameter_list(size_t byte, std::optional<uint8_t> bit = std::nullopt);
Sense illegal_request(AdditionalSense code);
Sense lba_out_of_range(uint64_t lba);

enum class SenseFormat : uint8_t { fixed, descriptor };

/// Current sense data: 18 bytes, or 8 and the descriptors that are needed. An information field of more than 32 bits
/// is left out of the fixed format, which has no room for it (SPC-5: VALID bit zero).
Bytes encode_sense(const Sense& sense, SenseFormat format);

/// What a command that needs no medium answers: its data-in, untruncated, or why not.
using Reply = std::variant<Bytes, Sense>;

}  // namespace storctl::node::scsi

namespace storctl {

template <>
struct EnumNames<node::scsi::Status> {
    static constexpr auto table = std::to_array<EnumName<node::scsi::Status>>({
        {node::scsi::Status::good, "GOOD"},
        {node::scsi::Status::check_condition, "CHECK CONDITION"},
        {node::scsi::Status::condition_met, "CONDITION MET"},
        {node::scsi::Status::busy, "BUSY"},
        {node::scsi::Status::reservation_conflict, "RESERVATION CONFLICT"},
        {node::scsi::Status::task_aborted, "TASK ABORTED"},
    });
};
static_assert(round_trips<node::scsi::Status>());

template <>
struct EnumNames<node::scsi::SenseKey> {
    static constexpr auto table = std::to_array<EnumName<node::scsi::SenseKey>>({
        {node::scsi::SenseKey::no_sense, "NO SENSE"},
        {node::scsi::SenseKey::recovered_error, "RECOVERED ERROR"},
        {node::scsi::SenseKey::not_ready, "NOT READY"},
        {node::scsi::SenseKey::medium_error, "MEDIUM ERROR"},
        {node::scsi::SenseKey::hardware_error, "HARDWARE ERROR"},
        {node::scsi::SenseKey::illegal_request, "ILLEGAL REQUEST"},
        {node::scsi::SenseKey::unit_attention, "UNIT ATTENTION"},
        {node::scsi::SenseKey::data_protect, "DATA PROTECT"},
        {node::scsi::SenseKey::aborted_command, "ABORTED COMMAND"},
        {node::scsi::SenseKey::miscompare, "MISCOMPARE"},
    });
};
static_assert(round_trips<node::scsi::SenseKey>());

}  // namespace storctl
