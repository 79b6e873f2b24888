#pragma once
// How an opener of a SCSI disk is named as an initiator, so that reservations tell virtual machines and the host apart,
// and the same one is known again after a restart.
//
//   HOST:vm:NAME    a QEMU; without -name by its -uuid
//   HOST:proc:PID   a QEMU without both; a process whose command line cannot be read
//   HOST:unseen     a process in a pid namespace that cannot be seen from here: nobody knows what it is
//   HOST:host       every other: on real hardware the adapter is the nexus, whichever program is behind it

#include <string>

namespace storctl::node {

/// As scsi::check(NexusName) takes it: at most 240 printable characters. Others, blanks and '%' are %XX; what is longer
/// is cut and ends with a number made from the whole, so that two do not become one. Reads /proc (qemu_guest.hpp says
/// what that may wait for).
std::string initiator_of(int pid, const std::string& host, const std::string& proc = "/proc");

}  // namespace storctl::node
