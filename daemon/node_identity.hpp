#pragma once
// What a node's SCSI disk is called: the identity of the device behind it, and names that nobody else has where that
// has none. Pure.

#include <string>
#include <vector>

#include "daemon/device_service.hpp"
#include "daemon/node/scsi/identity.hpp"
#include "daemon/state_db.hpp"

namespace storctl {

/// `device`: null for a file, or what is not in the inventory. Without an NAA or EUI-64 identifier of the device, the
/// disk gets a locally assigned one (NAA 3) that is always the same for this device or path on this host.
node::scsi::Identity identity_of(const NodeRecord& record, const DeviceSummary* device, const std::string& machine_id);

/// A host's name as the first half of an initiator's: what cannot stand there as %XX.
std::string initiator_host(const std::string& host);

/// The lowest that none of `existing` has.
unsigned free_sg_minor(const std::vector<NodeRecord>& existing);

}  // namespace storctl
