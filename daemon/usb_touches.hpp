#pragma once
// Which USB devices and functions events have touched since the last batch, in the order in which they came, folded per
// device: however often one comes and goes, it takes two entries at the most. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "usbarb/socket.hpp"

namespace storctl {

struct UsbTouch {
    enum class What : uint8_t { device, function, root_hub } what = What::device;
    std::string syspath;
    bool removed = false;
    bool first = false;  ///< of a device that is there: it came, or got its driver
    std::optional<std::pair<usbarb::Socket, usbarb::Half>> place;  ///< of a removed device
};

class UsbTouches {
 public:
    using What = UsbTouch::What;

    void present(What what, const std::string& syspath, bool first);
    /// Of a device without a place, nothing is told: nobody knew it.
    void removed(What what, const std::string& syspath, std::optional<std::pair<usbarb::Socket, usbarb::Half>> place);
    bool empty() const { return latest_.empty(); }
    std::vector<UsbTouch> take();

 private:
    static constexpr size_t none = SIZE_MAX;
    struct Latest {
        size_t removed = none, present = none;  ///< places in touches_
    };
    std::vector<std::optional<UsbTouch>> touches_;
    std::unordered_map<std::string, Latest> latest_;  ///< by sysfs path
};

}  // namespace storctl
