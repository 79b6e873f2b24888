#pragma once
// What a backing is, as a SCSI disk has to tell it: from sysfs for a device, from what an image file can do for a file.

#include "daemon/node/backing.hpp"
#include "daemon/node/scsi/identity.hpp"

namespace storctl::node {

struct DiskFacts {
    scsi::Geometry geometry;
    scsi::Limits limits;
};

/// What the SCSI server's memory allows.
scsi::Limits sg_limits(uint32_t block_bytes);
/// `sysfs`: "/sys".
DiskFacts disk_facts(const Backing& backing, bool read_only, const std::string& sysfs = "/sys");

/// What is missing of an identity is made up from the node's name; an identifier is not.
scsi::Identity complete(scsi::Identity identity, const std::string& node_name);

}  // namespace storctl::node
