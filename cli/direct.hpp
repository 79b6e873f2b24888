#pragma once
// "usb claim --direct": a command that has a claimed device's own node open, as a child. Main thread.

#include "cli/exit.hpp"

namespace storctl::cli {

class Invocation;

/// Ends as the command did: its exit status, 128+N after signal N, 126 and 127 where it could not be started.
Exit run_direct(const Invocation& invocation);

}  // namespace storctl::cli
