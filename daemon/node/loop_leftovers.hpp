#pragma once
// Loop devices that a dead node left on its FUSE file. Blocking; any thread.

#include <string>

namespace storctl::node {

/// Detaches every loop device over `file` (one in use: at its last close). Before the dead mount is taken off:
/// afterwards the kernel no longer knows the devices by this name.
void detach_loop_leftovers(const std::string& file);

}  // namespace storctl::node
