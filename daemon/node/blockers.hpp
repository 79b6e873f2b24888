#pragma once
// Who holds a backing that could not be opened: sentences for the refusal. Reads /proc and /sys; never fails, at worst
// it does not know (an empty list).

#include <string>
#include <vector>

#include <sys/types.h>

namespace storctl::node {

/// "mounted on /srv", "dm-0 (LVM vg-root)", "swap": who has this block device, one of its partitions, or what lies on
/// them; then the processes that have it open: "open by 'fio' (pid 12)".
std::vector<std::string> device_holders(dev_t device);

/// The processes that have this file open.
std::vector<std::string> file_holders(dev_t device, ino_t inode);

}  // namespace storctl::node
