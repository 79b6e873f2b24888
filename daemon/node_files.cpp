#include "daemon/node_files.hpp"

#include <cstring>

#include <sys/mount.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "daemon/node/loop_leftovers.hpp"

namespace storctl {
namespace {

constexpr int most_stale_mounts = 16;

void remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        log::warning("cannot remove '{}', it stays: {}", path, std::strerror(errno));
    }
}

/// The node's file, and the mounts of dead processes on it. A node that ended in order leaves no mount: then nothing is
/// unmounted. What other mount namespaces have on the file goes with it (unlink(2) of a mount point elsewhere).
void remove_mount_point(const std::string& path) {
    for (int layer = 0; layer < most_stale_mounts; ++layer) {
        if (::unlink(path.c_str()) == 0 || errno != EBUSY) break;
        if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
            return log::warning("cannot unmount '{}', it stays: {}", path, std::strerror(errno));
        }
    }
    remove_file(path);
}

}  // namespace

void remove_node_files(const NodePaths& paths, const std::string& name) {
    const std::string mount = paths.mount(name);
    node::detach_loop_leftovers(mount);
    if (!read_link(paths.loop_link(name)).empty()) remove_file(paths.loop_link(name));
    remove_mount_point(mount);
    for (const auto& path : {paths.socket(name), paths.spec(name), paths.error(name), paths.log(name)}) {
        remove_file(path);
    }
}

}  // namespace storctl
