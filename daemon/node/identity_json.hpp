#pragma once
// A SCSI disk's identity as JSON, as specifications and the state database keep it. Pure.

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"
#include "daemon/node/scsi/identity.hpp"

namespace storctl::node {

nlohmann::json identity_json(const scsi::Identity& identity);
/// One that a disk can have, in printable ASCII; an error names the key that is wrong.
Result<scsi::Identity> parse_identity(const nlohmann::json& in);

}  // namespace storctl::node
