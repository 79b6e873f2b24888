#pragma once
// One I_T nexus of the logical unit: its name, what waits for it, and where it stands in the reservation, kept at hand
// so that a command costs no search. Made by LogicalUnit::attach; belongs to whoever opened.

#include "daemon/node/scsi/reservation_state.hpp"
#include "daemon/node/scsi/unit_attention.hpp"

namespace storctl::node::scsi {

struct NexusOptions {
    bool power_on = true;  ///< its first command is told of a power on, as after a login
};

class Nexus {
 public:
    const NexusName& name() const { return name_; }
    Standing standing() const { return standing_; }

 private:
    friend class LogicalUnit;
    explicit Nexus(NexusName name) : name_(std::move(name)) {}

    const NexusName name_;
    Standing standing_ = Standing::unregistered;
    Attentions attentions_;
};

}  // namespace storctl::node::scsi
