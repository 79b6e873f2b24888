#pragma once
// REPORT LUNS, REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS and LOG SENSE (SPC-5), GET
// LBA STATUS (SBC-4). Pure functions from configuration and CDB to the whole answer.

#include "daemon/node/scsi/identity.hpp"
#include "daemon/node/scsi/sense.hpp"

namespace storctl::node::scsi {

/// One logical unit, number 0.
Reply report_luns(ByteView cdb);
/// All reporting options, with CDB usage data, and timeouts on demand.
Reply report_supported_operation_codes(const Geometry& geometry, const Limits& limits, ByteView cdb);
/// LOGICAL UNIT RESET: what the sg interface can ask for.
Reply report_supported_task_management_functions(ByteView cdb);
/// Supported pages, supported pages and subpages, Informational Exceptions. No temperature: it is not known.
Reply log_sense(AdditionalSense exception, ByteView cdb);
/// One descriptor up to the end: "mapped or unknown", since the layers below do not tell.
Reply get_lba_status(const Geometry& geometry, ByteView cdb);

}  // namespace storctl::node::scsi
