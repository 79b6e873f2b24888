#pragma once
// What an operation's failure below means to an initiator. Pure.

#include <cstdint>
#include <variant>

#include "daemon/node/scsi/sense.hpp"
#include "daemon/node/scsi/task.hpp"

namespace storctl::node::scsi {

/// `result`: a negative errno, or fewer bytes than were asked for. `lba`: where the operation began.
std::variant<Sense, Status> failure_of(int64_t result, BlockOperation kind, uint64_t lba);

}  // namespace storctl::node::scsi
