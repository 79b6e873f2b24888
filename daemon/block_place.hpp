#pragma once
// Where a block device lies in sysfs. Blocking, cheap; any thread.

#include <set>
#include <string>

namespace storctl {

/// The sysfs paths of this block device ("sda", "dm-3", "sda1") and of all that it is made of, down to the disks.
std::set<std::string> block_syspaths(const std::string& sys, const std::string& block);

}  // namespace storctl
