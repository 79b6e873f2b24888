#include "daemon/node/scsi/medium_errors.hpp"

#include <cerrno>

namespace storctl::node::scsi {

std::variant<Sense, Status> failure_of(int64_t result, BlockOperation kind, uint64_t lba) {
    const bool reads = kind == BlockOperation::read;
    switch (-result) {
        case EIO:
        case EILSEQ:
        case ENODATA:
            if (kind == BlockOperation::flush)
                return Sense{.key = SenseKey::medium_error, .code = AdditionalSense::write_error};
            return Sense{.key = SenseKey::medium_error,
                         .code = reads ? AdditionalSense::unrecovered_read_error : AdditionalSense::write_error,
                         .information = lba};
        case ENOSPC:
        case EDQUOT:
            return Sense{.key = SenseKey::data_protect,
                         .code = AdditionalSense::space_allocation_failed_write_protect,
                         .information = lba};
        case EROFS:
        case EPERM:
        case EACCES:
            return Sense{.key = SenseKey::data_protect, .code = AdditionalSense::write_protected};
        case ENODEV:
        case ENXIO:
        case ENOMEDIUM:
        case ESHUTDOWN:
            return Sense{.key = SenseKey::not_ready,
                         .code = AdditionalSense::logical_unit_not_ready_cause_not_reportable};
        case ETIMEDOUT:
        case ECANCELED:
        case EINTR:
            return Sense{.key = SenseKey::aborted_command, .code = AdditionalSense::no_additional_sense_information};
        case EBADE:
            return Status::reservation_conflict;  // the kernel's name for a reservation on the disk below
        case ENOMEM:
        case EAGAIN:
        case EBUSY:
            return Status::busy;
        default:
            return Sense{.key = SenseKey::hardware_error, .code = AdditionalSense::internal_target_failure};
    }
}

}  // namespace storctl::node::scsi
