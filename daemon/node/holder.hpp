#pragma once
// Who opens a node, from the thread id that FUSE and CUSE requests carry. Reads /proc only; never blocks on the
// process.

#include "daemon/node/open_table.hpp"

namespace storctl::node {

/// `thread_id` 0 (another pid namespace) gives pid 0 and the program "unknown"; our own thread is the loop driver's
/// attach.
Opener identify_holder(int thread_id);

}  // namespace storctl::node
