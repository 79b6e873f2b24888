#pragma once
// /proc/self/mountinfo (proc_pid_mountinfo(5)) and /proc/swaps as values. Pure; a line that cannot be read is left out,
// as the kernel may add forms that we do not know.

#include <string>
#include <string_view>
#include <vector>

#include "locality/block_facts.hpp"

namespace storctl::locality {

struct Mount {
    DeviceNumber
        number;        ///< st_dev of its files: major 0 for file systems that are not on one block device (btrfs, NFS)
    std::string root;  ///< the mounted part of the file system, "/" for all of it
    std::string mount_point;
    std::string type;
    std::string source;  ///< "/dev/sda1", "server:/export", "tmpfs"
};

std::vector<Mount> parse_mountinfo(std::string_view text);

/// The files and devices swapped to.
std::vector<std::string> parse_swaps(std::string_view text);

/// The octal escapes of both files ("\040"); an incomplete one stays as it is.
std::string unescape_octal(std::string_view text);

}  // namespace storctl::locality
