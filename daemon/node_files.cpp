#include "daemon/node_files.hpp"

#include <cstring>

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace storctl {
namespace {

constexpr int most_stale_mounts = 16;

void detach_loop_devices(const std::string& file) {
    for (const auto& device : list_directory("/sys/block")) {
        if (!device.starts_with("loop")) continue;
        if (read_attribute("/sys/block/" + device + "/loop/backing_file") != file) continue;
        const auto fd = open_file("/dev/" + device, O_RDONLY);
        const bool done = fd && ::ioctl(fd->get(), LOOP_CLR_FD) == 0;
        if (!done) log::warning("cannot detach /dev/{} from '{}', it stays: {}", device, file, std::strerror(errno));
    }
}

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
    detach_loop_devices(mount);
    if (!read_link(paths.loop_link(name)).empty()) remove_file(paths.loop_link(name));
    remove_mount_point(mount);
    for (const auto& path : {paths.socket(name), paths.spec(name), paths.error(name), paths.log(name)}) {
        remove_file(path);
    }
}

}  // namespace storctl
