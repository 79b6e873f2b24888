#pragma once
// One I_T nexus of the logical unit: its name, what waits for it, and where it stands in the reservation, kept at hand
// so that a command costs no search. Made by LogicalUnit::attach; belongs to whoever opened.

#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/node/scsi/unit_attention.hpp"

namespace storctl::node::scsi {

struct NexusOptions {
    bool writable = true;  ///< else what it wants to change, reservations too, is answered WRITE PROTECTED
    bool power_on = true;  ///< its first command is told of a power on, as after a login
};

class Nexus {
 public:
    const NexusName& name() const { return name_; }
    Standing standing() const { return standing_; }

 private:
    friend class LogicalUnit;
    Nexus(NexusName name, bool writable) : name_(std::move(name)), writable_(writable) {}

    const NexusName name_;
    const bool writable_;
    Standing standing_ = Standing::unregistered;
    Attentions attentions_;
};

}  // namespace storctl::node::scsi
