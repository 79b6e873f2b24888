#include "daemon/node/usbfs/denial_log.hpp"

#include <utility>

#include <fmt/format.h>

namespace storctl::node::usbfs {

std::string DenialLog::note(const std::string& what) {
    const std::scoped_lock lock(mutex_);
    if (told_.contains(what)) return {};
    if (told_.size() < most_told) {
        told_.insert(what);
        return what;
    }
    if (std::exchange(full_, true)) return {};
    return fmt::format("more than {} different requests; further ones are not logged", most_told);
}

}  // namespace storctl::node::usbfs
