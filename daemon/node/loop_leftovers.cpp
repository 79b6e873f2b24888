#include "daemon/node/loop_leftovers.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "base/file.hpp"
#include "base/log.hpp"

namespace storctl::node {

void detach_loop_leftovers(const std::string& file) {
    for (const std::string& name : list_directory("/sys/block")) {
        if (!name.starts_with("loop")) continue;
        if (read_attribute("/sys/block/" + name + "/loop/backing_file") != file) continue;
        const auto fd = open_file("/dev/" + name, O_RDONLY);
        if (fd && ::ioctl(fd->get(), LOOP_CLR_FD) == 0) {
            log::notice("detached /dev/{}, left on '{}' by a node that died", name, file);
        } else {
            log::warning("cannot detach /dev/{} from '{}', it stays: {}", name, file,
                         fd ? errno_error("").message() : fd.error().message());
        }
    }
}

}  // namespace storctl::node
