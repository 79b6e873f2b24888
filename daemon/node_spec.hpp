#pragma once
// What a node's record makes of its process's specification, and of what is shown of it. Pure.

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "daemon/node/spec.hpp"
#include "daemon/node_files.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

struct SpecMoment {
    bool first_start = false;  ///< fails where its backing cannot be had; any later one waits for it
    /// Where the backing is now; nothing: away, or only known by its last path.
    std::optional<std::string> located;
    uint64_t poll_limit_us = 100;
    std::string host;                           ///< this one's, as initiators are named after it
    node::scsi::ReservationState reservations;  ///< as stored
};

/// An error when the record says what this program does not know.
Result<node::Spec> spec_of(const NodeRecord& record, const NodePaths& paths, const SpecMoment& moment);

/// io.storctl.Node's type Usb; null for other kinds. `devnode`: nothing while the device is absent.
nlohmann::json usb_json(const NodeRecord& record, const std::optional<std::string>& devnode);

}  // namespace storctl
